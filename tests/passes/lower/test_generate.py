"""Lowered, compiled, linked and run: small graphs against ONNX Runtime, on this machine and as AArch64."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from bhpe_compile.artifact import write_artifact
from bhpe_compile.compiler.workers import Workers
from bhpe_compile.passes.fold.half_residuals import HalfResiduals
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.lower import generate, lower_passes
from bhpe_compile.runtime import open_session
from bhpe_compile.targets import get_target
from tests.kept import KeptWorkers
from tests.passes.lower.graphs import Builder, bidrb, pack_words, small_network

NEEDS_QEMU = pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-aarch64 is not installed")
TARGETS = ["x86", pytest.param("arm", marks=NEEDS_QEMU)]


def compile_and_run(
    model: ir.Model, target: str, folder: Path, image: np.ndarray, kept_workers: KeptWorkers
) -> dict[str, np.ndarray]:
    for one in lower_passes():
        one(model)
    lowered = generate(model, get_target(target), kept_workers)
    write_artifact(folder / "artefact", lowered.program, get_target(target), b"", {}, None, {})
    with open_session(folder / "artefact") as session:
        return session.execute({"image": image}).outputs


def reference(model: ir.Model, image: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"image": image})


@pytest.mark.parametrize("target", TARGETS)
def test_every_kind_of_layer(tmp_path: Path, target: str, kept_workers: KeptWorkers) -> None:
    """All four BiDRB kinds, odd channel counts, dense layers, pooling, a linear layer with two outputs."""
    b = Builder(3)
    x = b.input("image", (1, 24, 8, 8))
    outputs = [
        bidrb(b, x, "plain", 24, 24, 1),
        bidrb(b, x, "scale", 24, 24, 2),
        bidrb(b, x, "sample", 24, 48, 2),
        bidrb(b, x, "up", 24, 96, 1),
        bidrb(b, x, "down", 24, 8, 1),
        b.dense_conv(x, "dense", 24, 40, 3, 2, 1),
        b.dense_conv(x, "head", 24, 3),
        b.add("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    ]
    deconv = b.constant(
        "deconv.weight", b.normal(24, 16, 4, 4, std=0.1).astype(np.float16).astype(np.float32)
    )
    facts = {"strides": [2, 2], "pads": [1] * 4, "kernel_shape": [4, 4]}
    outputs.append(b.add("ConvTranspose", [x, deconv], "deconv", **facts))
    flat = b.add("Reshape", [x, b.constant("flat.shape", np.array([1, 1536]))], "flat")
    gemm = b.constant("gemm.weight", b.normal(5, 1536, std=0.02).astype(np.float16).astype(np.float32))
    outputs.append(b.add("Gemm", [flat, gemm, b.constant("gemm.bias", b.normal(5))], "gemm", transB=1))
    words = b.constant("two.weight", pack_words(b.rng.random((2, 1536)) < 0.5))
    parameters = [
        b.constant("two.threshold", b.normal(1536, std=0.1)),
        words,
        b.constant("two.scale", np.ones(2, np.float32)),
        b.constant("two.bias", np.zeros(2, np.float32)),
    ]
    outputs.append(b.add("PackedBinaryLinear", [flat, *parameters], "two", "bhpe", channels=1536))
    model = b.build(*outputs)
    image = b.normal(1, 24, 8, 8)
    expected = reference(model, image)
    got = compile_and_run(model, target, tmp_path, image, kept_workers)
    sums_of_floats = ("dense.affine.y", "head.affine.y", "deconv.y", "gemm.y")
    for name, want in zip(outputs, expected, strict=True):
        if name in sums_of_floats:
            # float32 sums in another order and fused multiply-adds: a few ulps of values below 20
            np.testing.assert_allclose(got[name], want, atol=5e-5, rtol=1e-5)
        else:
            np.testing.assert_array_equal(got[name], want, err_msg=name)


@pytest.mark.parametrize("target", TARGETS)
def test_small_network(tmp_path: Path, target: str, kept_workers: KeptWorkers) -> None:
    """With 8-bit layers and float16 residuals every bit is what ONNX Runtime computes."""
    model = small_network(height=32, width=32)
    QuantizeDense(dict.fromkeys(("stem", "block.shortcut"), (-3.0, 3.0)))(model)
    HalfResiduals()(model)
    image = np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)
    expected = reference(model, image)
    got = compile_and_run(model, target, tmp_path, image, kept_workers)
    for value, want in zip(got.values(), expected, strict=True):
        np.testing.assert_array_equal(value, want)


def test_heavy_glue_is_noted_by_name(kept_workers: KeptWorkers) -> None:
    b = Builder()
    x = b.input("image", (1, 1, 600, 600))
    model = b.build(b.add("MatMul", [x, x], "product"))
    (note,) = generate(model, get_target("x86"), kept_workers).notes
    assert (note.pass_name, note.applied) == ("glue", False)
    assert "matmul" in note.site
    assert re.match(r"computed slowly: [\d,]+ iterations in TVM's default schedule", note.reason)


def test_errors_cross_the_process() -> None:
    with Workers(1) as workers:
        workers.start()
        workers.members[0].submit("generate_kernel", None, {"kind": "llvm"}, get_target("x86").isa)
        with pytest.raises(Exception, match="AttributeError"):
            workers.members[0].result()


@pytest.mark.parametrize("target", TARGETS)
def test_regions_points_and_packing_by_itself(tmp_path: Path, target: str, kept_workers: KeptWorkers) -> None:
    """Crops, points, heat maps, all kinds at 8 and 40 channels, bits of a concatenation, a binary deconvolution."""
    b = Builder(11)
    x = b.input("image", (1, 8, 8, 8))
    box = b.constant("box", np.array([[1.3, -0.5, 9, 3.2]], np.float32))
    places = b.constant("places", b.rng.uniform(-1, 9, (1, 5, 2)).astype(np.float32))
    rows = b.add("Reshape", [x, b.constant("rows", np.array([8, 64]))], "flat")
    linear = [
        b.constant("levels", b.rng.integers(-127, 128, (21, 64)).astype(np.int8)),
        *(b.constant(role, b.normal(21)) for role in ("scale", "shift")),
    ]
    both = b.add("Concat", [b.dense_conv(x, "left", 8, 16), b.dense_conv(x, "right", 8, 24)], "both", axis=1)
    outputs = [
        b.add("Crop", [x, box], "crop", "bhpe", height=3, width=2),
        b.add("SamplePoints", [x, places], "points", "bhpe"),
        b.add("SoftArgmax", [x], "place", "bhpe", depth=4, axes=3),
        b.add("HeatMap", [x], "heat", "bhpe", depth=4),
        b.add("FixedPointLinear", [rows, *linear], "linear", "bhpe"),
        bidrb(b, x, "narrow.plain", 8, 8, 1),
        bidrb(b, x, "narrow.up", 8, 40, 1),
        both,
        b.binary_conv(both, "wide", 40, 40),  # no kernel writes `both`: PackBits does
    ]
    for name, channels, source in (("up8", 8, x), ("up40", 40, both)):
        parameters = [
            b.constant(f"{name}.threshold", np.zeros(channels, np.float32)),
            b.constant(f"{name}.weight", pack_words(b.rng.random((16, channels, 4, 4)) < 0.5)),
            b.constant(f"{name}.scale", np.ones(16, np.float32)),
            b.constant(f"{name}.bias", np.zeros(16, np.float32)),
        ]
        geometry = {"strides": [2, 2], "pads": [1] * 4, "channels": channels}
        op = "PackedBinaryConvTranspose2d"
        outputs.append(b.add(op, [source, *parameters], name, "bhpe", **geometry))
    model = b.build(*outputs)
    image = b.normal(1, 8, 8, 8)
    expected = dict(zip(outputs, reference(model, image), strict=True))
    for layer in ("wide", "up40"):
        # no value lies so near its threshold that another order of the dense sums could flip its sign
        threshold = ir.convenience.get_const_tensor(model.graph.initializers[f"{layer}.threshold"])
        assert threshold is not None
        assert np.abs(expected[both] - threshold.numpy().reshape(-1, 1, 1)).min() > 1e-5
    got = compile_and_run(model, target, tmp_path, image, kept_workers)
    # float32 sums in another order and fused multiply-adds: a few ulps of values below 20
    np.testing.assert_allclose(got[both], expected[both], atol=5e-5, rtol=1e-5)
    exact = ("narrow.plain.act.y", "narrow.up.act.y", "wide.y", "up8.y", "up40.y")
    for name in (
        *exact,
        "crop.y",
        "points.y",
        "place.y",
        "heat.y",
        "linear.y",
    ):  # integers, and a written order
        np.testing.assert_array_equal(got[name], expected[name])


EIGHT_BIT = [*TARGETS, pytest.param("arm-a76", marks=NEEDS_QEMU)]


@pytest.mark.parametrize("target", EIGHT_BIT)
def test_eight_bit_layers_and_float16_residuals(
    tmp_path: Path, target: str, kept_workers: KeptWorkers
) -> None:
    """Every 8-bit instruction: a stem, strided and plain shortcuts, a 3x3 layer, a transposed one, odd channels."""
    b = Builder(12)
    x = b.input("image", (1, 24, 8, 8))
    weight = b.constant("up.weight", b.normal(24, 17, 4, 4, std=0.1).astype(np.float16).astype(np.float32))
    facts = {"strides": [2, 2], "pads": [1] * 4, "kernel_shape": [4, 4]}
    outputs = [
        b.dense_conv(x, "plain", 24, 40),
        b.dense_conv(x, "strided", 24, 8, 1, 2),
        b.dense_conv(x, "square", 24, 19, 3, 1, 1),
        b.add("ConvTranspose", [x, weight], "up", **facts),
    ]
    residual = b.dense_conv(x, "before", 24, 16)
    outputs.append(bidrb(b, residual, "block", 16, 16, 1))
    model = b.build(*outputs)
    QuantizeDense(dict.fromkeys(("plain", "strided", "square", "up", "before"), (-2.5, 3.0)))(model)
    assert HalfResiduals()(model).modified
    image = b.normal(1, 24, 8, 8)
    expected = dict(zip(outputs, reference(model, image), strict=True))
    got = compile_and_run(model, target, tmp_path, image, kept_workers)
    for name in outputs:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)

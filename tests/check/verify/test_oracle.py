"""The oracle reads folded models as ONNX Runtime computes them: layers, signs and integers, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from bhpe_compile.check.verify.integers import binary_layers
from bhpe_compile.check.verify.oracle import run_oracle
from tests.passes.lower.graphs import Builder, pack_words, small_network


def parameters(b: Builder, name: str, channels: int, words: np.ndarray) -> list[str]:
    """Scale 1 and bias 0: the layer's output is its accumulator."""
    out = len(words)
    return [
        b.constant(f"{name}.threshold", b.normal(channels, std=0.3)),
        b.constant(f"{name}.weight", words),
        b.constant(f"{name}.scale", np.ones(out, np.float32)),
        b.constant(f"{name}.bias", np.zeros(out, np.float32)),
    ]


def one_layer(kind: str, channels: int, stride: int) -> ir.Model:
    b = Builder(channels)
    if kind == "PackedBinaryLinear":
        x = b.input("image", (3, channels))
        words, facts = pack_words(b.rng.random((5, channels)) < 0.5), {}
    else:
        x = b.input("image", (2, channels, 6, 4))
        k = 4 if "Transpose" in kind else 3
        words = pack_words(b.rng.random((5, channels, k, k)) < 0.5)
        facts = {"strides": [stride] * 2, "pads": [1] * 4}
    return b.build(
        b.add(kind, [x, *parameters(b, "one", channels, words)], "one", "bhpe", channels=channels, **facts)
    )


@pytest.mark.parametrize("channels", [8, 24, 40])
@pytest.mark.parametrize(
    ("kind", "stride"),
    [
        ("PackedBinaryConv2d", 1),
        ("PackedBinaryConv2d", 2),
        ("PackedBinaryConvTranspose2d", 2),
        ("PackedBinaryLinear", 1),
    ],
)
def test_integers_equal_onnx_runtime(tmp_path: Path, kind: str, stride: int, channels: int) -> None:
    model = one_layer(kind, channels, stride)
    path = tmp_path / "model.onnx"
    onnx.save(ir.to_proto(model), path)
    shape = [int(d) for d in model.graph.inputs[0].shape or ()]
    image = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    run = run_oracle(path, {"image": image})
    assert list(run.outputs) == ["one.y"]
    layer = run.layers["one"]
    dot = layer.accumulate(np.where(run.signs["one"], 1, -1).astype(np.float32))
    want = np.moveaxis(run.outputs["one.y"], 1, -1)
    np.testing.assert_array_equal(dot.reshape(want.shape), want)


def test_signs_of_a_network_are_those_in_front_of_its_layers(tmp_path: Path) -> None:
    model = small_network()
    path = tmp_path / "model.onnx"
    onnx.save(ir.to_proto(model), path)
    image = np.random.default_rng(2).standard_normal((1, 3, 16, 12)).astype(np.float32)
    run = run_oracle(path, {"image": image})
    session = onnxruntime.InferenceSession(path)
    names = [o.name for o in session.get_outputs()]
    assert list(run.outputs) == names  # the values brought out besides are not outputs
    for name, value in zip(names, session.run(None, {"image": image}), strict=True):
        np.testing.assert_array_equal(run.outputs[name], value)
    assert list(run.layers) == ["block.conv1", "block.conv2", "down.conv1"]
    assert run.signs["block.conv1"].shape == (1, 4, 3, 16)
    assert run.signs["down.conv1"].shape == (1, 4, 3, 64)
    wide = np.moveaxis(run.outputs["block.sum.y"], 1, -1) >= run.layers["down.conv1"].threshold
    np.testing.assert_array_equal(run.signs["down.conv1"], wide)


def test_layers_are_read_from_the_file_alone() -> None:
    b = Builder()
    x = b.input("image", (1, 40, 4, 4))
    model = ir.to_proto(b.build(b.binary_conv(x, "one", 40, 8, 3, 2, 1)))
    words = next(onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "one.weight")
    layer = binary_layers(model)["one"]
    assert (layer.channels, layer.stride, layer.padding, layer.transposed) == (40, 2, 1, False)
    assert layer.weight.shape == (8, 40, 3, 3)
    for channel in (0, 31, 32, 39):
        bit = words[:, channel // 32] >> (channel % 32) & 1
        np.testing.assert_array_equal(layer.weight[:, channel] > 0, bit == 1)


def test_a_float_model_has_no_binary_layers() -> None:
    b = Builder()
    model = b.build(b.dense_conv(b.input("image", (1, 8, 4, 4)), "dense", 8, 8))
    assert binary_layers(ir.to_proto(model)) == {}

"""ONNX files, compiled and run on this machine, against ONNX Runtime on the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from bhpe_compile.compiler.imported import OnnxCompilation, examples_of
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.exchange.runtime import run_model
from bhpe_compile.passes.base import Note
from bhpe_compile.runtime import Model
from bhpe_compile.targets import host_runs
from tests.onnx_graphs import Net, landmarks, mobile, save

CLOSE = 1e-5
"""Of the largest value: float32 sums in another order."""


def compiled(
    model: onnx.ModelProto, folder: Path, scheme: str = "float", calibrate: Path | None = None
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]], list[Note]]:
    """What the artefact computes, what ONNX Runtime computes of the file, and the notes."""
    path = save(model, folder / "m.onnx")
    options = CompileOptions("native", scheme=scheme, calibrate=() if calibrate is None else (calibrate,))
    made = OnnxCompilation(options, path)
    made.check(folder / "out")
    made.write(folder / "out")
    with Model(folder / "out") as artefact:
        got = artefact.run(made.inputs)
    own = {made.network.names[name]: array for name, array in made.inputs.items()}
    want = run_model(model.SerializeToString(), own)
    return {made.network.names[name]: array for name, array in got.items()}, want, made.notes


def assert_same(model: onnx.ModelProto, folder: Path) -> list[Note]:
    got, want, notes = compiled(model, folder)
    assert got.keys() == want.keys()
    for name, expected in want.items():
        assert (got[name].shape, got[name].dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(got[name], expected, rtol=0, atol=CLOSE * max(1, np.abs(expected).max()))
    return notes


def test_a_landmark_network(tmp_path: Path) -> None:
    notes = assert_same(landmarks(), tmp_path)
    slow = [note.site for note in notes if note.reason.startswith("computed slowly")]
    assert slow == ["groups"]


# ---- defects that were met with other people's networks ---------------------------------------------------------


def no_kernel() -> onnx.ModelProto:
    net = Net()
    net.add("Softplus", "x", out="y")
    return net.model({"x": (2, 3)}, ["y"])


def channels_last_output() -> onnx.ModelProto:
    net = Net()
    net.add("Transpose", net.conv("x", 3, 8, pads=[1] * 4), out="y", perm=[0, 2, 3, 1])
    return net.model({"x": (1, 3, 5, 6)}, ["y"])


def output_that_is_read() -> onnx.ModelProto:
    net = Net()
    first = net.add("Relu", net.conv("x", 3, 8, pads=[1] * 4), out="middle")
    net.conv(first, 8, 8, pads=[1] * 4)
    net.nodes[-1].output[0] = "end"
    return net.model({"x": (1, 3, 5, 6)}, ["middle", "end"])


def convolution_along_one_axis() -> onnx.ModelProto:
    net = Net()
    weight = net.constant(net.normal(8, 3, 3), "w")
    x = net.add("Conv", "x", weight, net.constant(net.normal(8)), pads=[1, 0], strides=[2], name="one")
    net.add("MaxPool", x, kernel_shape=[2], out="y")
    return net.model({"x": (1, 3, 17)}, ["y"])


def names_with_slashes() -> onnx.ModelProto:
    net = Net()
    x = net.conv("gpu_0/data_0", 3, 8, name="gpu_0/conv")
    net.add("Relu", x, out="gpu_0/prob_0")
    return net.model({"gpu_0/data_0": (1, 3, 5, 6)}, ["gpu_0/prob_0"])


def weights_beyond_float16() -> onnx.ModelProto:
    net = Net()
    weight = net.constant(np.full((8, 3, 1, 1), 1e-9, np.float32), "tiny")
    x = net.add("Conv", "x", weight)
    net.add("Mul", x, net.constant(np.array(1e9, np.float32)), out="y")
    return net.model({"x": (1, 3, 5, 6)}, ["y"])


def input_that_is_an_output() -> onnx.ModelProto:
    net = Net()
    net.add("Identity", "x", out="same")
    net.add("Relu", "x", out="y")
    return net.model({"x": (1, 4)}, ["same", "y"])


def the_same_output_twice() -> onnx.ModelProto:
    net = Net()
    x = net.conv("x", 3, 4)
    net.add("Relu", x, out="a")
    net.add("Identity", "a", out="b")
    return net.model({"x": (1, 3, 5, 6)}, ["a", "b"])


@pytest.mark.parametrize(
    "make",
    [
        *(
            no_kernel,
            channels_last_output,
            output_that_is_read,
            convolution_along_one_axis,
            names_with_slashes,
        ),
        *(weights_beyond_float16, input_that_is_an_output, the_same_output_twice),
    ],
    ids=lambda make: make.__name__,
)
def test_defects(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    assert_same(make(), tmp_path)


# ---- operators ------------------------------------------------------------------------------------------------


def attention() -> onnx.ModelProto:
    """One block over tokens: products of tokens with weights and of activations, LayerNorm, softmax, GELU by erf."""
    net = Net(3)
    scale, shift = net.constant(net.normal(16)), net.constant(net.normal(16))
    x = net.add("LayerNormalization", "x", scale, shift, axis=-1)
    q, k, v = (net.add("MatMul", x, net.constant(net.normal(16, 16, std=0.25), f"w{i}")) for i in range(3))
    a = net.add("Softmax", net.add("MatMul", q, net.add("Transpose", k, perm=[0, 2, 1])), axis=-1)
    x = net.add("Add", "x", net.add("MatMul", a, v))
    half, one = (net.constant(np.array(value, np.float32)) for value in (0.5, 1))
    e = net.add("Add", net.add("Erf", net.add("Mul", x, net.constant(np.float32([0.7071])))), one)
    x = net.add("Mul", net.add("Mul", x, e), half)
    x = net.add("MatMul", x, net.constant(net.normal(16, 8), "out"))
    net.add("Add", x, net.constant(net.normal(8)), out="y")
    return net.model({"x": (1, 6, 16)}, ["y"])


def upsampling() -> onnx.ModelProto:
    net = Net(4)
    x = net.conv("x", 3, 8, (3), pads=[1] * 4)
    y = net.add("ConvTranspose", x, net.constant(net.normal(8, 6, 2, 2), "up.w"), strides=[2, 2], name="up")
    z = net.add("ConvTranspose", x, net.constant(net.normal(8, 6, 3, 3), "u3"), strides=[2, 2], pads=[1] * 4,
                output_padding=[1, 1], name="odd")  # fmt: skip
    n = net.add("Resize", x, "", net.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest",
                coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    net.add("Concat", y, z, n, axis=1, out="y")
    return net.model({"x": (1, 3, 6, 5)}, ["y"])


def pools() -> onnx.ModelProto:
    net = Net(5)
    x = net.conv("x", 3, 8, pads=[1] * 4)
    a = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    b = net.add("MaxPool", x, kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER")
    c = net.add("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1)
    net.add("ReduceMean", a, axes=[2, 3], out="a")
    net.add("ReduceMax", b, axes=[2, 3], out="b")
    net.add("GlobalAveragePool", c, out="c")
    return net.model({"x": (1, 3, 10, 9)}, ["a", "b", "c"])


def activations() -> onnx.ModelProto:
    net = Net(6)
    x = net.conv("x", 3, 8, pads=[1] * 4)
    names = []
    for kind in ("Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Softplus", "Mish", "LeakyRelu"):
        names.append(net.add(kind, net.conv(x, 8, 8, 1), out=f"y_{kind}"))
    return net.model({"x": (1, 3, 5, 6)}, names, opset=18)


def gemms() -> onnx.ModelProto:
    net = Net(7)
    x = net.add(
        "Gemm", "x", net.constant(net.normal(12, 6)), net.constant(net.normal(1, 6)), alpha=0.5, beta=2.0
    )
    x = net.add("Gemm", x, net.constant(net.normal(5, 6)), transB=1)
    y = net.add("Gemm", "x", net.constant(net.normal(12, 5)), net.constant(np.array([0.5], np.float32)))
    net.add("Add", x, y, out="y")
    return net.model({"x": (3, 12)}, ["y"])


@pytest.mark.parametrize(
    "make", [attention, upsampling, pools, activations, gemms], ids=lambda make: make.__name__
)
def test_operators(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    assert_same(make(), tmp_path)


def test_an_operator_without_a_kernel_names_its_node(tmp_path: Path) -> None:
    net = Net()
    net.add("Det", "x", out="y", name="volume")
    with pytest.raises(InputError, match=r"node Det \(volume\): there is no kernel for this operator$"):
        compiled(net.model({"x": (2, 2)}, ["y"]), tmp_path)


def test_what_onnx_runtime_does_not_run(tmp_path: Path) -> None:
    net = Net()
    net.add("Reshape", "x", net.constant(np.array([5], np.int64)), out="y")
    with pytest.raises(
        InputError, match=r"m\.onnx: (ONNX Runtime does not run it|its shapes contradict|damaged)"
    ):
        compiled(net.model({"x": (2, 2)}, ["y"]), tmp_path)


# ---- 8 bits ---------------------------------------------------------------------------------------------------


def examples(folder: Path, count: int = 3) -> Path:
    drawn = np.random.default_rng(1).random((count, 3, 32, 24), np.float32)
    np.savez(folder / "shown.npz", image=drawn)
    return folder / "shown.npz"


def test_8_bits(tmp_path: Path) -> None:
    from bhpe_compile.check.verify import verify

    got, want, notes = compiled(landmarks(), tmp_path, "int8", examples(tmp_path))
    gap = np.abs(got["points"] - want["points"]).max() / np.abs(want["points"]).max()
    assert 1e-6 < gap < 0.2  # levels, and no more than they cost a network with drawn weights
    found = verify(tmp_path / "out")
    assert (found.ok, found.int8_exact, found.int8_layers) == (True, True, 3), found.first_difference
    (refused,) = [note for note in notes if note.pass_name == "quantize-dense" and not note.applied]
    assert (refused.site, refused.reason[:9]) == ("groups", "of groups")


def test_levels_from_layer_to_layer(tmp_path: Path) -> None:
    """Activations between 8-bit layers are tables, and but for the input and what no kernel computes nothing is
    quantized by a kernel of its own; every level equals ONNX Runtime's."""
    from bhpe_compile.check.verify import verify

    got, want, notes = compiled(mobile(), tmp_path, "int8", examples(tmp_path))
    gap = np.abs(got["maps"] - want["maps"]).max() / np.abs(want["maps"]).max()
    assert 1e-6 < gap < 0.2
    found = verify(tmp_path / "out")
    assert (found.ok, found.int8_exact, found.int8_layers) == (True, True, 10), found.first_difference
    tables = [note.site for note in notes if note.pass_name == "level-tables" and note.applied]
    assert tables == ["stem", "in", "out", "squeeze", "narrow", "side"]
    with Model(tmp_path / "out") as artefact:
        steps = artefact.steps
    assert all(step.results for step in steps)
    quantized = [step.layer for step in steps if step.kind == "Quantize"]
    assert quantized == ["stem", "squeeze", "narrow", "last"]
    assert sum(step.kind == "glue" for step in steps) == 1  # the product with the factors


@pytest.mark.parametrize("target", [None, "x86", "arm"])
def test_pair_safe_weights(target: str | None, tmp_path: Path) -> None:
    """AVX2 multiplies them as bytes, in pairs; every target computes what the same model.onnx says."""
    from bhpe_compile.check.verify import verify

    path = save(mobile(), tmp_path / "m.onnx")
    options = CompileOptions(
        target or "x86", scheme="int8", calibrate=(examples(tmp_path),), pair_safe=target is not None
    )
    made = OnnxCompilation(options, path)
    made.write(tmp_path / "out")
    notes = [note.applied for note in made.notes if note.pass_name == "byte-pairs"]
    assert notes == {None: [], "x86": [True], "arm": [False]}[target]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    taken = {None: "pmaddwd", "x86": "pmaddubsw", "arm": "smull"}[target]
    assert (manifest["target"]["int8"], manifest["options"]["pair_safe"]) == (taken, target is not None)
    if target == "x86" and host_runs(made.target):
        found = verify(tmp_path / "out")
        assert (found.ok, found.int8_exact, found.int8_layers) == (True, True, 10), found.first_difference


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    """Who asks for pairs hears of a layer whose steps are not ours."""
    options = CompileOptions("x86", scheme="int8", calibrate=(examples(tmp_path),))
    made = OnnxCompilation(options, save(mobile(), tmp_path / "m.onnx"))
    made.until("lower")
    made.options = replace(options, pair_safe=True)
    assert made.fitted is made.target
    assert [(note.pass_name, note.applied) for note in made.notes[-1:]] == [("byte-pairs", False)]


def test_8_bits_without_ranges_say_three_ways_out(tmp_path: Path) -> None:
    path = save(landmarks(), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"--calibrate FILE\.npz .*--calibrate PICTURES .*--scheme float$"):
        OnnxCompilation(CompileOptions("x86", scheme="int8"), path).check(tmp_path / "out")


def test_other_binary_schemes_are_for_checkpoints(tmp_path: Path) -> None:
    path = save(landmarks(), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="an ONNX file compiles with --scheme int8, float or bidrn"):
        OnnxCompilation(CompileOptions("x86", scheme="reactnet"), path).check(tmp_path / "out")


PORTS = {"image": ((1, 3, 4, 4), "float32"), "box": ((1, 3), "float32")}


def test_examples_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    image, box = np.zeros((2, 3, 4, 4), np.float32), np.zeros((2, 3), np.float32)
    np.savez(path, **{"gpu/image": image, "box": box})
    names = {"image": "gpu/image", "box": "box"}
    found = list(examples_of(path, PORTS, names))
    assert [{name: array.shape for name, array in one.items()} for one in found] == [
        {"image": (1, 3, 4, 4), "box": (1, 3)}
    ] * 2


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"image": np.zeros((2, 3, 4, 4), np.float32)}, "has no array 'box'; it holds image"),
        ({"image": np.zeros((1, 3, 4, 4)), "box": np.zeros((1, 3), np.float32)}, "image must be float32"),
        (
            {"image": np.zeros((2, 3, 4, 4), np.float32), "box": np.zeros((1, 3), np.float32)},
            "different numbers of examples",
        ),
        (
            {"image": np.zeros((1, 3, 4, 5), np.float32), "box": np.zeros((1, 3), np.float32)},
            r"\[1, 3, 4, 5\]",
        ),
    ],
)
def test_examples_that_do_not_fit(arrays: dict[str, NDArray[np.float32]], says: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=says):
        list(examples_of(tmp_path / "a.npz", PORTS, {}))
    (tmp_path / "b.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="damaged"):
        list(examples_of(tmp_path / "b.npz", PORTS, {}))

"""Files that were quantized already: their scales and integers are kept, and what cannot be is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from bhpe_compile.check.verify import verify
from bhpe_compile.check.verify.layers import layers_of
from bhpe_compile.check.verify.oracle import run_values
from bhpe_compile.compiler.imported import OnnxCompilation, count_levels
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.errors import UsageError
from bhpe_compile.exchange.runtime import run_model
from bhpe_compile.passes.base import Note
from bhpe_compile.passes.imported.own_scales import OwnScales
from tests.onnx_graphs import Net, residual_network, save

Arrays = dict[str, NDArray[Any]]

BY_NNCF = Path(__file__).parent / "residual-nncf.onnx"

LAYERS = ("stem", "deep", "point", "last")


def pictures(count: int = 4) -> list[Arrays]:
    return [{"image": np.random.default_rng(i).random((1, 3, 32, 24), np.float32)} for i in range(count)]


def quantized(folder: Path, **facts: Any) -> Path:
    """`residual_network` as `onnxruntime.quantization` writes it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = pictures()

        def get_next(self) -> Arrays | None:
            return self.left.pop() if self.left else None

    logging.disable(logging.WARNING)  # its advice on preparing a model
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    source, target = save(residual_network(), folder / "float.onnx"), folder / "net.onnx"
    quantize_static(source, target, Reader(), quant_format=QuantFormat.QDQ, **{**kinds, **facts})
    logging.disable(logging.NOTSET)
    return target


def folded(path: Path, scheme: str = "int8") -> OnnxCompilation:
    return OnnxCompilation(CompileOptions("native", scheme=scheme), path).until("fold")


def reasons(notes: list[Note]) -> dict[str, str]:
    """What the pass refused, by node."""
    return {note.site: note.reason for note in notes if note.pass_name == "own-scales" and not note.applied}


def constants(model: ModelProto) -> Arrays:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def assert_same_levels(made: OnnxCompilation, path: Path) -> int:
    """model.onnx against ONNX Runtime on the file: the last levels differ by 1 at most; how many do."""
    differ = 0
    for feeds in pictures(6):
        want = run_model(path.read_bytes(), feeds)
        got = run_model(made.onnx_bytes, feeds)
        counted = count_levels(
            got["points"], want["points"], float(constants(onnx.load(path))["points_scale"])
        )
        assert counted["most"] <= 1
        differ += counted["differ"]
    return differ


def test_pairs_that_round_to_the_same_levels_round_once(tmp_path: Path) -> None:
    """Of the eight pairs four round: in front of the residual two, behind the average pool and the linear layer."""
    model = onnx.load_from_string(folded(quantized(tmp_path)).onnx_bytes)
    rounds = [node.input[0] for node in model.graph.node if node.op_type == "Round"]
    assert len(rounds) == 6
    assert not [name for name in rounds if name.startswith(("v5", "v6", "v9", "image"))]


def test_ranges_are_not_measured_again(tmp_path: Path) -> None:
    path = quantized(tmp_path)
    np.savez(tmp_path / "a.npz", **pictures(1)[0])
    options = CompileOptions("native", scheme="int8", calibrate=(tmp_path / "a.npz",))
    with pytest.raises(UsageError, match="has scales of its own, which are kept: leave --calibrate out"):
        OnnxCompilation(options, path).check(tmp_path / "out")
    options = CompileOptions("native", scheme="int8", pair_safe=True)
    with pytest.raises(UsageError, match="has scales of its own, which are kept: leave --pair-safe out"):
        OnnxCompilation(options, path).check(tmp_path / "out")


# ---- as NNCF writes it, and by hand -----------------------------------------------------------------------------


def pair(net: Net, x: str, step: Any, zero: Any, **facts: int) -> str:
    parameters = net.constant(np.asarray(step, np.float32)), net.constant(np.asarray(zero))
    return net.add(
        "DequantizeLinear", net.add("QuantizeLinear", x, *parameters, **facts), *parameters, **facts
    )


def with_float_weights() -> ModelProto:
    """Weights in float behind a Q and a DQ, a step for each output; biases and outputs in float; signed levels."""
    net = Net()
    x = pair(net, "image", 1 / 255, np.int8(-128))
    for name, inner, outer, group in (("first", 3, 8, 1), ("deep", 8, 8, 8), ("last", 8, 4, 1)):
        weight = net.normal(outer, inner // group, 3, 3, std=0.3)
        steps = np.abs(weight).max((1, 2, 3)) / 127
        held = pair(net, net.constant(weight, f"{name}.w"), steps, np.zeros(outer, np.int8), axis=0)
        x = net.add("Conv", x, held, net.constant(net.normal(outer)), name=name, group=group, pads=[1] * 4)
        if name != "last":
            x = pair(
                net, net.add("Relu", x, out=f"{name}.relu"), 0.02 if name == "first" else 0.015, np.int8(-128)
            )
    net.add("Identity", x, out="y")
    return net.model({"image": (1, 3, 12, 10)}, ["y"])


def test_weights_in_float_behind_a_pair(tmp_path: Path) -> None:
    path = save(with_float_weights(), tmp_path / "net.onnx")
    made = folded(path)
    model = onnx.load_from_string(made.onnx_bytes)
    layers = {layer.name: (np.float32(layer.step), layer.zero) for layer in layers_of(model).values()}
    assert layers == {
        "first": (np.float32(1 / 255), 0),
        "deep": (np.float32(0.02), 0),
        "last": (np.float32(0.015), 0),
    }
    weight = constants(onnx.load(path))["deep.w"]
    steps = (np.abs(weight).max((1, 2, 3), keepdims=True) / 127).astype(np.float32)
    np.testing.assert_array_equal(constants(model)["deep.weight_levels"], np.rint(weight / steps))
    assert reasons(made.notes) == {}
    for seed in range(3):
        feeds = {"image": np.random.default_rng(seed).random((1, 3, 12, 10), np.float32)}
        want = run_values(onnx.load(path), feeds, ["first.relu", "deep.relu"])
        reads = {name: layers_of(model)[name] for name in ("deep", "last")}
        got = run_values(model, feeds, [layer.x for layer in reads.values()])
        for layer, there in zip(reads.values(), ("first.relu", "deep.relu"), strict=True):
            apart = np.abs(layer.of_value(got[layer.x]) - layer.of_value(want[there]))
            assert apart.max() <= 1
            assert np.mean(apart > 0) < 2e-3


def single(weight: NDArray[Any], zero: Any, step: Any = 0.01, **facts: int) -> ModelProto:
    """A convolution of 4 channels to 4 whose weights are levels."""
    net = Net()
    x = pair(net, "x", 0.02, np.uint8(3))
    zeros = np.full(np.shape(step), zero)
    parameters = net.constant(np.asarray(step, np.float32)), net.constant(zeros)
    held = net.add("DequantizeLinear", net.constant(weight), *parameters, **facts)
    net.add("Conv", x, held, name="conv", pads=[1] * 4, out="y")
    return net.model({"x": (1, 4, 6, 5)}, ["y"])


DRAWN = np.random.default_rng(0).integers(-127, 128, (4, 4, 3, 3)).astype(np.int8)
LOWEST = np.where(np.arange(144).reshape(DRAWN.shape) == 7, -128, DRAWN).astype(np.int8)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (single((DRAWN.astype(np.int16) + 128).astype(np.uint8), np.uint8(128)), ""),
        (single(DRAWN, np.int8(0), [0.01, 0.02, 0.03, 0.04], axis=0), ""),
        (single(DRAWN, np.int8(5)), "its weights have zero point 5, kernels have 0 there"),
        (
            single(DRAWN.astype(np.uint8), np.uint8(3)),
            "its weights have zero point 3, kernels have 128 there",
        ),
        (single(LOWEST, np.int8(0)), "its weights reach level -128, kernels have -127 .. 127"),
        (
            single(DRAWN, np.int8(0), [0.01, 0.02, 0.03, 0.04], axis=1),
            "its weights have a step for each input",
        ),
    ],
)
def test_weights_that_kernels_have_or_have_not(model: ModelProto, says: str, tmp_path: Path) -> None:
    """What cannot be kept computes in float, rounded as in the file: the sums of a convolution differ by rounding."""
    path = save(model, tmp_path / "m.onnx")
    made = folded(path)
    found = reasons(made.notes).get("conv", "")
    assert found.endswith(says)
    assert bool(layers_of(onnx.load_from_string(made.onnx_bytes))) is (not says)
    feeds = {"x": np.random.default_rng(1).normal(size=(1, 4, 6, 5)).astype(np.float32)}
    want, got = run_model(path.read_bytes(), feeds)["y"], run_model(made.onnx_bytes, feeds)["y"]
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.abs(want).max())


def test_a_step_for_each_channel_that_a_layer_reads_is_told(tmp_path: Path) -> None:
    """NNCF gives depthwise layers such."""
    net = Net()
    x = pair(net, "x", [0.01, 0.02, 0.03, 0.04], np.zeros(4, np.uint8), axis=1)
    steps = net.constant(np.float32(0.01)), net.constant(np.int8(0))
    held = net.add("DequantizeLinear", net.constant(DRAWN[:, :1]), *steps)
    net.add("Conv", x, held, name="conv", group=4, pads=[1] * 4, out="y")
    path = save(net.model({"x": (1, 4, 6, 5)}, ["y"]), tmp_path / "m.onnx")
    made = folded(path)
    assert reasons(made.notes)["conv"].endswith("what it reads has a step for each channel")
    feeds = {"x": np.random.default_rng(1).normal(size=(1, 4, 6, 5)).astype(np.float32)}
    want, got = run_model(path.read_bytes(), feeds)["y"], run_model(made.onnx_bytes, feeds)["y"]
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.abs(want).max())


def test_levels_of_16_bits_are_rounded_in_float(tmp_path: Path) -> None:
    net = Net()
    x = pair(net, "x", 0.001, np.int16(7))
    net.add("Neg", x, out="y")
    path = save(net.model({"x": (1, 4, 6, 5)}, ["y"], opset=21), tmp_path / "m.onnx")
    made = folded(path)
    (said,) = reasons(made.notes).values()
    assert "levels of int16" in said
    feeds = {"x": np.random.default_rng(1).normal(size=(1, 4, 6, 5)).astype(np.float32) * 20}
    np.testing.assert_array_equal(
        run_model(made.onnx_bytes, feeds)["y"], run_model(path.read_bytes(), feeds)["y"]
    )


def test_a_graph_without_levels_stays() -> None:
    model = ir.from_proto(residual_network())
    result = OwnScales()(model)
    assert (result.modified, result.notes) == (False, ())


@pytest.mark.parametrize("each", [False, True])
def test_scales_and_integers_of_onnxruntime(each: bool, tmp_path: Path) -> None:
    path = quantized(tmp_path, per_channel=each)
    made = folded(path)
    file, ours = constants(onnx.load(path)), constants(onnx.load_from_string(made.onnx_bytes))
    layers = layers_of(onnx.load_from_string(made.onnx_bytes))
    assert tuple(layers) == LAYERS
    reads = dict(zip(LAYERS, ("image", "v1", "v3", "v5"), strict=True))
    for name, layer in layers.items():
        assert np.float32(layer.step) == file[f"{reads[name]}_scale"]
        assert layer.zero == file[f"{reads[name]}_zero_point"]
        np.testing.assert_array_equal(ours[f"{name}.weight_levels"], file[f"{name}.weight_quantized"])
        product = np.float64(layer.step) * file[f"{name}.weight_scale"].astype(np.float64)
        scale = np.broadcast_to(product.astype(np.float32), ours[f"{name}.scale"].shape)
        np.testing.assert_array_equal(ours[f"{name}.scale"], scale)
    np.testing.assert_array_equal(ours["head.weight_levels"], file["head.weight_quantized"].T)
    assert reasons(made.notes) == {}
    assert made.rounding.source == {"source": "file"}
    assert assert_same_levels(made, path) <= 1  # of 60


def test_signed_levels(tmp_path: Path) -> None:
    """int8 inputs are the same levels, counted from -128."""
    from onnxruntime.quantization import QuantType

    path = quantized(tmp_path, activation_type=QuantType.QInt8)
    made = folded(path)
    zeros = {layer.name: layer.zero for layer in layers_of(onnx.load_from_string(made.onnx_bytes)).values()}
    assert zeros["stem"] == int(constants(onnx.load(path))["image_zero_point"]) + 128
    assert assert_same_levels(made, path) <= 1


def test_float_rounds_as_the_file_does(tmp_path: Path) -> None:
    path = quantized(tmp_path)
    made = folded(path, "float")
    model = onnx.load_from_string(made.onnx_bytes)
    assert not layers_of(model)
    assert not {node.op_type for node in model.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    assert_same_levels(made, path)


def test_scales_and_integers_of_nncf() -> None:
    """`residual_network` as NNCF 3.4 quantized it (preset MIXED, four pictures of `pictures`): weights are integers, of
    activations some levels are unsigned, others signed with a zero point; biases and the output are in float."""
    made = folded(BY_NNCF)
    model = onnx.load_from_string(made.onnx_bytes)
    file, ours, layers = constants(onnx.load(BY_NNCF)), constants(model), layers_of(model)
    assert tuple(layers) == LAYERS
    reads = dict(zip(LAYERS, ("image", "v1", "v3", "v5"), strict=True))
    for name, layer in layers.items():
        zero = file[f"zero_point_{reads[name]}_1"]
        assert np.float32(layer.step) == file[f"scale_{reads[name]}_1"]
        assert layer.zero == int(zero) + (128 if zero.dtype == np.int8 else 0)
        np.testing.assert_array_equal(ours[f"{name}.weight_levels"], file[f"q_output_{name}.weight_1"])
        product = np.float64(layer.step) * file[f"scale_{name}.weight_1"].astype(np.float64)
        np.testing.assert_array_equal(ours[f"{name}.scale"].ravel(), product.astype(np.float32))
    head = ours["Gemm_0.weight_levels"]  # onnxsim joins a product and a sum
    np.testing.assert_array_equal(head, file["q_output_head.weight_1"].T)
    assert reasons(made.notes) == {}
    assert made.rounding.source == {"source": "file"}
    compared = differ = 0
    for feeds in pictures(6):  # the last levels that a convolution reads, and the output
        want = run_values(onnx.load(BY_NNCF), feeds, ["v6", "points"])
        got = run_values(model, feeds, [layers["last"].x, "points"])
        apart = np.abs(layers["last"].of_value(got[layers["last"].x]) - layers["last"].of_value(want["v6"]))
        assert apart.max() <= 1
        compared, differ = compared + apart.size, differ + int((apart > 0).sum())
        # of a level that the linear layer reads, times its largest weight
        step = file["scale_v8_1"] * file["scale_head.weight_1"] * 127
        assert np.all(np.abs(got["points"] - want["points"]) <= 1.01 * step.max())
    assert differ <= 2e-3 * compared


def test_the_compiled_library_computes_the_integers_of_model_onnx(tmp_path: Path) -> None:
    path = quantized(tmp_path)
    made = OnnxCompilation(CompileOptions("native", scheme="int8"), path)
    made.check(tmp_path / "out")
    made.write(tmp_path / "out")
    facts = made.facts()
    assert facts["calibration"] == {"source": "file"}
    assert facts["last_levels"]["points"]["most"] <= 1
    assert facts["last_levels"]["points"]["of"] == 10
    assert facts["last_levels"]["points"]["itself"]["most"] <= 1
    found = verify(tmp_path / "out")
    assert (found.ok, found.int8_exact, found.int8_layers) == (True, True, 4), found.first_difference

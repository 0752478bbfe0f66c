from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bhpe_compile.exchange.nodes import layer_of
from bhpe_compile.kernels import Epilogue, Int8Conv2d, Int8ConvTranspose2d
from bhpe_compile.kernels.int8_layout import pairs_fit
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense, weight_steps
from bhpe_compile.targets.int8_instructions import PMADDUBSW
from bhpe_compile.targets.isa import AVX2_BYTES
from tests.passes.fold.graphs import Array, Builder, array, node_named, op_types, run, text

RANGES = {"layer": (-2.0, 3.1)}


def layer(
    *,
    transposed: bool = False,
    channels: int = 5,
    out: int = 4,
    seed: int = 1,
    bias: bool = False,
    affine: bool = False,
) -> ir.Model:
    """A convolution with its own bias, or an affine behind it, or neither."""
    b = Builder(seed)
    y = b.dense(b.input("x", (1, channels, 5, 6)), "layer", out, transposed=transposed, bias=bias)
    if affine:
        shape = [int(d) for d in y.shape or ()]  # type: ignore[arg-type]
        scale, shift = (b.constant(f"affine.{r}", b.normal(out, 1, 1)) for r in ("scale", "bias"))
        y = b.add("ChannelAffine", [y, scale, shift], "affine", shape, "bhpe")
    return b.build(y)


KINDS = [
    pytest.param({"transposed": False}, id="conv"),
    pytest.param({"transposed": True, "bias": True}, id="deconv with bias"),
    pytest.param({"affine": True}, id="conv with affine"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_of_levels_with_every_constant_computed_once(kind: dict[str, bool]) -> None:
    model = layer(**kind)
    node, output = node_named(model, "layer"), model.graph.outputs[0].name
    weight = array(node.inputs[1])
    k, shift = np.ones(4), np.zeros(4)
    if kind.get("bias"):
        shift = array(node.inputs[2])
    if kind.get("affine"):
        k, shift = (array(one).reshape(-1) for one in node_named(model, "affine").inputs[1:])
    result = QuantizeDense(RANGES)(model)
    transposed = int(kind.get("transposed", False))
    assert op_types(model) == ["Int8ConvTranspose2d" if transposed else "Int8Conv2d"]
    reason = "8-bit: inputs -2 .. 3.1 in 255 steps"
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("layer", True, reason)]
    new = node_named(model, "layer")
    assert (new.domain, layer_of(new), model.graph.outputs[0].name) == ("bhpe", "layer", output)
    step, zero, levels, scale, bias = (array(value) for value in new.inputs[1:])
    assert (step.dtype, zero.dtype, levels.dtype) == (np.float32, np.uint8, np.int8)
    assert step == np.float32(5.1 / 255)
    assert zero == 100
    steps = weight_steps(weight, transposed)
    along = [-1 if axis == transposed else 1 for axis in range(4)]
    np.testing.assert_array_equal(levels, np.rint(weight / steps.reshape(along)))
    np.testing.assert_array_equal(scale, (np.float64(step) * steps.astype(np.float64) * k).astype(np.float32))
    np.testing.assert_array_equal(bias, shift.astype(np.float32))
    assert [list(new.attributes[word].as_ints()) for word in ("strides", "pads")] == (
        [[2, 2], [1] * 4] if transposed else [[1, 1], [1] * 4]
    )


@pytest.mark.parametrize(
    ("kind", "role", "reason"),
    [
        ({"bias": True}, "layer.bias", "its bias is computed at run time"),
        ({"affine": True}, "affine.scale", "the affine behind it is computed at run time"),
    ],
)
def test_constants_computed_at_run_time_keep_it_float(kind: dict[str, bool], role: str, reason: str) -> None:
    model = layer(**kind)
    model.graph.initializers[role].const_value = None
    result = QuantizeDense(RANGES)(model)
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("layer", False, reason)]
    assert not result.modified


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"dilations": [2, 2]}, "dilated windows have no 8-bit kernel"),
        ({"dilations": [1, 2]}, "dilated windows have no 8-bit kernel"),
        ({"group": 2}, "of groups only those of one channel each have an 8-bit kernel"),
    ],
)
def test_groups_and_dilations_stay_float(facts: dict[str, Any], reason: str) -> None:
    """An 8-bit layer says neither: it would compute something else."""
    b = Builder(7)
    weight = b.constant("layer.weight", b.normal(4, 4 // facts.get("group", 1), 3, 3))
    model = b.build(b.layer("Conv", [b.input("x", (1, 4, 7, 7)), weight], "layer", (1, 4, 3, 3), **facts))
    before = text(model)
    result = QuantizeDense(RANGES)(model)
    assert (result.modified, text(model)) == (False, before)
    assert [n.reason for n in result.notes] == [reason]


@pytest.mark.parametrize(
    ("size", "facts", "fits"),
    [
        (4, {"strides": [2, 2], "pads": [1] * 4}, True),
        (4, {"strides": [2, 2]}, False),
        (4, {"pads": [1] * 4}, False),
        (2, {"strides": [2, 2], "pads": [1] * 4}, False),
        (4, {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]}, False),
    ],
)
def test_one_form_of_transposed_convolutions_has_a_kernel(size: int, facts: Any, fits: bool) -> None:
    b = Builder(7)
    weight = b.constant("layer.weight", b.normal(4, 4, size, size))
    x = b.input("x", (1, 4, 7, 7))
    model = b.build(b.layer("ConvTranspose", [x, weight], "layer", (1, 4, 14, 14), **facts))
    assert QuantizeDense(RANGES)(model).modified == fits


def test_a_group_for_each_channel_is_depthwise() -> None:
    b = Builder(7)
    weight = b.constant("layer.weight", b.normal(4, 1, 3, 3))
    facts = {"group": 4, "pads": [0, 0, 1, 1], "strides": [2, 2]}
    model = b.build(b.layer("Conv", [b.input("x", (1, 4, 7, 7)), weight], "layer", (1, 4, 3, 3), **facts))
    assert QuantizeDense(RANGES)(model).modified
    (node,) = model.graph
    assert (node.op_type, node.attributes["group"].as_int()) == ("Int8DepthwiseConv2d", 4)
    x = b.normal(1, 4, 7, 7)
    step, zero, levels, scale = (node.inputs[i].const_value.numpy() for i in (1, 2, 3, 4))
    q = np.clip(np.rint(x / step) + zero, 0, 255) - zero
    padded = np.pad(q, ((0, 0), (0, 0), (0, 1), (0, 1)))
    expected = np.zeros((1, 4, 3, 3))
    for i in range(3):
        for j in range(3):
            expected += padded[:, :, i : i + 5 : 2, j : j + 5 : 2] * levels[None, :, 0, i, j][..., None, None]
    (got,) = run(model, x)
    np.testing.assert_array_equal(got, expected.astype(np.float32) * scale.reshape(1, -1, 1, 1))


def test_an_affine_that_others_read_past_stays() -> None:
    """Then the layer's own value is needed as it is."""
    b = Builder(1)
    y = b.dense(b.input("x", (1, 5, 5, 6)), "layer", 4)
    scale, shift = (b.constant(f"affine.{r}", b.normal(4, 1, 1)) for r in ("scale", "bias"))
    z = b.add("ChannelAffine", [y, scale, shift], "affine", (1, 4, 5, 6), "bhpe")
    model = b.build(z, b.add("Relu", [y], "other", (1, 4, 5, 6)))
    QuantizeDense(RANGES)(model)
    assert op_types(model) == ["Int8Conv2d", "ChannelAffine", "Relu"]


@pytest.mark.parametrize(
    ("ranges", "reason"),
    [
        ({}, "no range of its input was measured"),
        ({"layer": (0.0, 0.0)}, "its input was 0 in all calibration"),
    ],
)
def test_layers_without_a_range_stay_float(ranges: dict[str, tuple[float, float]], reason: str) -> None:
    model = layer()
    before = text(model)
    result = QuantizeDense(ranges)(model)
    assert not result.modified
    assert [reason in note.reason for note in result.notes] == [True]
    assert text(model) == before


def test_binary_layers_stay() -> None:
    b = Builder(2)
    x = b.input("x", (1, 8, 4, 4))
    model = b.build(b.binary("BinaryConv2d", x, "layer", 8))
    assert QuantizeDense(RANGES)(model).notes == ()


def test_linear_layers_stay() -> None:
    """They are those of `quantize_linear.py`; where that one refuses a layer, it computes in float."""
    b = Builder(3)
    weight = b.constant("layer.weight", b.normal(5, 7))
    model = b.build(b.layer("Gemm", [b.input("x", (1, 7)), weight], "layer", (1, 5), transB=1))
    result = QuantizeDense({})(model)
    assert (result.modified, result.notes) == (False, ())


def test_a_file_s_own_steps() -> None:
    """Levels are the weights in the steps that are said, and so is the scale."""
    model = layer()
    weight = array(node_named(model, "layer").inputs[1])
    steps = (weight_steps(weight, 0) * np.float32(1.5)).astype(np.float32)
    QuantizeDense(RANGES, {"layer": steps})(model)
    node = node_named(model, "layer")
    np.testing.assert_array_equal(array(node.inputs[3]), np.rint(weight / steps.reshape(-1, 1, 1, 1)))


def test_weights_computed_at_run_time_stay_float() -> None:
    model = layer()
    weight = node_named(model, "layer").inputs[1]
    assert weight is not None
    weight.const_value = None
    result = QuantizeDense(RANGES)(model)
    reason = "its weights are computed at run time"
    assert [(n.pass_name, n.site, n.applied, n.reason) for n in result.notes] == [
        ("quantize-dense", "layer", False, reason)
    ]


def test_a_shared_layer_uses_the_range_of_its_path() -> None:
    model = layer()
    node_named(model, "layer").name = "layer#2"
    assert QuantizeDense(RANGES)(model).modified


def by_hand(x: Array, node: ir.Node) -> Array:
    """The layer by its definition: whole numbers in int64, then one product and one sum in float32."""
    step, zero, levels, scale, bias = (array(value) for value in node.inputs[1:])
    values = torch.from_numpy(
        np.clip(np.rint(x / step) + np.float32(zero), 0, 255).astype(np.int64) - int(zero)
    )
    weight, pads = torch.from_numpy(levels.astype(np.int64)), node.attributes["pads"].as_ints()
    convolve = functional.conv_transpose2d if "Transpose" in node.op_type else functional.conv2d
    stride = list(node.attributes["strides"].as_ints())
    dot = convolve(values.double(), weight.double(), None, stride, list(pads[:2])).numpy()
    column = (1, -1, 1, 1)
    return np.asarray(dot.astype(np.float32) * scale.reshape(column) + bias.reshape(column))


@settings(max_examples=40)
@given(
    transposed=st.booleans(),
    channels=st.integers(1, 9),
    out=st.integers(1, 9),
    low=st.floats(-4, 0),
    high=st.floats(0.01, 4),
    behind=st.sampled_from(["nothing", "bias", "affine"]),
    seed=st.integers(0, 99),
)
def test_equivalence_and_second_run(
    transposed: bool, channels: int, out: int, low: float, high: float, behind: str, seed: int
) -> None:
    """ONNX Runtime computes the layer's definition, bit for bit, and the float layer up to the rounding of levels; a
    second run changes nothing."""
    model = layer(
        transposed=transposed,
        channels=channels,
        out=out,
        seed=seed,
        bias=behind == "bias",
        affine=behind == "affine",
    )
    x = np.clip(Builder(seed + 1).normal(1, channels, 5, 6), low, high)
    plain = run(model, x)[0]
    weight = array(node_named(model, "layer").inputs[1])
    factor = np.abs(array(node_named(model, "affine").inputs[1])).max() if behind == "affine" else 1
    assert QuantizeDense({"layer": (low, high)})(model).modified
    node = node_named(model, "layer")
    got = run(model, x)[0]
    np.testing.assert_array_equal(got, by_hand(x, node))
    # half a step of x against every weight that an output meets, half a step of each weight against the largest x
    step, steps = float(array(node.inputs[1])), weight_steps(weight, int(transposed))
    one = 0.51 * step * np.abs(weight).max() + 0.51 * steps.max() * (max(-low, high) + step)
    bound = factor * channels * (4 if transposed else 9) * one
    np.testing.assert_allclose(got, plain, rtol=0, atol=bound + 1e-5)
    after = text(model)
    assert not QuantizeDense({"layer": (low, high)})(model).modified
    assert text(model) == after


def test_a_channel_of_zeros_has_step_one() -> None:
    steps = weight_steps(np.array([[[[0.0]]], [[[2.54]]]], np.float32), 0)
    np.testing.assert_allclose(steps, [1, 0.02], rtol=1e-6)


@settings(max_examples=40)
@given(transposed=st.booleans(), channels=st.integers(1, 9), out=st.integers(1, 9), seed=st.integers(0, 99))
def test_pair_safe_weights(transposed: bool, channels: int, out: int, seed: int) -> None:
    """In the layout of the kernels no pair saturates, and no step is wider than that takes: another pair or level is at
    its limit, but for what rounding moves."""
    model = layer(transposed=transposed, channels=channels, out=out, seed=seed)
    weight = array(node_named(model, "layer").inputs[1])
    x = Builder(seed + 1).normal(1, channels, 5, 6)
    QuantizeDense(RANGES, pair_safe=True)(model)
    node = node_named(model, "layer")
    levels = array(node.inputs[3])
    np.testing.assert_array_equal(run(model, x)[0], by_hand(x, node))
    steps = weight_steps(weight, int(transposed), pair_safe=True)
    assert np.all(steps >= weight_steps(weight, int(transposed)))
    kernel: Any = (
        Int8ConvTranspose2d(1, 5, 6, channels, out, 1, Epilogue())
        if transposed
        else Int8Conv2d(1, 5, 6, channels, out, 3, 1, 1, 1, Epilogue())
    )
    packed = kernel.constants(AVX2_BYTES, {"weight": levels, "zero": np.array(0)})["weight"]
    assert pairs_fit(packed, PMADDUBSW)
    lanes = packed.reshape(-1, packed.shape[-2], 8, 2, 2).swapaxes(1, 2).astype(int)
    ends = np.maximum(np.abs(lanes.sum(-1)).max((2, 3)), np.abs(lanes).max((2, 3, 4)))  # [panels, lanes]
    found = ends.reshape(4 if transposed else 1, -1)[:, :out].max(0)
    assert found.min() >= 126


def test_weights_of_any_pairs_have_no_wider_steps() -> None:
    """Two halves side by side: |0.5| is level 127, and level 64 at most in pairs. Of another sign they stay."""
    weight = np.array([[0.5, 0.5, 0.1], [0.5, -0.5, 0.1]], np.float32).reshape(2, 3, 1, 1)
    levels = [np.rint(weight / weight_steps(weight, 0, safe)[:, None, None, None]) for safe in (False, True)]
    np.testing.assert_array_equal(levels[0].reshape(2, 3), [[127, 127, 25], [127, -127, 25]])
    np.testing.assert_array_equal(levels[1].reshape(2, 3), [[64, 64, 13], [127, -127, 25]])


def test_depthwise_weights_are_never_in_pairs() -> None:
    b = Builder(7)
    weight = b.normal(4, 1, 3, 3)
    inputs = [b.input("x", (1, 4, 7, 7)), b.constant("layer.weight", weight)]
    model = b.build(b.layer("Conv", inputs, "layer", (1, 4, 5, 5), group=4))
    QuantizeDense(RANGES, pair_safe=True)(model)
    steps = weight_steps(weight, 0).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(array(node_named(model, "layer").inputs[3]), np.rint(weight / steps))

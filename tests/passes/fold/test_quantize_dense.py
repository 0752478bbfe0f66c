from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.fold.quantize_dense import QuantizeDense, weight_steps
from tests.passes.fold.graphs import Array, Builder, array, node_named, op_types, run, text

RANGES = {"layer": (-2.0, 3.1)}


def layer(*, transposed: bool = False, channels: int = 5, out: int = 4, seed: int = 1) -> ir.Model:
    b = Builder(seed)
    x = b.input("x", (1, channels, 5, 6))
    return b.build(b.dense(x, "layer", out, transposed=transposed))


@pytest.mark.parametrize("transposed", [False, True])
def test_both_inputs_are_quantized(transposed: bool) -> None:
    model = layer(transposed=transposed)
    weight = array(node_named(model, "layer").inputs[1])
    result = QuantizeDense(RANGES)(model)
    assert op_types(model) == [
        *("QuantizeLinear", "DequantizeLinear") * 2,
        node_named(model, "layer").op_type,
    ]
    reason = "8-bit: inputs -2 .. 3.1 in 255 steps"
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("layer", True, reason)]
    x, w = node_named(model, "layer.x.q"), node_named(model, "layer.w.q")
    np.testing.assert_allclose(array(x.inputs[1]), 5.1 / 255, rtol=1e-6)
    assert array(x.inputs[2]) == np.uint8(100)
    np.testing.assert_array_equal(array(w.inputs[0]), weight)  # the float weights stay in the file
    assert w.attributes["axis"].as_int() == int(transposed)
    np.testing.assert_array_equal(array(w.inputs[1]), weight_steps(weight, int(transposed)))


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


def linear(transposed: int = 1) -> ir.Model:
    b = Builder(3)
    weight = b.constant("layer.weight", b.normal(5, 7) if transposed else b.normal(7, 5))
    return b.build(b.layer("Gemm", [b.input("x", (1, 7)), weight], "layer", (1, 5), transB=transposed))


def test_linear_layers_keep_float_inputs() -> None:
    model, x = linear(), Builder(4).normal(1, 7)
    weight = array(node_named(model, "layer").inputs[1])
    result = QuantizeDense({})(model)
    assert [note.reason for note in result.notes] == ["8-bit weights"]
    assert op_types(model) == ["QuantizeLinear", "DequantizeLinear", "Gemm"]
    steps = weight_steps(weight, 0)[:, None]
    rounded = (np.rint(weight / steps) * steps).astype(np.float32)
    # float32 sums of the same seven products
    np.testing.assert_allclose(run(model, x)[0], x @ rounded.T, rtol=1e-5, atol=1e-6)
    assert not QuantizeDense({})(model).modified


def test_linear_weights_stored_by_input_stay_float() -> None:
    result = QuantizeDense({})(linear(0))
    assert not result.modified
    assert [n.reason for n in result.notes] == ["its weights are not stored by output"]


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


def test_constants_of_formulas_stay_float() -> None:
    """A rotation's linear forms are exact; nobody trained them."""
    b = Builder(3)
    forms = b.constant("forms.weight", b.normal(5, 7))  # what it is called says nothing
    model = b.build(b.add("Gemm", [b.input("x", (1, 7)), forms], "layer", (1, 5), transB=1))
    result = QuantizeDense({})(model)
    assert not result.modified
    assert [note.reason for note in result.notes] == ["a constant of a formula, not trained weights"]


def test_a_shared_layer_uses_the_range_of_its_path() -> None:
    model = layer()
    node_named(model, "layer").name = "layer#2"
    assert QuantizeDense(RANGES)(model).modified


def quantized_by_hand(x: Array, low: float, high: float) -> Array:
    step = np.float32((high - low) / 255)
    zero = np.rint(-low / step)
    return (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step


@settings(max_examples=40, deadline=None)
@given(
    transposed=st.booleans(),
    channels=st.integers(1, 9),
    out=st.integers(1, 9),
    low=st.floats(-4, 0),
    high=st.floats(0.01, 4),
    seed=st.integers(0, 99),
)
def test_equivalence_and_second_run(
    transposed: bool, channels: int, out: int, low: float, high: float, seed: int
) -> None:
    """The same as the float layer on quantized values; a second run changes nothing."""
    model = layer(transposed=transposed, channels=channels, out=out, seed=seed)
    x = Builder(seed + 1).normal(1, channels, 5, 6)
    plain = layer(transposed=transposed, channels=channels, out=out, seed=seed)
    node = node_named(plain, "layer")
    weight = array(node.inputs[1])
    axis = int(transposed)
    shape = [-1 if i == axis else 1 for i in range(4)]
    steps = weight_steps(weight, axis).reshape(shape)
    rounded = (np.rint(weight / steps) * steps).astype(np.float32)
    rounding = np.spacing(np.abs(weight).max())  # of step times level, and of their difference
    assert np.abs(rounded - weight).max() <= steps.max() / 2 + rounding
    assert node.inputs[1] is not None
    node.inputs[1].const_value = ir.tensor(rounded, name=node.inputs[1].name)
    assert QuantizeDense({"layer": (low, high)})(model).modified
    expected = run(plain, quantized_by_hand(x, low, high).astype(np.float32))[0]
    # the same numbers in float32, summed in another order
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-5, atol=1e-5)
    after = text(model)
    assert not QuantizeDense({"layer": (low, high)})(model).modified
    assert text(model) == after


def test_a_channel_of_zeros_has_step_one() -> None:
    steps = weight_steps(np.array([[[[0.0]]], [[[2.54]]]], np.float32), 0)
    np.testing.assert_allclose(steps, [1, 0.02], rtol=1e-6)

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.nodes import layer_of
from bhpe_compile.passes.fold import quantize_linear
from bhpe_compile.passes.fold.quantize_dense import weight_steps
from bhpe_compile.passes.fold.quantize_linear import QuantizeLinear
from tests.passes.fold.graphs import Array, Builder, array, node_named, op_types, run, text


def gemm(
    features: int = 7, outputs: int = 5, bias: bool = True, seed: int = 3, **attributes: Any
) -> ir.Model:
    b = Builder(seed)
    inputs = [b.input("x", (2, features)), b.constant("layer.weight", b.normal(outputs, features))]
    if bias:
        inputs.append(b.constant("layer.bias", b.normal(outputs)))
    return b.build(b.layer("Gemm", inputs, "layer", (2, outputs), **{"transB": 1, **attributes}))


def test_pair_safe_weights() -> None:
    """Neighbouring inputs of one sign sum to 128 levels at most, and in every output something is at its limit."""
    model = gemm(outputs=40)
    weight = array(node_named(model, "layer").inputs[1])
    QuantizeLinear(pair_safe=True)(model)
    levels, scale, _ = (array(value).astype(np.float32) for value in node_named(model, "layer").inputs[1:])
    steps = weight_steps(weight, 0, pair_safe=True)
    np.testing.assert_array_equal(levels, np.rint(weight / steps[:, None]))
    np.testing.assert_array_equal(scale, steps / 4096)
    pairs = np.abs(np.pad(levels, ((0, 0), (0, 1))).reshape(40, 4, 2).sum(2)).max(1)
    assert pairs.max() <= 128
    assert np.maximum(pairs, np.abs(levels).max(1)).min() >= 126


def reasons(model: ir.Model) -> list[tuple[bool, str]]:
    return [(note.applied, note.reason) for note in QuantizeLinear()(model).notes]


def test_before_and_after() -> None:
    model = gemm()
    weight, bias = (array(value) for value in node_named(model, "layer").inputs[1:])
    assert reasons(model) == [(True, "8-bit weights, inputs in steps of 1/4096")]
    assert op_types(model) == ["FixedPointLinear"]
    node = node_named(model, "layer")
    levels, scale, shift = (array(value) for value in node.inputs[1:])
    steps = weight_steps(weight, 0)
    np.testing.assert_array_equal(levels, np.rint(weight / steps[:, None]))
    assert (levels.dtype, np.abs(levels).max()) == (np.int8, 127)
    np.testing.assert_array_equal(scale, steps / 4096)
    np.testing.assert_array_equal(shift, bias)
    assert layer_of(node) == "layer"


@settings(max_examples=10)
@given(features=st.integers(1, 40), outputs=st.integers(1, 9), bias=st.booleans(), seed=st.integers(0, 99))
def test_it_computes_the_same_with_rounded_weights(
    features: int, outputs: int, bias: bool, seed: int
) -> None:
    """Inputs are rounded to 1/4096."""
    model = gemm(features, outputs, bias, seed)
    weight, *more = (array(value) for value in node_named(model, "layer").inputs[1:])
    steps = weight_steps(weight, 0)[:, None]
    rounded = np.rint(weight / steps) * steps.astype(np.float64)
    x = Builder(seed + 1).normal(2, features)
    QuantizeLinear()(model)
    want = x @ rounded.T + (more[0] if more else 0)
    bound = np.abs(rounded).sum(1) / 8192 + 1e-5  # and float32
    assert np.all(np.abs(run(model, x)[0] - want) <= bound)


def test_a_second_run_changes_nothing() -> None:
    model = gemm()
    QuantizeLinear()(model)
    before = text(model)
    assert not QuantizeLinear()(model).modified
    assert text(model) == before


@pytest.mark.parametrize("attributes", [{"alpha": 2.0}, {"beta": 0.5}, {"transA": 1}])
def test_other_products_stay(attributes: dict[str, Any]) -> None:
    assert reasons(gemm(2, 2, **attributes)) == [(False, "its weights are not stored by output")]


def test_weights_stored_by_input_stay() -> None:
    assert reasons(gemm(5, 5, transB=0)) == [(False, "its weights are not stored by output")]


def test_constants_of_formulas_stay() -> None:
    b = Builder(3)
    forms = b.constant("forms.weight", b.normal(5, 7))
    model = b.build(b.add("Gemm", [b.input("x", (1, 7)), forms], "layer", (1, 5), transB=1))
    assert reasons(model) == [(False, "a constant of a formula, not trained weights")]


@pytest.mark.parametrize("index", [1, 2])
def test_what_is_computed_at_run_time_stays(index: int) -> None:
    model = gemm()
    value = node_named(model, "layer").inputs[index]
    assert value is not None
    value.const_value = None
    (note,) = reasons(model)
    assert note in [
        (False, "its weights are computed at run time"),
        (False, "its bias is no constant for each output"),
    ]


def test_sums_that_do_not_fit_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize_linear, "MOST_FEATURES", 6)
    assert reasons(gemm()) == [(False, "7 inputs, whose sum may not fit 32 bits")]


def test_other_operators_stay() -> None:
    b = Builder(1)
    model = b.build(b.dense(b.input("x", (1, 3, 4, 4)), "stem", 8))
    assert QuantizeLinear()(model).notes == ()


def test_a_layer_of_zeros_is_its_bias() -> None:
    model = gemm()
    weight = node_named(model, "layer").inputs[1]
    assert weight is not None
    weight.const_value = ir.tensor(np.zeros((5, 7), np.float32))
    bias: Array = array(node_named(model, "layer").inputs[2])
    QuantizeLinear()(model)
    np.testing.assert_array_equal(run(model, Builder(1).normal(2, 7))[0], np.stack([bias, bias]))


def test_layers_that_a_file_has_in_float_stay() -> None:
    """A file with scales of its own says which layers have 8 bits, and in which steps."""
    model = gemm()
    assert [note.reason for note in QuantizeLinear({})(model).notes] == ["the file has its weights in float"]
    steps = (weight_steps(array(node_named(model, "layer").inputs[1]), 0) * np.float32(1.5)).astype(
        np.float32
    )
    weight = array(node_named(model, "layer").inputs[1])
    assert QuantizeLinear({"layer": steps})(model).modified
    levels = array(node_named(model, "layer").inputs[1])
    np.testing.assert_array_equal(levels, np.rint(weight / steps[:, None]))

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.nodes import layer_of
from bhpe_compile.passes.fold.fold_linear import FoldLinear
from tests.passes.fold.graphs import Builder, array, node_named, op_types, run, text


def linear(
    b: Builder, x: ir.Value, name: str, outputs: int, *, bias: bool = True, **attributes: Any
) -> ir.Value:
    rows, features = (int(d) for d in x.shape or ())  # type: ignore[arg-type]
    inputs = [x, b.constant(f"{name}.weight", b.normal(outputs, features))]
    if bias:
        inputs.append(b.constant(f"{name}.bias", b.normal(outputs)))
    return b.layer("Gemm", inputs, name, (rows, outputs), **{"transB": 1, **attributes})


def pair(sizes: tuple[int, int, int] = (7, 9, 5), bias: bool = True, seed: int = 1) -> ir.Model:
    b = Builder(seed)
    hidden = linear(b, b.input("x", (2, sizes[0])), "first", sizes[1], bias=bias)
    return b.build(linear(b, hidden, "second", sizes[2], bias=bias))


def regressor() -> ir.Model:
    """As in HMR: two layers, then several that read the same; all of it twice, with the same weights."""
    b = Builder(2)
    x = b.input("x", (1, 6))
    parameters = {
        name: [b.constant(f"{name}.weight", b.normal(*shape)), b.constant(f"{name}.bias", b.normal(shape[0]))]
        for name, shape in (("fc1", (8, 6)), ("fc2", (8, 8)), ("pose", (4, 8)), ("shape", (2, 8)))
    }

    def call(name: str, value: ir.Value, call: int) -> ir.Value:
        rows = (1, len(array(parameters[name][0])))
        return b.layer("Gemm", [value, *parameters[name]], f"{name}#{call}" if call else name, rows, transB=1)

    for i in range(2):
        hidden = call("fc2", call("fc1", x, i), i)
        x = b.add("Concat", [call("pose", hidden, i), call("shape", hidden, i)], f"both{i}", (1, 6), axis=1)
    return b.build(x)


def notes(model: ir.Model) -> list[tuple[str, bool, str]]:
    return [(note.site, note.applied, note.reason) for note in FoldLinear()(model).notes]


def test_before_and_after() -> None:
    model = pair()
    (w, b), (v, c) = (
        [array(value).astype(np.float64) for value in node_named(model, name).inputs[1:]]
        for name in ("first", "second")
    )
    assert notes(model) == [
        ("first", True, "it becomes part of second: all are linear"),
        ("second", True, "first is part of it: both are linear"),
    ]
    assert op_types(model) == ["Gemm"]
    node = node_named(model, "second")
    assert layer_of(node) == "second"
    assert node.inputs[0] is model.graph.inputs[0]
    np.testing.assert_array_equal(array(node.inputs[1]), (v @ w).astype(np.float32))
    np.testing.assert_array_equal(array(node.inputs[2]), (v @ b + c).astype(np.float32))


def test_a_regressor_becomes_its_last_layers_and_calls_share_their_weights() -> None:
    model = regressor()
    x = Builder(3).normal(1, 6)
    before = run(model, x)[0]
    assert [site for site, applied, _ in notes(model) if applied] == [
        *("fc1", "fc2", "fc2", "pose", "shape"),
        *("fc1#1", "fc2#1", "fc2#1", "pose#1", "shape#1"),
    ]
    assert op_types(model) == ["Gemm", "Gemm", "Concat"] * 2
    for name in ("pose", "shape"):
        first, again = (node_named(model, one).inputs[1:] for one in (name, f"{name}#1"))
        assert all(one is other for one, other in zip(first, again, strict=True))
    # two rounds of float32 sums in another order, values of order 100
    np.testing.assert_allclose(run(model, x)[0], before, rtol=1e-5, atol=1e-3)


@settings(max_examples=20)
@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_computes_the_same(sizes: tuple[int, int, int], bias: bool, seed: int) -> None:
    model = pair(sizes, bias, seed)
    x = Builder(seed + 1).normal(2, sizes[0])
    before = run(model, x)[0]
    features, hidden, outputs = sizes
    assert FoldLinear()(model).modified == (features * outputs <= hidden * (features + outputs))
    # float32 sums of up to 81 products in another order
    np.testing.assert_allclose(run(model, x)[0], before, rtol=1e-5, atol=1e-4)


def test_a_second_run_changes_nothing() -> None:
    for model in (pair(), regressor(), pair((9, 1, 9))):
        FoldLinear()(model)
        before = text(model)
        assert not FoldLinear()(model).modified
        assert text(model) == before


def test_a_bottleneck_stays() -> None:
    reason = "it keeps second small: merged, 81 weights would take the place of 18"
    assert notes(pair((9, 1, 9))) == [("first", False, reason)]


def test_an_output_stays() -> None:
    model = pair()
    model.graph.outputs.append(node_named(model, "first").outputs[0])
    assert notes(model) == [("first", False, "not only linear layers read it")]


def test_what_others_read_too_stays() -> None:
    b = Builder(4)
    hidden = linear(b, b.input("x", (2, 5)), "first", 5)
    model = b.build(b.add("Add", [linear(b, hidden, "second", 5), hidden], "sum", (2, 5)))
    assert notes(model) == [("first", False, "not only linear layers read it")]


def test_layers_with_something_between_them_are_no_match() -> None:
    b = Builder(5)
    hidden = b.add("Relu", [linear(b, b.input("x", (2, 5)), "first", 5)], "relu", (2, 5))
    assert notes(b.build(linear(b, hidden, "second", 5))) == []


@pytest.mark.parametrize("attributes", [{"alpha": 2.0}, {"beta": 0.5}, {"transB": 0}, {"transA": 1}])
@pytest.mark.parametrize("name", ["first", "second"])
def test_other_products_are_no_match(attributes: dict[str, Any], name: str) -> None:
    b = Builder(6)
    more = {"first": {}, "second": {}, name: attributes}
    hidden = linear(b, b.input("x", (5, 5)), "first", 5, **more["first"])
    model = b.build(linear(b, hidden, "second", 5, **more["second"]))
    assert notes(model) == []


def test_a_formula_is_no_match() -> None:
    model = pair()
    node_named(model, "second").meta.clear()
    assert notes(model) == []


@pytest.mark.parametrize("place", [1, 2])
def test_weights_that_are_computed_are_no_match(place: int) -> None:
    model = pair()
    value = node_named(model, "second").inputs[place]
    assert value is not None
    value.const_value = None
    assert notes(model) == []

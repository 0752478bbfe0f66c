"""Products with stored weights become Gemm with the weights by output; products of two activations stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from bhpe_compile.exchange.nodes import integer, shape_of
from bhpe_compile.exchange.scales import Scales, scales_of, set_scales
from bhpe_compile.passes.imported.linear_layers import LinearLayers
from tests.onnx_graphs import Net
from tests.passes.fold.graphs import array, node_named, op_types
from tests.passes.imported.graphs import assert_equal, assert_left_alone, notes_of, read, whole


def gemm(
    rows: int = 2, inner: int = 5, outer: int = 4, bias: tuple[int, ...] | None = (4,), **facts: Any
) -> ir.Model:
    net = Net()
    shape = (outer, inner) if facts.get("transB") else (inner, outer)
    inputs = ["x", net.constant(whole(1, *shape), "w")]
    if bias is not None:
        inputs.append(net.constant(whole(2, *bias), "b"))
    net.add("Gemm", *inputs, name="head", out="y", **facts)
    x = (inner, rows) if facts.get("transA") else (rows, inner)
    return read(net, {"x": x}, ["y"])


def matmul(
    shape: tuple[int, ...] = (2, 5), outer: int = 4, bias: tuple[int, ...] | None = None, first: bool = False
) -> ir.Model:
    """With an addition behind it, its own result first or last."""
    net = Net()
    weight = net.constant(whole(1, shape[-1], outer), "w")
    y = net.add("MatMul", "x", weight, name="head", out="p" if bias is not None else "y")
    if bias is not None:
        added = net.constant(whole(2, *bias), "b")
        net.add("Add", *((y, added) if first else (added, y)), name="plus", out="y")
    return read(net, {"x": shape}, ["y"])


APPLIED = ("head", True, "its weights are stored by output")


@pytest.mark.parametrize("bias", [None, (4,), (1, 4), (1,), ()])
def test_a_gemm_before_and_after(bias: tuple[int, ...] | None) -> None:
    model = gemm(bias=bias, alpha=0.5, beta=2.0)
    weight, y = array(node_named(model, "head").inputs[1]), model.graph.outputs[0].name
    assert notes_of(LinearLayers(), model) == [APPLIED]
    assert op_types(model) == ["Gemm"]
    node = node_named(model, "head")
    assert {key: integer(node, key) for key in node.attributes} == {"transB": 1}
    np.testing.assert_array_equal(array(node.inputs[1]), weight.T / 2)
    assert model.graph.outputs[0].name == y
    assert len(node.inputs) == (2 if bias is None else 3)
    if bias is not None:
        np.testing.assert_array_equal(
            array(node.inputs[2]), np.broadcast_to(2 * whole(2, *bias).reshape(-1), (4,))
        )


@pytest.mark.parametrize("facts", [{"alpha": 2.0}, {"beta": 2.0}, {"bias": (1, 4)}, {"bias": ()}])
def test_each_of_these_alone_is_reason_enough(facts: dict[str, Any]) -> None:
    assert notes_of(LinearLayers(), gemm(transB=1, **facts)) == [APPLIED]


@pytest.mark.parametrize("bias", [None, (4,)])
def test_what_is_stored_so_already_is_no_match(bias: tuple[int, ...] | None) -> None:
    assert assert_left_alone(LinearLayers(), gemm(bias=bias, transB=1, alpha=1.0, beta=1.0)) == []
    if bias is None:
        assert assert_left_alone(LinearLayers(), gemm(bias=None, transB=1, beta=0.5)) == []


def test_a_product_before_and_after() -> None:
    model = matmul((2, 3, 5))
    assert notes_of(LinearLayers(), model) == [("head", True, "a linear layer")]
    assert op_types(model) == ["Reshape", "Gemm", "Reshape"]
    there, product, back = model.graph
    assert [node.name for node in model.graph] == ["head.rows", "head", "head.back"]
    assert [node.outputs[0].name for node in model.graph] == ["head.rows", "head.product", "y"]
    assert (shape_of(there.outputs[0]), shape_of(product.outputs[0])) == ((6, 5), (6, 4))
    assert array(there.inputs[1]).tolist() == [6, 5]
    assert array(back.inputs[1]).tolist() == [2, 3, 4]
    np.testing.assert_array_equal(array(product.inputs[1]), whole(1, 5, 4).T)
    assert integer(product, "transB") == 1
    assert len(product.inputs) == 2


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("bias", [(4,), (1, 4)])
def test_the_bias_behind_a_product_is_its_own(first: bool, bias: tuple[int, ...]) -> None:
    model = matmul(bias=bias, first=first)
    assert notes_of(LinearLayers(), model) == [("head", True, "a linear layer with the bias behind it")]
    assert op_types(model) == ["Gemm"]
    np.testing.assert_array_equal(array(node_named(model, "head").inputs[2]), whole(2, 4))


@pytest.mark.parametrize("bias", [(1,), (2, 4), (2, 1), (1, 1, 4), ()])
def test_other_additions_stay_behind_it(bias: tuple[int, ...]) -> None:
    model = matmul(bias=bias)
    assert notes_of(LinearLayers(), model) == [("head", True, "a linear layer")]
    assert op_types(model) == ["Gemm", "Add"]


def test_a_product_that_others_read_keeps_its_addition() -> None:
    net = Net()
    p = net.add("MatMul", "x", net.constant(whole(1, 5, 4), "w"), name="head")
    net.add("Add", p, net.constant(whole(2, 4), "b"), out="y")
    net.add("Relu", p, out="z")
    model = read(net, {"x": (2, 5)}, ["y", "z"])
    assert notes_of(LinearLayers(), model) == [("head", True, "a linear layer")]
    assert op_types(model) == ["Gemm", "Add", "Relu"]
    net.nodes.pop()
    model = read(net, {"x": (2, 5)}, ["y", p])
    assert_equal(LinearLayers(), model, whole(3, 2, 5))
    assert op_types(model) == ["Gemm", "Add"]


def test_a_file_s_scales_stay_with_the_layer() -> None:
    for model in (gemm(), matmul(bias=(4,))):
        scales = Scales(steps=np.ones(4, np.float32))
        set_scales(node_named(model, "head"), scales)
        LinearLayers()(model)
        assert scales_of(node_named(model, "head")) is scales


def computed(kind: str, weight: tuple[int, ...], x: tuple[int, ...] = (2, 5), dtype: int = 1) -> ir.Model:
    """Weights that are an input."""
    net = Net()
    net.add(kind, "x", "w", name="head", out="y")
    kinds = dict.fromkeys("xwy", dtype)
    return read(net, {"x": x, "w": weight}, ["y"], kinds=kinds)


def of_doubles(kind: str) -> ir.Model:
    net = Net()
    net.add(kind, "x", net.constant(whole(1, 5, 4).astype(np.float64)), name="head", out="y")
    return read(net, {"x": (2, 5)}, ["y"], kinds=dict.fromkeys("xy", TensorProto.DOUBLE))


def of_a_stack() -> ir.Model:
    net = Net()
    net.add("MatMul", "x", net.constant(whole(1, 3, 5, 4)), name="head", out="y")
    return read(net, {"x": (3, 2, 5)}, ["y"])


def with_a_computed_bias() -> ir.Model:
    net = Net()
    net.add("Gemm", "x", net.constant(whole(1, 5, 4)), "b", name="head", out="y")
    return read(net, {"x": (2, 5), "b": (4,)}, ["y"])


NO_GEMM = "its second factor is computed at run time, or is no float32"
NO_PRODUCT = "it is no product with stored weights of two axes"
NO_ROW = "what it adds is no bias of one row"
REFUSED = {
    "weights of a Gemm at run time": (computed("Gemm", (5, 4)), NO_GEMM),
    "a Gemm of doubles": (of_doubles("Gemm"), NO_GEMM),
    "its first factor transposed": (gemm(transA=1), "its first factor is transposed"),
    "its bias at run time": (with_a_computed_bias(), NO_ROW),
    "a bias for each row": (gemm(bias=(2, 1)), NO_ROW),
    "as many rows as columns": (gemm(rows=4, bias=(4, 1)), NO_ROW),
    "a whole matrix": (gemm(bias=(2, 4)), NO_ROW),
    "weights of a MatMul at run time": (computed("MatMul", (5, 4)), NO_PRODUCT),
    "a MatMul of doubles": (of_doubles("MatMul"), NO_PRODUCT),
    "a stack of weights": (of_a_stack(), NO_PRODUCT),
    "a vector": (matmul((5,)), "its first factor is one row without a batch"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_left_alone(case: str) -> None:
    model, reason = REFUSED[case]
    assert assert_left_alone(LinearLayers(), model.clone()) == [("head", False, reason)]


def test_other_operators_and_those_of_somebody_else_are_no_match() -> None:
    net = Net()
    net.add("Mul", "x", net.constant(whole(1, 5), "w"), out="y")
    assert assert_left_alone(LinearLayers(), read(net, {"x": (2, 5)}, ["y"])) == []
    model = matmul()
    model.graph[0].domain = "mine"
    assert assert_left_alone(LinearLayers(), model) == []


def test_layers_without_names_keep_apart() -> None:
    """They are called after their weights, and "linear" where these have no name either, both of them at first."""
    for names in (("one.weight", "two.weight"), ("weight", "kernel")):
        net = Net()
        weights = [net.constant(whole(k, 5, 5), name) for k, name in enumerate(names)]
        net.add("MatMul", net.add("MatMul", "x", weights[0]), weights[1])
        model = read(net, {"x": (2, 5)}, [net.nodes[-1].output[0]])
        found = notes_of(LinearLayers(), model)
        assert [node.name for node in model.graph] == (
            ["one", "two"] if "one" in names[0] else ["linear"] * 2
        )
        assert [site for site, *_ in found] == (["one", "two"] if "one" in names[0] else [""] * 2)
        for k, node in enumerate(model.graph):
            np.testing.assert_array_equal(array(node.inputs[1]), whole(k, 5, 5).T)


SIZES = st.integers(1, 6)


@settings(max_examples=40)
@given(
    sizes=st.tuples(SIZES, SIZES, SIZES),
    scales=st.tuples(st.sampled_from((1.0, -2.0, 0.5)), st.sampled_from((1.0, 0.25, 0.0))),
    by_output=st.booleans(),
    bias=st.sampled_from(("none", "row", "matrix", "one")),
    seed=st.integers(0, 99),
)
def test_gemms_compute_the_same(
    sizes: tuple[int, int, int], scales: tuple[float, float], by_output: bool, bias: str, seed: int
) -> None:
    """Of whole numbers and powers of two, so that sums are equal in any order."""
    rows, inner, outer = sizes
    shape = {"none": None, "row": (outer,), "matrix": (1, outer), "one": (1,)}[bias]
    facts = {"alpha": scales[0], "beta": scales[1], "transB": int(by_output)}
    model = gemm(rows, inner, outer, shape, **facts)
    if LinearLayers()(model.clone()).modified:
        assert_equal(LinearLayers(), model, whole(seed, rows, inner))
    else:
        assert assert_left_alone(LinearLayers(), model) == []


@settings(max_examples=40)
@given(
    shape=st.lists(SIZES, min_size=2, max_size=4),
    outer=SIZES,
    bias=st.sampled_from(("none", "row", "one", "deeper")),
    first=st.booleans(),
    seed=st.integers(0, 99),
)
def test_products_compute_the_same(shape: list[int], outer: int, bias: str, first: bool, seed: int) -> None:
    added = {"none": None, "row": (outer,), "one": (1,), "deeper": (1,) * len(shape) + (outer,)}[bias]
    model = matmul(tuple(shape), outer, added, first)
    assert_equal(LinearLayers(), model, whole(seed, *shape))

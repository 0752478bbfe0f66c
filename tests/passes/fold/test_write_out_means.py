from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.fold.write_out_means import MOST_GROUPS, WriteOutMeans
from tests.passes.fold.graphs import Array, Builder, array, node_named, op_types, run, text


def pooled(height: int = 6, width: int = 4, channels: int = 3, seed: int = 5, **attributes: Any) -> ir.Model:
    b = Builder(seed)
    x = b.input("x", (1, channels, height, width))
    facts = {"kernel_shape": [2, 2], "strides": [2, 2]} | attributes
    return b.build(b.add("AveragePool", [x], "mean", (1, channels, height // 2, width // 2), **facts))


def grouped(groups: int = 3, out: int = 4, seed: int = 5, axis: int = 1, keepdims: int = 0) -> ir.Model:
    b = Builder(seed)
    x = b.input("x", (1, groups * out, 3, 2))
    shape = b.constant("groups", np.array([1, groups, out, 3, 2], np.int64))
    split = b.add("Reshape", [x, shape], "split", (1, groups, out, 3, 2))
    left = [1, groups, out, 3, 2]
    left[axis : axis + 1] = [1] if keepdims else []
    axes = b.constant("axes", np.array([axis], np.int64))
    return b.build(b.add("ReduceMean", [split, axes], "mean", left, keepdims=keepdims))


def of_pixels(x: Array) -> Array:
    a, b, c, d = (x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
    return np.asarray((((a + b) + c) + d) * np.float32(0.25))


def of_groups(x: Array, groups: int) -> Array:
    total: Array = reduce(np.add, np.split(x, groups, 1))
    return total * np.float32(1 / groups)


def picture(model: ir.Model, seed: int) -> Array:
    """Values of many sizes: another order of adding them gives other bits."""
    shape = [int(d) for d in model.graph.inputs[0].shape or ()]  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 5, shape)).astype(np.float32)


def test_a_pool_becomes_four_pixels_in_their_order() -> None:
    model = pooled()
    output = model.graph.outputs[0].name
    result = WriteOutMeans()(model)
    assert op_types(model) == ["AveragePool2x2"]
    assert node_named(model, "mean").domain == "bhpe"
    assert model.graph.outputs[0].name == output
    why = "2x2 pixels are added row by row"
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("mean", True, why)]


@pytest.mark.parametrize("groups", [1, 2, 3, 8])
def test_groups_are_added_one_after_the_other(groups: int) -> None:
    model = grouped(groups)
    output = model.graph.outputs[0].name
    result = WriteOutMeans()(model)
    kept = [kind for kind in op_types(model) if kind != "Reshape"]  # which nobody reads any more
    assert kept == ["Split", *["Add"] * (groups - 1), "Mul"]
    assert array(node_named(model, "mean").inputs[1]) == np.float32(1 / groups)
    assert model.graph.outputs[0].name == output
    why = f"{groups} groups of channels are added one after the other"
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("mean", True, why)]


ODD, OTHER = "a side of the map is odd", "only 2x2 of stride 2 without padding has a written order"
REFUSED = {
    "stride 1": (pooled(strides=[1, 1]), OTHER),
    "3x3": (pooled(kernel_shape=[3, 3]), OTHER),
    "padding": (pooled(pads=[1, 1, 1, 1]), OTHER),
    "ceil": (pooled(ceil_mode=1), OTHER),
    "odd height": (pooled(5, 4), ODD),
    "odd width": (pooled(4, 5), ODD),
    "too many": (grouped(MOST_GROUPS + 1, 1), f"{MOST_GROUPS + 1} groups are too many to write out"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    model, reason = REFUSED[case]
    before = text(model)
    result = WriteOutMeans()(model)
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("mean", False, reason)]
    assert (result.modified, text(model)) == (False, before)


@pytest.mark.parametrize("model", [grouped(axis=2), grouped(keepdims=1)], ids=["axis", "keepdims"])
def test_other_means_are_left_alone(model: ir.Model) -> None:
    before = text(model)
    result = WriteOutMeans()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), before)


@settings(max_examples=25)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 9)),
    channels=st.integers(1, 9),
    groups=st.integers(1, 9),
    seed=st.integers(0, 999),
)
def test_equivalence_and_second_run(size: tuple[int, int], channels: int, groups: int, seed: int) -> None:
    """ONNX Runtime computes the written order, bit for bit; and the mean, up to the rounding of float32."""
    for model, groups_of in (
        (pooled(2 * size[0], 2 * size[1], channels), 0),
        (grouped(groups, channels), groups),
    ):
        x = picture(model, seed)
        before = run(model, x)[0]
        assert WriteOutMeans()(model).modified
        got = run(model, x)[0]
        np.testing.assert_array_equal(got, of_groups(x, groups_of) if groups_of else of_pixels(x))
        np.testing.assert_allclose(got, before, rtol=0, atol=1e-6 * np.abs(x).max())
        after = text(model)
        assert (WriteOutMeans()(model).modified, text(model)) == (False, after)

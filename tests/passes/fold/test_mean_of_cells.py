from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.fold.mean_of_cells import MeanOfCells
from bhpe_compile.passes.fold.quantize_linear import QuantizeLinear
from tests.passes.fold.graphs import Builder, node_named, op_types, run, text


def pooled(
    rows: int = 3,
    columns: int = 2,
    channels: int = 5,
    *,
    kind: str = "ReduceMean",
    keep: bool = False,
    beside: str = "",
    rounded: bool = True,
    axes: tuple[int, ...] = (2, 3),
    seed: int = 5,
) -> ir.Model:
    """A mean, a change of shape and a linear layer; beside: another reader of the mean."""
    b = Builder(seed)
    x = b.input("x", (1, channels, rows, columns))
    if kind == "GlobalAveragePool":
        mean = b.add(kind, [x], "mean", (1, channels, 1, 1))
    else:
        shape = [1 if axis in axes else size for axis, size in enumerate((1, channels, rows, columns))]
        shape = shape if keep else [size for axis, size in enumerate(shape) if axis not in axes]
        mean = b.add(
            kind, [x, b.constant("axes", np.array(axes, np.int64))], "mean", shape, keepdims=int(keep)
        )
    features = int(np.prod([int(d) for d in mean.shape or ()]))  # type: ignore[arg-type]
    flat = b.add(
        "Reshape", [mean, b.constant("flat", np.array([1, features], np.int64))], "flat", (1, features)
    )
    y = b.layer("Gemm", [flat, b.constant("weight", b.normal(4, features))], "fc", (1, 4), transB=1)
    outputs = [y, *([b.add(beside, [mean], "beside", [int(d) for d in mean.shape or ()])] if beside else [])]  # type: ignore[arg-type]
    model = b.build(*outputs)
    if rounded:
        QuantizeLinear()(model)
    return model


@pytest.mark.parametrize(
    ("model", "after"),
    [
        (pooled(), ["CellMean", "Reshape", "FixedPointLinear"]),
        (pooled(keep=True), ["CellMean", "Reshape", "Reshape", "FixedPointLinear"]),
        (pooled(kind="GlobalAveragePool"), ["CellMean", "Reshape", "Reshape", "FixedPointLinear"]),
    ],
    ids=["dropped axes", "kept axes", "global pool"],
)
def test_a_mean_in_front_of_a_linear_layer(model: ir.Model, after: list[str]) -> None:
    result = MeanOfCells()(model)
    assert op_types(model) == after
    why = "3x2 cells are added as whole numbers of 1/4096"
    assert [(one.site, one.applied, one.reason) for one in result.notes] == [("mean", True, why)]


REFUSED = {"float layer": pooled(rounded=False), "another reader": pooled(beside="Sigmoid")}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    model = REFUSED[case]
    before = text(model)
    result = MeanOfCells()(model)
    why = "not every reader is a fixed-point linear layer"
    assert [(one.applied, one.reason) for one in result.notes] == [(False, why)]
    assert (result.modified, text(model)) == (False, before)


@pytest.mark.parametrize(
    "kind", ["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Identity", "Relu", "Transpose"]
)
def test_what_may_stand_in_front_of_the_linear_layer(kind: str) -> None:
    """Changes of shape; nobody runs this graph."""
    model = pooled()
    node = node_named(model, "flat")
    node.op_type = kind
    assert MeanOfCells()(model).modified == (kind not in ("Relu", "Transpose"))


@pytest.mark.parametrize("axes", [(-2, -1), (3, 2), (2, -1)])
def test_axes_in_any_order_and_from_behind(axes: tuple[int, ...]) -> None:
    model = pooled()
    model.graph.initializers["axes"].const_value = ir.tensor(np.array(axes, np.int64))
    assert MeanOfCells()(model).modified


def test_other_means_are_left_alone() -> None:
    model = pooled(axes=(3,))
    before = text(model)
    result = MeanOfCells()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), before)


@settings(max_examples=20)
@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    channels=st.integers(1, 9),
    kind=st.sampled_from(("ReduceMean", "GlobalAveragePool")),
    keep=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equivalence_and_second_run(
    rows: int, columns: int, channels: int, kind: str, keep: bool, seed: int
) -> None:
    """Terms and mean are rounded to 1/4096 where the mean alone was: at most 2^-12 times the sum of 8-bit weights."""
    model = pooled(rows, columns, channels, kind=kind, keep=keep, seed=seed)
    x = np.random.default_rng(seed).standard_normal((1, channels, rows, columns)).astype(np.float32)
    want = run(model, x)[0]
    assert MeanOfCells()(model).modified
    np.testing.assert_allclose(run(model, x)[0], want, rtol=0, atol=4 * channels / 4096)
    after = text(model)
    assert (MeanOfCells()(model).modified, text(model)) == (False, after)


def test_of_an_imported_network_every_mean_is_written() -> None:
    model = pooled(beside="Sigmoid")
    x = np.random.default_rng(1).standard_normal((1, 5, 3, 2)).astype(np.float32)
    want = run(model, x)
    assert MeanOfCells(imported=True)(model).modified
    assert op_types(model)[0] == "CellMean"
    np.testing.assert_allclose(run(model, x)[1], want[1], rtol=0, atol=1 / 4096)
    assert not MeanOfCells(imported=True)(model).modified

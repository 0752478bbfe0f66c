from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bhpe_compile.passes.fold.drop_dead_hardtanh import DropDeadHardtanh
from tests.passes.fold.graphs import Builder, node_named, op_types, run, text

KINDS = ["BinaryConv2d", "BinaryConvTranspose2d", "BinaryLinear"]


def clipped(
    kind: str = "BinaryConv2d",
    threshold: NDArray[Any] | None = None,
    *,
    residual: bool = False,
    bounds: tuple[float, float] = (-1, 1),
) -> ir.Model:
    """Clip, then a binary layer; with `residual` the clipped value is added behind it."""
    b = Builder(6)
    x = b.input("x", (2, 4) if kind == "BinaryLinear" else (1, 4, 5, 5))
    clip = b.clip(x, "clip", *bounds)
    y = b.binary(kind, clip, "layer", 4, threshold=threshold)
    if residual:
        y = b.add("Add", [y, clip], "sum", [int(d) for d in y.shape or ()])  # type: ignore[arg-type]
    return b.build(y)


def picture(model: ir.Model, threshold: NDArray[Any] | None = None) -> NDArray[Any]:
    """Values inside, outside and exactly on bounds and thresholds."""
    shape = [int(d) for d in model.graph.inputs[0].shape or ()]  # type: ignore[arg-type]
    rng = np.random.default_rng(7)
    special = np.array([-1, 1, 0, np.nextafter(np.float32(-1), np.float32(0)), 3, -3], np.float32)
    x = np.where(rng.random(shape) < 0.5, rng.choice(special, shape), 2 * rng.standard_normal(shape))
    if threshold is not None:
        column = threshold.reshape(-1, *[1] * (len(shape) - 2))
        x = np.where(rng.random(shape) < 0.3, np.broadcast_to(column, shape), x)
    return x.astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hardtanh_only_a_sign_reads_disappears(kind: str) -> None:
    model = clipped(kind)
    result = DropDeadHardtanh()(model)
    assert result.modified
    assert op_types(model) == [kind]
    assert [(n.site, n.reason) for n in result.notes] == [("layer", "the Hardtanh in front is gone")]


def test_a_hardtanh_a_residual_reads_stays_for_it() -> None:
    model = clipped(residual=True)
    result = DropDeadHardtanh()(model)
    assert result.modified
    assert op_types(model) == ["Clip", "BinaryConv2d", "Add"]
    assert node_named(model, "layer").inputs[0] is model.graph.inputs[0]
    assert "others still read" in result.notes[0].reason


@pytest.mark.parametrize("outside", [-1.0, -1.5, 1.0000001, 2.0])
def test_a_threshold_beyond_the_bounds_keeps_it(outside: float) -> None:
    model = clipped(threshold=np.array([0, 0, outside, 0], np.float32))
    before = text(model)
    result = DropDeadHardtanh()(model)
    assert not result.modified
    assert text(model) == before
    reason = "a threshold lies outside (-1, 1]: the clipping decides it"
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("layer", False, reason)]


@pytest.mark.parametrize("role", ["clip.low", "clip.high", "layer.threshold"])
def test_numbers_computed_at_run_time_keep_it(role: str) -> None:
    model = clipped()
    value = next(v for n in model.graph for v in n.inputs if v is not None and v.name == role)
    value.const_value = None
    result = DropDeadHardtanh()(model)
    reason = "bounds or threshold are computed at run time"
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("layer", False, reason)]
    assert op_types(model) == ["Clip", "BinaryConv2d"]


def test_a_relu_is_not_a_hardtanh() -> None:
    """clip(x, 0, inf) >= 0 always holds: dropping it would not."""
    model = clipped(threshold=np.zeros(4, np.float32), bounds=(0, 6))
    assert not DropDeadHardtanh()(model).modified


@settings(max_examples=20)
@given(
    st.sampled_from(KINDS),
    st.lists(st.floats(-1, 1, width=32, exclude_min=True), min_size=4, max_size=4),
    st.booleans(),
)
def test_no_bit_changes(kind: str, thresholds: list[float], residual: bool) -> None:
    threshold = np.array(thresholds, np.float32)
    model = clipped(kind, threshold, residual=residual and kind != "BinaryConvTranspose2d")
    x = picture(model, threshold)
    before = run(model, x)[0]
    assert DropDeadHardtanh()(model).modified
    np.testing.assert_array_equal(run(model, x)[0], before)


def test_a_second_run_changes_nothing() -> None:
    model = clipped(residual=True)
    DropDeadHardtanh()(model)
    after = text(model)
    result = DropDeadHardtanh()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), after)

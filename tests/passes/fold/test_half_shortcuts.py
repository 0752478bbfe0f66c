"""HalfShortcuts: additions read what 8-bit layers read too as float16; the layers' levels stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.frozen import Frozen
from bhpe_compile.passes.fold.half_shortcuts import HalfShortcuts
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from tests.passes.fold.graphs import Array, Builder, node_named, op_types, run, text


def network(seed: int = 0, *, high: float = 3.0, watched: bool = False) -> ir.Model:
    """A layer, one behind it, and their sum; high: the upper end of what the second one reads."""
    b = Builder(seed)
    y = b.dense(b.input("x", (1, 4, 6, 7)), "one", 8, bias=True)
    shape = [int(d) for d in y.shape or ()]  # type: ignore[arg-type]
    z = b.add("Add", [b.dense(y, "two", 8), y], "sum", shape)
    model = b.build(z, *([y] if watched else []))
    QuantizeDense({"one": (-3.0, 3.0), "two": (0.0, high)})(model)
    return model


def image(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((1, 4, 6, 7)).astype(np.float32)


def test_the_addition_reads_float16_and_the_layer_does_not() -> None:
    model, x = network(), image(1)
    (before,) = run(model, x)
    result = HalfShortcuts()(model)
    assert [note.reason for note in result.notes] == ["one.y is kept in float16 for an addition"]
    assert sorted(op_types(model)) == ["Add", "Cast", "Cast", "Int8Conv2d", "Int8Conv2d"]
    assert node_named(model, "two").inputs[0] is node_named(model, "one").outputs[0]
    (after,) = run(model, x)
    kept = Frozen(model).run({"x": torch.from_numpy(x)})["one.y"].numpy()
    rounded = np.abs(kept.astype(np.float16).astype(np.float32) - kept)
    # the same sums of whole numbers, one addend rounded; the addition itself rounds once more
    np.testing.assert_allclose(np.abs(after - before), rounded, atol=1e-6)
    assert rounded.max() > 0
    np.testing.assert_array_equal(Frozen(model)(torch.from_numpy(x))["sum.y"].numpy(), after)


REFUSED = {
    "float16 does not hold it": (network(high=1e6), "float16 does not hold one.y"),
    "an output": (network(watched=True), ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_left_alone(case: str) -> None:
    model, reason = REFUSED[case]
    before = text(model)
    result = HalfShortcuts()(model)
    assert not result.modified
    assert [note.reason for note in result.notes] == ([reason] if reason else [])
    assert text(model) == before


@settings(max_examples=8)
@given(seed=st.integers(0, 99))
def test_a_second_run_changes_nothing(seed: int) -> None:
    model = network(seed)
    HalfShortcuts()(model)
    before = text(model)
    assert not HalfShortcuts()(model).modified
    assert text(model) == before

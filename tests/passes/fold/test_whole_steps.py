"""WholeSteps: a layer that only 8-bit layers read counts in their steps; the levels they read stay the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.frozen import Frozen
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.fold.whole_steps import WholeSteps
from tests.passes.fold.graphs import Array, Builder, array, node_named, run, text

RANGES = {"one": (-3.0, 3.0), "two": (0.0, 6.0), "three": (0.0, 6.0)}


def network(
    between: tuple[str, ...] = ("Relu",),
    *,
    readers: int = 1,
    seed: int = 0,
    span: float = 6.0,
    watched: bool = False,
) -> ir.Model:
    """A layer, operations, one or two layers that read the same; span: the range of the second one."""
    b = Builder(seed)
    y = b.dense(b.input("x", (1, 4, 6, 7)), "one", 8, bias=True)
    shape = [int(d) for d in y.shape or ()]  # type: ignore[arg-type]
    for op in between:
        if op == "Clip":
            y = b.clip(y, "clip", 0, 6)
        elif op == "PRelu":
            y = b.add(op, [y, b.constant("slope", b.normal(8, 1, 1))], op.lower(), shape)
        else:
            facts = {"kernel_shape": [3, 3], "pads": [1] * 4} if op == "MaxPool" else {}
            y = b.add(op, [y], op.lower(), shape, **facts)
    outputs = [b.dense(y, name, 4) for name in ("two", "three")[:readers]]
    model = b.build(*outputs, *([y] if watched else []))
    QuantizeDense(RANGES | {"three": (0.0, span)})(model)
    return model


def image(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((1, 4, 6, 7)).astype(np.float32)


@pytest.mark.parametrize("between", [(), ("Relu",), ("Clip",), ("PRelu", "MaxPool"), ("LeakyRelu",)], ids=str)
@pytest.mark.parametrize("readers", [1, 2])
def test_constants_are_divided_and_levels_stay(between: tuple[str, ...], readers: int) -> None:
    model, x = network(between, readers=readers), image(1)
    step = array(node_named(model, "two").inputs[1])
    old = {k: array(node_named(model, "one").inputs[k]) for k in (4, 5)}
    before = run(model, x)
    result = WholeSteps()(model)
    assert [note.reason for note in result.notes if note.applied] == [f"counts in steps of {float(step):.4g}"]
    assert [array(node_named(model, name).inputs[1]) for name in ("two", "three")[:readers]] == [
        1.0
    ] * readers
    for k, one in old.items():
        new = array(node_named(model, "one").inputs[k])
        np.testing.assert_array_equal(new, (one / np.float64(step)).astype(np.float32))
    for got, want in zip(run(model, x), before, strict=True):
        # a value next to the middle between two levels may fall to the other side: one level of one input
        assert np.abs(got - want).max() <= 0.05
        assert (got == want).mean() > 0.95


def test_torch_and_onnx_runtime_agree_on_every_bit() -> None:
    model, x = network(("Clip",)), image(2)
    WholeSteps()(model)
    np.testing.assert_array_equal(Frozen(model)(torch.from_numpy(x))["two.y"].numpy(), run(model, x)[0])


def test_ends_of_a_clip_are_divided() -> None:
    model = network(("Clip",))
    step = float(array(node_named(model, "two").inputs[1]))
    WholeSteps()(model)
    assert array(node_named(model, "clip").inputs[2]) == np.float32(6 / np.float64(step))


def test_readers_in_different_steps_are_left_alone() -> None:
    model = network(readers=2, span=5.0)
    before = text(model)
    result = WholeSteps()(model)
    assert not result.modified
    assert [note.reason for note in result.notes] == ["its readers count in different steps"]
    assert text(model) == before


@pytest.mark.parametrize(
    "model", [network(("Sigmoid",)), network(watched=True)], ids=["sigmoid", "an output"]
)
def test_what_does_not_scale_or_is_read_as_floats_is_left_alone(model: ir.Model) -> None:
    before = text(model)
    assert not WholeSteps()(model).modified
    assert text(model) == before


@settings(max_examples=10)
@given(
    seed=st.integers(0, 99),
    between=st.lists(st.sampled_from(["Relu", "PRelu", "MaxPool"]), max_size=2, unique=True),
)
def test_a_second_run_changes_nothing(seed: int, between: list[str]) -> None:
    model = network(tuple(between), seed=seed)
    WholeSteps()(model)
    before = text(model)
    assert not WholeSteps()(model).modified
    assert text(model) == before

"""LevelTables: activations between 8-bit layers become tables, and stay what they were to the width of a level."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.activations import activation_of, span_of
from bhpe_compile.exchange.frozen import Frozen
from bhpe_compile.passes.fold.level_tables import LevelTables
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from tests.passes.fold.graphs import Array, Builder, array, node_named, op_types, run, text

SPAN = (-9.0, 7.0)
RANGES = {"one": (-3.0, 3.0), "two": (-0.5, 7.0), span_of(ir.Value(name="one.y")): SPAN}
KINDS: dict[str, tuple[list[str], Any]] = {
    "SiLU": (["Sigmoid", "Mul"], lambda v: v / (1 + np.exp(-v))),
    "HardSwish by its parts": (["HardSigmoid", "Mul"], lambda v: v * np.clip(v / 6 + 0.5, 0, 1)),
    "HardSwish": (["HardSwish"], lambda v: v * np.clip(v / 6 + 0.5, 0, 1)),
    "Sigmoid": (["Sigmoid"], lambda v: 1 / (1 + np.exp(-v))),
    "Tanh": (["Tanh"], np.tanh),
    "Elu": (["Elu"], lambda v: np.where(v > 0, v, np.expm1(np.minimum(v, 0)))),
}


def network(kind: str = "SiLU", seed: int = 3, *, watched: bool = False, layers: int = 2) -> ir.Model:
    """A layer, an activation, and (with two layers) another layer; watched: what stands between is an output."""
    b = Builder(seed)
    v = b.dense(b.input("x", (1, 5, 6, 7)), "one", 8, bias=True)
    shape = [int(d) for d in v.shape or ()]  # type: ignore[arg-type]
    y = v
    for op in KINDS[kind][0]:
        factors = {"alpha": 1 / 6, "beta": 0.5} if op == "HardSigmoid" else {}
        y = b.add(op, [v, y] if op == "Mul" else [v], op.lower(), shape, **factors)
    outputs = [b.dense(y, "two", 4)] if layers == 2 else [y]
    model = b.build(*outputs, *([v] if watched else []))
    QuantizeDense(RANGES)(model)
    return model


def image(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((1, 5, 6, 7)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_an_activation_becomes_a_table(kind: str) -> None:
    model = network(kind)
    result = LevelTables(RANGES)(model)
    assert op_types(model) == ["Int8Conv2d", "LevelTable", "Int8Conv2d"]
    assert [note.applied for note in result.notes] == [True]
    table = model.graph.node(1)
    values = Frozen(model).run({"x": torch.from_numpy(image(1))})
    step = array(table.inputs[4])
    assert step == array(model.graph.node(2).inputs[1])  # the next layer's: no level is rounded twice
    before = values["one.y"].numpy() * _step_in(model)
    low, high = (-2.9, 3.4) if kind in ("Tanh", "HardSwish") else (-4.0, SPAN[1])  # inside its span
    inside = (before > low) & (before < high)
    assert inside.mean() > 0.5
    want = KINDS[kind][1](before.astype(np.float64))
    # half a step on the way in (slopes are at most 1.1), half a step on the way out
    limit = 0.5 * (SPAN[1] + 4.5) / 255 * 1.1 + 0.5 * float(step)
    got = values[table.outputs[0].name or ""].numpy()
    inside &= (want > -0.5) & (want < 7)  # what the next layer's range holds
    assert np.abs(got - want)[inside].max() < limit * 1.001


@pytest.mark.parametrize("kind", ["HardSwish", "SiLU"])
def test_a_learned_scale_and_shift_behind_it_are_in_the_table(kind: str) -> None:
    """a f(x) + b, as sums and products by one number in any number; what is by channel is not one number."""
    b = Builder(3)
    v = b.dense(b.input("x", (1, 5, 6, 7)), "one", 8, bias=True)
    shape = [int(d) for d in v.shape or ()]  # type: ignore[arg-type]
    y = v
    for op in KINDS[kind][0]:
        y = b.add(op, [v, y] if op == "Mul" else [v], op.lower(), shape)
    y = b.add("Mul", [b.constant("k", np.full(1, 1.5, np.float32)), y], "times", shape)
    y = b.add("Sub", [y, b.constant("s", np.full((), 0.25, np.float32))], "less", shape)
    channels = b.add("Mul", [y, b.constant("c", np.ones((8, 1, 1), np.float32))], "by_channel", shape)
    model = b.build(b.dense(channels, "two", 4))
    QuantizeDense(RANGES)(model)
    LevelTables(RANGES)(model)
    assert op_types(model) == ["Int8Conv2d", "LevelTable", "Mul", "Int8Conv2d"]
    table = model.graph.node(1)
    assert table.outputs[0].name == "less.y"
    zero, levels, step, out_zero = (array(table.inputs[k]) for k in (2, 3, 4, 5))
    inputs = (np.arange(256) - np.float64(zero)) * np.float64(np.float32((7 - KINDS_FROM[kind]) / 255))
    want = 1.5 * KINDS[kind][1](inputs) - 0.25
    got = (levels.astype(np.float64) - out_zero) * np.float64(step)
    assert np.abs(got - want).max() < 0.51 * step


KINDS_FROM = {"HardSwish": -3.0, "SiLU": -4.5}
"""Where an activation becomes flat."""


def _step_in(model: ir.Model) -> float:
    """The step in which the first layer counts: it was divided by it."""
    before = array(node_named(network(), "one").inputs[4]).astype(np.float64)
    return float(np.median(before / array(node_named(model, "one").inputs[4])))


def test_torch_and_onnx_runtime_agree_on_every_bit() -> None:
    model = network()
    LevelTables(RANGES)(model)
    x = image(5)
    (want,) = run(model, x)
    np.testing.assert_array_equal(Frozen(model)(torch.from_numpy(x))["two.y"].numpy(), want)


def test_the_layer_in_front_counts_in_steps() -> None:
    model = network()
    scale, bias = (array(node_named(model, "one").inputs[k]) for k in (4, 5))
    LevelTables(RANGES)(model)
    step = np.float32((7 + 4.5) / 255)
    for k, old in ((4, scale), (5, bias)):
        new = array(node_named(model, "one").inputs[k])
        np.testing.assert_array_equal(new, (old / np.float64(step)).astype(np.float32))
    assert array(model.graph.node(1).inputs[1]) == 1


HANDED_ON = ("Add", "Concat", "MaxPool", "Mul", "Resize", "ReduceMean", "GlobalAveragePool", "Slice", "Split")


@pytest.mark.parametrize("kind", [*HANDED_ON, "Softmax", "MatMul", "Identity"])
def test_what_may_stand_behind_a_table(kind: str) -> None:
    """Operators that hand values on to the next layer; what computes with them in floats may not."""
    b = Builder(3)
    v = b.dense(b.input("x", (1, 5, 6, 7)), "one", 8, bias=True)
    y = b.add("Tanh", [v], "tanh", (1, 8, 6, 7))
    inputs = [y, y] if kind in ("Add", "Mul", "MatMul") else [y]
    model = b.build(b.add(kind, inputs, "behind", (1, 8, 6, 7)))  # nobody runs it
    QuantizeDense(RANGES)(model)
    assert LevelTables(RANGES)(model).modified == (kind in HANDED_ON)
    kinds = ["LevelTable" if kind in HANDED_ON else "Tanh", kind]
    assert op_types(model) == ["Int8Conv2d", *kinds]


def test_an_operator_of_somebody_elses_may_not_stand_behind_a_table() -> None:
    b = Builder(3)
    v = b.dense(b.input("x", (1, 5, 6, 7)), "one", 8, bias=True)
    y = b.add("Tanh", [v], "tanh", (1, 8, 6, 7))
    model = b.build(b.add("Add", [y], "behind", (1, 8, 6, 7), "mine"))
    QuantizeDense(RANGES)(model)
    assert not LevelTables(RANGES)(model).modified


REFUSED: dict[str, tuple[ir.Model, dict[str, Any], str]] = {
    "no range": (network(), {"one": (-1.0, 1.0)}, "no range in front of its SiLU"),
    "floats are read": (network(layers=1), RANGES, "floats are read behind its SiLU"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_left_alone(case: str) -> None:
    model, ranges, reason = REFUSED[case]
    before = text(model)
    result = LevelTables(ranges)(model)
    assert not result.modified
    assert [note.reason for note in result.notes] == [n for n in [result.notes[0].reason] if reason in n]
    assert text(model) == before


def test_a_value_that_is_read_besides_has_no_table() -> None:
    model = network(watched=True)
    assert activation_of(node_named(model, "one").outputs[0]) is None
    assert not LevelTables(RANGES)(model).modified


@settings(max_examples=10)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 99))
def test_a_second_run_changes_nothing(kind: str, seed: int) -> None:
    model = network(kind, seed)
    LevelTables(RANGES)(model)
    before = text(model)
    assert not LevelTables(RANGES)(model).modified
    assert text(model) == before

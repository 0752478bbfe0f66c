"""WriteOutFunctions: gates and lone norms become products and sums, with the values they had and the same bits
everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.float_parts import float_parts
from bhpe_compile.exchange.frozen import Frozen
from bhpe_compile.passes.fold.write_out_functions import MOST, WriteOutFunctions
from tests.passes.fold.graphs import Array, Builder, op_types, run, text

CHANNELS = 3
CASES: dict[str, tuple[list[str], Any]] = {
    "HardSigmoid": (["Mul", "Add", "Clip"], lambda v: np.clip(0.2 * v + 0.5, 0, 1)),
    "HardSigmoid of its own slope": (["Mul", "Add", "Clip"], lambda v: np.clip(v / 6 + 0.4, 0, 1)),
    "HardSwish": (["Mul", "Add", "Clip", "Mul"], lambda v: v * np.clip(v / 6 + 0.5, 0, 1)),
    "Sigmoid": (["Logistic"], lambda v: 1 / (1 + np.exp(-v))),
}


def network(case: str, seed: int = 0, rows: int = 4) -> ir.Model:
    b = Builder(seed)
    shape = (1, CHANNELS, rows, 5)
    x = b.input("x", shape)
    facts = {"alpha": 1 / 6, "beta": 0.4} if "slope" in case else {}
    return b.build(b.add(case.split()[0], [x], "gate", shape, **facts))


def norm(seed: int = 0, *, computed: bool = False) -> ir.Model:
    """A batch norm with no layer in front; computed: one of its parameters is an input."""
    b = Builder(seed)
    x = b.input("x", (1, CHANNELS, 4, 5))
    words = ("scale", "bias", "mean")
    parameters = [b.constant(word, b.normal(CHANNELS)) for word in words]
    variance = b.constant("variance", b.normal(CHANNELS) ** 2 + 0.1)
    if computed:
        parameters[0] = b.input("given", (CHANNELS,))
    return b.build(b.add("BatchNormalization", [x, *parameters, variance], "norm", (1, CHANNELS, 4, 5)))


def image(seed: int) -> Array:
    return (4 * np.random.default_rng(seed).standard_normal((1, CHANNELS, 4, 5))).astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_a_gate_becomes_products_and_sums(case: str) -> None:
    model = network(case)
    result = WriteOutFunctions()(model)
    assert op_types(model) == CASES[case][0]
    assert [note.applied for note in result.notes] == [True]
    steps = ["gate.scaled", "gate.shifted", "gate.gate", "gate.product"][: len(CASES[case][0])]
    assert [node.name for node in model.graph] == (["gate"] if case == "Sigmoid" else steps)
    np.testing.assert_allclose(run(model, image(1))[0], CASES[case][1](image(1)), rtol=1e-6, atol=1e-6)


def test_a_lone_norm_becomes_a_product_and_a_sum() -> None:
    model = norm()
    want = run(model, image(2))[0]
    assert WriteOutFunctions()(model).modified
    assert op_types(model) == ["Mul", "Add"]
    np.testing.assert_allclose(run(model, image(2))[0], want, rtol=1e-5, atol=1e-5)


REFUSED = {
    "a large Sigmoid": (network("Sigmoid", rows=300), f"4500 values are more than {MOST}"),
    "parameters": (norm(computed=True), "its parameters are computed at run time"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    model, why = REFUSED[case]
    before = text(model)
    result = WriteOutFunctions()(model)
    assert [(note.applied, note.reason) for note in result.notes] == [(False, why)]
    assert (result.modified, text(model)) == (False, before)


def test_other_operators_are_left_alone() -> None:
    model = network("Relu")
    before = text(model)
    result = WriteOutFunctions()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), before)


@settings(max_examples=20)
@given(case=st.sampled_from([*CASES, "norm"]), seed=st.integers(0, 99))
def test_equivalence_and_second_run(case: str, seed: int) -> None:
    """The values, the bits of torch, nothing that programs compute differently, and nothing left to do."""
    model = norm(seed) if case == "norm" else network(case, seed)
    x = image(seed)
    want = run(model, x)[0]
    assert WriteOutFunctions()(model).modified
    found = run(model, x)[0]
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
    (same,) = Frozen(model)(torch.from_numpy(x)).values()
    np.testing.assert_array_equal(same.numpy(), found)
    proto = ir.to_proto(model)
    assert float_parts(proto, [proto.graph.output[0].name]) == ()
    after = text(model)
    assert (WriteOutFunctions()(model).modified, text(model)) == (False, after)

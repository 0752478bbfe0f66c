"""Integer thresholds against the float32 expression they replace: equal in every bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bhpe_compile.passes.fold.fold_threshold import FoldThreshold, smallest
from tests.passes.fold.graphs import Builder, array, node_named, op_types, run, text

KINDS = ["BinaryConv2d", "BinaryConvTranspose2d", "BinaryLinear"]
CHANNELS = 6


def chain(
    kind: str = "BinaryConv2d",
    *,
    activation: bool = True,
    scale: NDArray[Any] | None = None,
    bias: NDArray[Any] | None = None,
    beta: NDArray[Any] | None = None,
    readers: int = 1,
    same_thresholds: bool = True,
    seed: int = 12,
) -> ir.Model:
    """first -> [RPReLU] -> `readers` binary layers, added up."""
    b = Builder(seed)
    x = b.input("x", (3, 5) if kind == "BinaryLinear" else (1, 5, 4, 4))
    y = b.binary(kind, x, "first", CHANNELS, scale=scale, bias=bias)
    if activation:
        y = b.rprelu(y, "act", beta)
    threshold = b.normal(CHANNELS, std=0.5)
    reader = "BinaryLinear" if kind == "BinaryLinear" else "BinaryConv2d"
    outs = []
    for i in range(readers):
        own = threshold if same_thresholds else threshold + np.float32(i)
        outs.append(b.binary(reader, y, f"reader{i}", 3, threshold=own))
    return b.build(*outs)


def picture(model: ir.Model, seed: int = 13) -> NDArray[np.float32]:
    return Builder(seed).normal(*[int(d) for d in model.graph.inputs[0].shape or ()])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", [True, False])
def test_affine_and_activation_become_integers(kind: str, activation: bool) -> None:
    model = chain(kind, activation=activation, readers=2)
    negative = int((array(node_named(model, "first").inputs[3]) < 0).sum())
    result = FoldThreshold()(model)
    assert result.modified
    assert "RPReLU" not in op_types(model)
    first = node_named(model, "first")
    assert set(np.unique(array(first.inputs[2]))) == {-1.0, 1.0}
    np.testing.assert_array_equal(array(first.inputs[3]), np.ones(CHANNELS, np.float32))
    np.testing.assert_array_equal(array(first.inputs[4]), np.zeros(CHANNELS, np.float32))
    for name in ("reader0", "reader1"):
        reader = node_named(model, name)
        assert reader.inputs[0] is first.outputs[0]
        limits = array(reader.inputs[1])
        assert limits.dtype == np.float32
        np.testing.assert_array_equal(limits, np.round(limits))
    assert negative > 0
    names = [v.name for v in node_named(model, "first").inputs[2:5] if v is not None]
    assert names == ["first.signs", "first.unit", "first.none"]
    assert [(n.site, n.reason) for n in result.notes] == [
        ("first", f"integer thresholds; {negative} channels negated")
    ]


def with_zero(values: NDArray[np.float32]) -> NDArray[np.float32]:
    values[2] = 0
    return values


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (chain(scale=with_zero(np.ones(CHANNELS, np.float32))), "a channel's scale is 0"),
        (chain(beta=np.linspace(-0.1, 1, CHANNELS).astype(np.float32)), "negative slope"),
        (chain(readers=2, same_thresholds=False), "different thresholds"),
    ],
)
def test_refusals_name_their_reason(model: ir.Model, reason: str) -> None:
    before = text(model)
    result = FoldThreshold()(model)
    assert not result.modified
    assert text(model) == before
    assert [n.site for n in result.notes] == ["first"]
    assert reason in result.notes[0].reason


@pytest.mark.parametrize("activation", [True, False])
@pytest.mark.parametrize("output", [True, False])
def test_a_value_also_read_as_a_float_stays(activation: bool, output: bool) -> None:
    model = chain(activation=activation)
    value = node_named(model, "reader0").inputs[0]
    assert value is not None
    if output:
        model.graph.outputs.append(value)
    else:
        relu = ir.Node("", "Relu", [value], name="relu")
        relu.outputs[0].name = "relu.y"
        relu.outputs[0].type, relu.outputs[0].shape = value.type, value.shape
        model.graph.append(relu)
        model.graph.outputs.append(relu.outputs[0])
    before = text(model)
    result = FoldThreshold()(model)
    assert not result.modified
    assert text(model) == before
    assert [n.reason for n in result.notes] == ["its value is also read as a float"]


def test_a_residual_in_between_is_not_the_pattern() -> None:
    b = Builder(14)
    x = b.input("x", (1, 6, 4, 4))
    y = b.add("Add", [b.binary("BinaryConv2d", x, "first", 6), x], "sum", (1, 6, 4, 4))
    model = b.build(b.binary("BinaryConv2d", y, "second", 6))
    result = FoldThreshold()(model)
    assert (result.modified, result.notes) == (False, ())


@settings(max_examples=40)
@given(st.sampled_from(KINDS), st.booleans(), st.integers(1, 2), st.integers(0, 10_000))
def test_no_bit_changes(kind: str, activation: bool, readers: int, seed: int) -> None:
    model = chain(kind, activation=activation, readers=readers, seed=seed)
    x = picture(model, seed + 1)
    before = run(model, x)
    assert FoldThreshold()(model).modified
    for got, want in zip(run(model, x), before, strict=True):
        np.testing.assert_array_equal(got, want)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(-20, 20))
def test_no_bit_changes_where_integers_meet_the_threshold(seed: int, shift: int) -> None:
    """Without activation, bias = t - shift * scale puts the limit exactly on, or one rounding beside, an integer."""
    rng = np.random.default_rng(seed)
    scale = (rng.choice([-1, 1], CHANNELS) * rng.uniform(1e-3, 1, CHANNELS)).astype(np.float32)
    model = chain(activation=False, scale=scale)
    first, reader = node_named(model, "first"), node_named(model, "reader0")
    threshold = array(reader.inputs[1])
    bias = first.inputs[4]
    assert bias is not None
    exact = (threshold - np.float32(shift) * scale).astype(np.float32)
    bias.const_value = ir.tensor(exact, name=bias.name)
    x = picture(model, seed)
    before = run(model, x)[0]
    assert FoldThreshold()(model).modified
    np.testing.assert_array_equal(run(model, x)[0], before)


@pytest.mark.parametrize(("bias", "limit"), [(1e6, -45), (-1e6, 46)])
def test_constant_signs_get_limits_at_the_edge(bias: float, limit: int) -> None:
    """5 channels, 3x3: dot lies in [-45, 45]."""
    model = chain(activation=False, bias=np.full(CHANNELS, bias, np.float32))
    x = picture(model)
    before = run(model, x)[0]
    FoldThreshold()(model)
    assert array(node_named(model, "reader0").inputs[1]).tolist() == [limit] * CHANNELS
    np.testing.assert_array_equal(run(model, x)[0], before)


@given(st.lists(st.integers(-50, 60), min_size=1, max_size=8), st.integers(1, 40))
def test_bisection_finds_the_smallest(limits: list[int], bound: int) -> None:
    wanted = np.array(limits)
    found = smallest(lambda dot: dot >= wanted, bound, len(limits))
    np.testing.assert_array_equal(found, np.clip(wanted, -bound, bound + 1))


def test_a_chain_of_three_folds_twice() -> None:
    b = Builder(15)
    y = b.input("x", (1, 6, 4, 4))
    for i in range(3):
        y = b.binary("BinaryConv2d", y, f"layer{i}", 6)
        y = b.rprelu(y, f"act{i}")
    model = b.build(y)
    x = picture(model)
    before = run(model, x)[0]
    notes = FoldThreshold()(model).notes
    assert [n.site for n in notes if n.applied] == ["layer0", "layer1"]
    assert op_types(model) == ["BinaryConv2d"] * 3 + ["RPReLU"]
    np.testing.assert_array_equal(run(model, x)[0], before)


def test_a_second_run_changes_nothing() -> None:
    model = chain()
    FoldThreshold()(model)
    after = text(model)
    result = FoldThreshold()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), after)

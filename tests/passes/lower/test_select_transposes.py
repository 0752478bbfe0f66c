from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.base import Note
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.channel_last import ChannelLast
from bhpe_compile.passes.lower.select_transposes import SelectTransposes
from tests.passes.lower.evaluate import evaluate, reference
from tests.passes.lower.graphs import Builder, kinds, second_run, text


def network(perm: tuple[int, ...], shape: tuple[int, ...] = (1, 3, 4, 5)) -> ir.Model:
    b = Builder()
    x = b.input("image", shape)
    return b.build(b.add("Transpose", [b.add("Exp", [x], "exp")], "turn", perm=perm))


@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 3, 1, 2)])
def test_layout_changes_get_a_kernel(perm: tuple[int, ...]) -> None:
    model = network(perm)
    result = SelectTransposes()(model)
    assert result.modified
    assert result.notes == (Note("select-transposes", "turn", True, "computed by TransposeChannels"),)
    (node,) = (n for n in model.graph if g.is_kernel(n, "TransposeChannels"))
    assert g.integer(node, "to_last") == int(perm == (0, 2, 3, 1))
    assert kinds(model)["Exp"] == 1
    assert not ChannelLast()(model).modified


def test_other_permutations_stay() -> None:
    model = network((0, 1, 3, 2))
    result = SelectTransposes()(model)
    assert not result.modified
    reason = "it is no change between channels first and channels last"
    assert result.notes == (Note("select-transposes", "turn", False, reason),)
    assert not any(g.is_kernel(n) for n in model.graph)


def test_other_types_stay() -> None:
    """The kernel is written for float32."""
    model = network((0, 2, 3, 1))
    next(n for n in model.graph if n.name == "turn").inputs[0].dtype = ir.DataType.FLOAT16  # type: ignore[union-attr]
    result = SelectTransposes()(model)
    assert not result.modified
    assert result.notes == (Note("select-transposes", "turn", False, "only float32 has a kernel"),)


def joined(axis: int = 3, channels: tuple[int, ...] = (3, 5), size: tuple[int, ...] = (4, 6)) -> ir.Model:
    """Maps of floats, channels last, joined along an axis; the image is the first."""
    b = Builder()
    x = b.input("image", (1, *size, channels[0]))
    more = [
        b.add("Exp", [b.constant(f"c{k}", b.normal(1, *size, n))], f"map{k}")
        for k, n in enumerate(channels[1:])
    ]
    return b.build(b.add("Concat", [b.add("Abs", [x], "abs"), *more], "join", axis=axis))


@pytest.mark.parametrize("axis", [3, -1])
def test_joins_of_channels_get_a_kernel(axis: int) -> None:
    model = joined(axis, (3, 5, 2))
    read = list(named(model, "join").inputs)
    result = SelectTransposes()(model)
    assert result.modified
    assert result.notes == (Note("select-transposes", "join", True, "computed by JoinChannels"),)
    (node,) = (n for n in model.graph if g.is_kernel(n))
    assert (node.op_type, g.text(node, "layout")) == ("JoinChannels", "nhwc")
    assert (g.roles(node), list(node.inputs)) == (("x0", "x1", "x2"), read)
    assert g.shape_of(node.outputs[0]) == (1, 4, 6, 10)


def named(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def of_another_axis() -> ir.Model:
    return joined(1, (3, 3))


def of_one() -> ir.Model:
    return joined(3, (3,))


def of_three_axes() -> ir.Model:
    return joined(2, size=(4,))


def of_four_and_a_batch() -> ir.Model:
    return joined(4, size=(4, 6, 2))


def of_a_constant() -> ir.Model:
    model = joined()
    node = named(model, "join")
    node.replace_input_with(1, model.graph.initializers["c0"])
    return model


def of_bytes() -> ir.Model:
    model = joined()
    named(model, "join").inputs[1].dtype = ir.DataType.UINT8  # type: ignore[union-attr]
    return model


def of_somebody_else() -> ir.Model:
    model = joined()
    named(model, "join").domain = "mine"
    return model


@pytest.mark.parametrize(
    "make",
    [of_another_axis, of_one, of_three_axes, of_four_and_a_batch, of_a_constant, of_bytes, of_somebody_else],
)
def test_other_joins_stay(make: Callable[[], ir.Model]) -> None:
    model = make()
    before = text(model)
    result = SelectTransposes()(model)
    assert (result.modified, result.notes) == (False, ())
    assert text(model) == before


@settings(max_examples=10)
@given(
    channels=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_joins_compute_the_same(channels: list[int], size: tuple[int, int]) -> None:
    model = joined(3, tuple(channels), size)
    image = np.random.default_rng(0).standard_normal((1, *size, channels[0])).astype(np.float32)
    expected = reference(model, image)[0]
    assert SelectTransposes()(model).modified
    # ONNX Runtime and the ONNX reference compute exp differently in the last bit
    np.testing.assert_allclose(evaluate(model, {"image": image})[0], expected, rtol=1e-6)
    assert second_run(SelectTransposes(), model) == (False, False)


@settings(max_examples=20)
@given(shape=st.tuples(*[st.integers(1, 5)] * 4), to_last=st.booleans())
def test_equivalence_and_second_run(shape: tuple[int, ...], to_last: bool) -> None:
    model = network((0, 2, 3, 1) if to_last else (0, 3, 1, 2), shape)
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = reference(model, image)[0]
    assert SelectTransposes()(model).modified
    # ONNX Runtime and the ONNX reference compute exp differently in the last bit
    np.testing.assert_allclose(evaluate(model, {"image": image})[0], expected, rtol=1e-6)
    assert SelectTransposes()(model).notes == ()
    assert second_run(SelectTransposes(), model) == (False, False)

from __future__ import annotations

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
from tests.passes.lower.graphs import Builder, kinds, second_run


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

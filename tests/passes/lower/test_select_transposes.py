from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.select_transposes import SelectTransposes
from tests.passes.lower.evaluate import evaluate
from tests.passes.lower.graphs import Builder
from tests.passes.lower.test_passes import kinds, reference


def network(perm: tuple[int, ...], shape: tuple[int, ...] = (1, 3, 4, 5)) -> ir.Model:
    b = Builder()
    x = b.input("image", shape)
    return b.build(b.add("Transpose", [b.add("Exp", [x], "exp")], "turn", perm=perm))


@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 3, 1, 2)])
def test_layout_changes_get_a_kernel(perm: tuple[int, ...]) -> None:
    model = network(perm)
    assert [note.site for note in SelectTransposes()(model).notes] == ["turn"]
    (node,) = (n for n in model.graph if g.is_kernel(n, "TransposeChannels"))
    assert g.integer(node, "to_last") == int(perm == (0, 2, 3, 1))
    assert kinds(model)["Exp"] == 1


def test_other_permutations_stay() -> None:
    model = network((0, 1, 3, 2))
    result = SelectTransposes()(model)
    assert not result.modified
    assert "no change between" in result.notes[0].reason
    assert not any(g.is_kernel(n) for n in model.graph)


@settings(max_examples=20, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 5)] * 4), to_last=st.booleans())
def test_equivalence_and_second_run(shape: tuple[int, ...], to_last: bool) -> None:
    model = network((0, 2, 3, 1) if to_last else (0, 3, 1, 2), shape)
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = reference(model, image)[0]
    assert SelectTransposes()(model).modified
    # ONNX Runtime and the ONNX reference compute exp differently in the last bit
    np.testing.assert_allclose(evaluate(model, {"image": image})[0], expected, rtol=1e-6)
    assert SelectTransposes()(model).notes == ()

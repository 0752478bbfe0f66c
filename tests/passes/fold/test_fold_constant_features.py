from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.nodes import layer_of
from bhpe_compile.passes.fold.fold_constant_features import FoldConstantFeatures
from tests.passes.fold.graphs import Builder, array, node_named, op_types, run, text


def linear(
    before: int = 5,
    constants: int = 3,
    behind: int = 0,
    out: int = 4,
    *,
    rows: int = 1,
    bias: bool = True,
    by_output: bool = True,
    calls: int = 1,
    apart: bool = False,
    alpha: float = 1.0,
    seed: int = 5,
) -> ir.Model:
    """Linear layers of [x, constants, y]; apart: constants that differ from row to row."""
    b = Builder(seed)
    parts = [b.input("x", (rows, before))]
    own = b.normal(rows if apart else 1, constants)
    parts.append(b.constant("pose", np.repeat(own, rows // len(own), 0)))
    if behind:
        parts.append(b.input("y", (rows, behind)))
    total = before + constants + behind
    joined = b.add("Concat", parts, "joined", (rows, total), axis=1)
    weight = b.normal(out, total)
    stored = b.constant("weight", weight if by_output else np.ascontiguousarray(weight.T))
    inputs = [joined, stored, *([b.constant("bias", b.normal(out))] if bias else [])]
    facts = {"transB": int(by_output), **({"alpha": alpha} if alpha != 1 else {})}
    return b.build(*(b.layer("Gemm", inputs, f"fc{i}", (rows, out), **facts) for i in range(calls)))


def feeds(model: ir.Model, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal([int(d) for d in one.shape]).astype(np.float32) for one in model.graph.inputs]


def test_the_constants_go_into_the_bias() -> None:
    model = linear()
    weight, pose, bias = (array(model.graph.initializers[name]) for name in ("weight", "pose", "bias"))
    result = FoldConstantFeatures()(model)
    node = node_named(model, "fc0")
    assert op_types(model) == ["Gemm"]
    assert node.inputs[0] is model.graph.inputs[0]
    np.testing.assert_array_equal(array(node.inputs[1]), weight[:, :5])
    want = bias.astype(np.float64) + weight[:, 5:].astype(np.float64) @ pose[0].astype(np.float64)
    np.testing.assert_array_equal(array(node.inputs[2]), want.astype(np.float32))
    assert layer_of(node) == "fc0"
    assert [(one.site, one.applied, one.reason) for one in result.notes] == [
        ("fc0", True, "3 constants are in its bias")
    ]


def test_what_stands_around_them_stays_together() -> None:
    model = linear(behind=2)
    assert FoldConstantFeatures()(model).modified
    assert op_types(model) == ["Concat", "Gemm"]
    assert array(node_named(model, "fc0").inputs[1]).shape == (4, 7)


def transposed() -> ir.Model:
    """As many rows as columns, so that it is a product all the same."""
    model = linear(rows=8)
    node_named(model, "fc0").attributes["transA"] = ir.AttrInt64("transA", 1)
    return model


def other_bias() -> ir.Model:
    """One number for all outputs."""
    model = linear()
    model.graph.initializers["bias"].const_value = ir.tensor(np.ones(1, np.float32))
    return model


def computed(role: str) -> ir.Model:
    model = linear()
    model.graph.initializers[role].const_value = None
    return model


def constants_alone() -> ir.Model:
    model = linear()
    concat = node_named(model, "joined")
    concat.replace_input_with(0, model.graph.initializers["pose"])
    return model


REFUSED = {
    "transposed": (transposed(), "its product is scaled or transposed"),
    "a bias for all": (other_bias(), "its bias is no constant for each output"),
    "weights at run time": (computed("weight"), "its weights are computed at run time"),
    "a bias at run time": (computed("bias"), "its weights are computed at run time"),
    "constants alone": (constants_alone(), "nothing else is read"),
    "shared": (linear(calls=2), "its weights are read by other calls as well"),
    "rows": (linear(rows=2, apart=True), "its constants differ from row to row"),
    "scaled": (linear(alpha=2.0), "its product is scaled or transposed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    model, reason = REFUSED[case]
    before = text(model)
    result = FoldConstantFeatures()(model)
    assert {one.site for one in result.notes} <= {"fc0", "fc1"}
    assert {(one.applied, one.reason) for one in result.notes} == {(False, reason)}
    assert (result.modified, text(model)) == (False, before)


def test_features_alone_are_left_alone() -> None:
    b = Builder()
    joined = b.add("Concat", [b.input("x", (1, 2)), b.input("y", (1, 3))], "joined", (1, 5), axis=1)
    model = b.build(b.layer("Gemm", [joined, b.constant("weight", b.normal(4, 5))], "fc", (1, 4), transB=1))
    before = text(model)
    result = FoldConstantFeatures()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), before)


@settings(max_examples=20)
@given(
    before=st.integers(1, 9),
    constants=st.integers(1, 9),
    behind=st.integers(0, 4),
    rows=st.integers(1, 3),
    bias=st.booleans(),
    by_output=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equivalence_and_second_run(
    before: int, constants: int, behind: int, rows: int, bias: bool, by_output: bool, seed: int
) -> None:
    """One float32 sum of up to 22 products of order 1 in another order: 1e-5."""
    model = linear(before, constants, behind, rows=rows, bias=bias, by_output=by_output, seed=seed)
    x = feeds(model, seed)
    want = run(model, *x)[0]
    assert FoldConstantFeatures()(model).modified
    np.testing.assert_allclose(run(model, *x)[0], want, rtol=0, atol=1e-5)
    after = text(model)
    assert (FoldConstantFeatures()(model).modified, text(model)) == (False, after)

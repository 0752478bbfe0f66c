from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.fold.fold_lone_softmax import FoldLoneSoftmax
from tests.passes.fold.graphs import Builder, op_types, run, text


def attention(tokens: int = 3, heads: int = 2, keys: int = 1, seed: int = 5, axis: int = -1) -> ir.Model:
    """softmax(q k) v + v of [tokens, heads, ...] with `keys` keys a query, a Reshape around the weights."""
    b = Builder(seed)
    scores = b.input("scores", (tokens, heads, 1, keys))
    v = b.input("v", (tokens * heads, keys, 4))
    q = b.constant("q", np.full((1, 1, 1, 1), 0.5, np.float32))
    weights = b.add(
        "Softmax",
        [b.add("Mul", [scores, q], "query", (tokens, heads, 1, keys))],
        "softmax",
        (tokens, heads, 1, keys),
        axis=axis,
    )
    shape = b.constant("shape", np.array([tokens * heads, 1, keys], np.int64))
    flat = b.add("Reshape", [weights, shape], "flat", (tokens * heads, 1, keys))
    mixed = b.add("MatMul", [flat, v], "mixed", (tokens * heads, 1, 4))
    return b.build(b.add("Neg", [mixed], "after", (tokens * heads, 1, 4)))


def feeds(model: ir.Model, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal([int(d) for d in one.shape]).astype(np.float32) for one in model.graph.inputs]


def test_attention_to_one_element_is_its_value() -> None:
    model = attention()
    result = FoldLoneSoftmax()(model)
    assert op_types(model) == ["Neg"]
    assert [(one.site, one.applied) for one in result.notes] == [
        ("softmax", True),
        ("flat", True),
        ("mixed", True),
    ]
    assert [one.reason for one in result.notes] == [
        "softmax of a single element is 1",
        "ones of another shape",
        "softmax of a single element is 1: attention is its value, key and query go",
    ]


def test_a_softmax_is_along_the_last_axis_where_nothing_is_said() -> None:
    for keys in (1, 2):
        model = attention(keys=keys)
        next(node for node in model.graph if node.name == "softmax").attributes.clear()
        assert FoldLoneSoftmax()(model).modified == (keys == 1)


def test_ones_that_the_simplifier_left() -> None:
    b = Builder()
    v = b.input("v", (6, 1, 4))
    ones = b.constant("ones", np.ones((6, 1, 1), np.float32))
    model = b.build(b.add("MatMul", [ones, v], "mixed", (6, 1, 4)))
    output = model.graph.outputs[0].name
    x = feeds(model, 1)
    want = run(model, *x)[0]
    assert FoldLoneSoftmax()(model).modified
    assert op_types(model) == ["Identity"]
    assert model.graph.outputs[0].name == output
    np.testing.assert_array_equal(run(model, *x)[0], want)


@pytest.mark.parametrize(
    "model", [attention(keys=2), attention(keys=2, axis=1)], ids=["two keys", "along the heads"]
)
def test_more_elements_are_left_alone(model: ir.Model) -> None:
    before = text(model)
    result = FoldLoneSoftmax()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), before)


def test_values_that_are_repeated_stay() -> None:
    b = Builder()
    v = b.input("v", (1, 1, 4))
    ones = b.constant("ones", np.ones((6, 1, 1), np.float32))
    model = b.build(b.add("MatMul", [ones, v], "mixed", (6, 1, 4)))
    before = text(model)
    result = FoldLoneSoftmax()(model)
    assert [(one.applied, one.reason) for one in result.notes] == [(False, "its values are repeated")]
    assert (result.modified, text(model)) == (False, before)


@settings(max_examples=20)
@given(tokens=st.integers(1, 5), heads=st.integers(1, 4), seed=st.integers(0, 99))
def test_equivalence_and_second_run(tokens: int, heads: int, seed: int) -> None:
    """Equal: the softmax of one number is 1 in every library, and 1 v is v."""
    model = attention(tokens, heads, seed=seed)
    x = feeds(model, seed)
    want = run(model, *x)[0]
    assert FoldLoneSoftmax()(model).modified
    np.testing.assert_array_equal(run(model, *x)[0], want)
    after = text(model)
    assert (FoldLoneSoftmax()(model).modified, text(model)) == (False, after)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("keeps", [True, False])
def test_changes_of_shape_behind_it_go_where_they_keep_the_order(heads: int, keeps: bool) -> None:
    """Of a token's heads in their order nothing is left; heads in front of tokens are another order."""
    b = Builder()
    x = b.input("x", (3, 4 * heads))
    apart = b.add(
        "Reshape", [x, b.constant("apart", np.array([3 * heads, 1, 4], np.int64))], "apart", (3 * heads, 1, 4)
    )
    mixed = b.add(
        "MatMul",
        [b.constant("ones", np.ones((3 * heads, 1, 1), np.float32)), apart],
        "mixed",
        (3 * heads, 1, 4),
    )
    four = b.add(
        "Reshape", [mixed, b.constant("four", np.array([3, heads, 1, 4], np.int64))], "four", (3, heads, 1, 4)
    )
    perm, shape = ([0, 2, 1, 3], (3, 1, heads, 4)) if keeps else ([1, 0, 2, 3], (heads, 3, 1, 4))
    moved = b.add("Transpose", [four], "moved", shape, perm=perm)
    flat = b.add(
        "Reshape", [moved, b.constant("flat", np.array([3, 4 * heads], np.int64))], "flat", (3, 4 * heads)
    )
    model = b.build(b.add("Neg", [flat], "after", (3, 4 * heads)))
    fed = feeds(model, 1)
    want = run(model, *fed)[0]
    assert FoldLoneSoftmax()(model).modified
    assert (op_types(model) == ["Neg"]) == (keeps or heads == 1)
    np.testing.assert_array_equal(run(model, *fed)[0], want)

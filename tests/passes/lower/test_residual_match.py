"""match_residual: the four forms, in their order, and everything that only looks like one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from bhpe_compile.kernels import Residual
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.residual_match import ResidualMatch, clipped, match_residual
from tests.passes.lower.evaluate import reference
from tests.passes.lower.graphs import Builder, text

Step = Callable[[Builder, str], str]


def ints(b: Builder, name: str, *values: int) -> str:
    return b.constant(name, np.array(values, np.int64))


def repeat(b: Builder, x: str) -> str:
    return b.add("Concat", [x, x, x], "repeat", axis=1)


def pool(b: Builder, x: str) -> str:
    return b.pool2x2(x, "pool")


def clip(b: Builder, x: str) -> str:
    return b.clip(x, "clip")


def mean(b: Builder, x: str) -> str:
    """Four channels, the means of eight."""
    return b.group_mean(x, "mean", 2, 4)


def made(*steps: Step, shape: tuple[int, ...] = (1, 8, 6, 4)) -> tuple[ir.Model, ResidualMatch]:
    b = Builder()
    y = b.input("image", shape)
    for step in steps:
        y = step(b, y)
    model = b.build(y)
    return model, match_residual(model.graph.outputs[0])


FORMS: dict[str, tuple[tuple[Step, ...], tuple[str, bool, bool]]] = {
    "clip": ((clip,), ("same", False, True)),
    "pool": ((pool,), ("same", True, False)),
    "clip, pool": ((clip, pool), ("same", True, True)),
    "repeat": ((repeat,), ("repeat", False, False)),
    "clip, pool, repeat": ((clip, pool, repeat), ("repeat", True, True)),
    "mean": ((mean,), ("group_mean", False, False)),
    "clip, mean": ((clip, mean), ("group_mean", False, True)),
    "clip, pool, mean": ((clip, pool, mean), ("group_mean", True, True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    """Read from the image itself; the graph is only looked at."""
    steps, expected = FORMS[form]
    model, match = made(*steps)
    before = text(model)
    assert (match.kind, match.pool, match.clip) == expected
    assert match.source is model.graph.inputs[0]
    assert match.channels == 8
    assert match_residual(model.graph.outputs[0]) == match
    assert text(model) == before


def bounds(low: float, high: float) -> Step:
    def step(b: Builder, x: str) -> str:
        values = [b.constant(name, np.float32(v)) for name, v in (("low", low), ("high", high))]
        return b.add("Clip", [x, *values], "clip")

    return step


def pooled(b: Builder, x: str) -> str:
    """A mean in no written order."""
    return b.add("AveragePool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])


def summed(
    order: tuple[int, ...] = (0, 1), *, sizes: tuple[int, ...] = (4, 4), axis: int = 1, share: float = 0.5
) -> Step:
    """Parts of x, added in `order`, times `share`."""

    def step(b: Builder, x: str) -> str:
        parts = [f"part{k}" for k in range(len(sizes))]
        b.nodes.append(helper.make_node("Split", [x, ints(b, "sizes", *sizes)], parts, "split", axis=axis))
        total = parts[order[0]]
        for k in order[1:]:
            total = b.add("Add", [total, parts[k]], f"add{k}{len(b.nodes)}")
        return b.add("Mul", [total, b.constant("share", np.float32(share))], "mean")

    return step


def from_the_right(b: Builder, x: str) -> str:
    """part 0 + (part 1 + part 2)"""
    parts = ["part0", "part1", "part2", "part3"]
    b.nodes.append(helper.make_node("Split", [x, ints(b, "sizes", 2, 2, 2, 2)], parts, "split", axis=1))
    inner = b.add("Add", [b.add("Add", ["part1", "part2"], "one"), "part3"], "two")
    return b.add(
        "Mul", [b.add("Add", ["part0", inner], "sum"), b.constant("share", np.float32(0.25))], "mean"
    )


def one_sided(b: Builder, x: str) -> str:
    return b.add("Clip", [x, b.constant("low", np.float32(-1))], "clip")


def computed_bound(b: Builder, x: str) -> str:
    low = b.add("Neg", [b.constant("one", np.float32(1))], "low")
    return b.add("Clip", [x, low, b.constant("high", np.float32(1))], "clip")


def other_domain(b: Builder, x: str) -> str:
    """An operator of ours is not one of ONNX's."""
    return b.rprelu(x, "Clip", 8)


OTHERS: dict[str, tuple[Step, ...]] = {
    "rows repeated": (lambda b, x: b.add("Concat", [x, x], "rows", axis=2),),
    "two values joined": (lambda b, x: b.add("Concat", [x, b.add("Abs", [x], "abs")], "both", axis=1),),
    "a pool in no written order": (pooled,),
    "from -2": (bounds(-2, 1),),
    "to 2": (bounds(-1, 2),),
    "no upper bound": (one_sided,),
    "a bound that is computed": (computed_bound,),
    "another maximum": (lambda b, x: b.add("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2]),),
    "the last group first": (summed((1, 0)),),
    "a group twice": (summed((0, 0)),),
    "a group left out": (summed((0, 1), sizes=(2, 2, 4), share=1 / 3),),
    "groups of two sizes": (summed((0,), sizes=(2, 6), share=1.0),),
    "added from the right": (from_the_right,),
    "rows in groups": (summed(sizes=(3, 3), axis=2),),
    "a third of two": (summed(share=1 / 3),),
    "a share a channel": (lambda b, x: b.add("Mul", [x, b.constant("share", b.normal(8, 1, 1))], "mean"),),
    "a share that is computed": (
        lambda b, x: b.add("Mul", [x, b.add("Abs", [b.constant("one", np.float32(1))], "share")], "mean"),
    ),
    "ours": (other_domain,),
}


@pytest.mark.parametrize("case", OTHERS)
def test_others_are_read_as_they_are(case: str) -> None:
    model, match = made(*OTHERS[case])
    assert match == ResidualMatch(model.graph.outputs[0], "same", False, False)


def test_steps_in_another_order_stay() -> None:
    """The kernel clips first, then pools, then fits the channels."""
    model, match = made(pool, clip)
    assert (match.kind, match.pool, match.clip, match.source) == (
        "same",
        False,
        True,
        model.graph.node(0).outputs[0],
    )
    model, match = made(repeat, pool)
    assert (match.kind, match.pool, match.clip, match.source) == (
        "same",
        True,
        False,
        model.graph.node(0).outputs[0],
    )


def test_only_maps_are_read() -> None:
    model, match = made(clip, shape=(1, 8))
    assert match == ResidualMatch(model.graph.outputs[0], "same", False, False)
    assert clipped(model.graph.outputs[0]) is model.graph.inputs[0]


@settings(max_examples=25)
@given(
    clips=st.booleans(),
    pools=st.booleans(),
    kind=st.sampled_from(["same", "repeat", "group_mean"]),
    half=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 1000),
)
def test_equivalence(clips: bool, pools: bool, kind: str, half: tuple[int, int], seed: int) -> None:
    """What a kernel reads by the match is what the graph computes, bit for bit."""
    height, width = 2 * half[0], 2 * half[1]
    last = {"same": (), "repeat": (repeat,), "group_mean": (mean,)}[kind]
    model, match = made(*((clip,) * clips), *((pool,) * pools), *last, shape=(1, 8, height, width))
    image = 2 * np.random.default_rng(seed).standard_normal((1, 8, height, width)).astype(np.float32)
    (want,) = reference(model, image)
    read = Residual(match.kind, match.channels, match.pool, match.clip)  # type: ignore[arg-type]
    got = read.reference(image.transpose(0, 2, 3, 1), g.shape_of(model.graph.outputs[0])[1])
    np.testing.assert_array_equal(got.transpose(0, 3, 1, 2), want)

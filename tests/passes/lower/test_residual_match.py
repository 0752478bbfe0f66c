"""match_residual: the four forms, in their order, and everything that only looks like one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    return b.add("AveragePool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])


def clip(b: Builder, x: str) -> str:
    return b.clip(x, "clip")


def mean(height: int, width: int) -> Step:
    """Four channels, the means of eight."""

    def step(b: Builder, x: str) -> str:
        x = b.add("Reshape", [x, ints(b, "split", 1, 2, 4, height, width)], "groups")
        return b.add("ReduceMean", [x, ints(b, "axes", 1)], "mean", keepdims=0)

    return step


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
    "mean": ((mean(6, 4),), ("group_mean", False, False)),
    "clip, mean": ((clip, mean(6, 4)), ("group_mean", False, True)),
    "clip, pool, mean": ((clip, pool, mean(3, 2)), ("group_mean", True, True)),
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


def pooled(**attributes: object) -> Step:
    return lambda b, x: b.add(
        "AveragePool", [x], "pool", **{"kernel_shape": [2, 2], "strides": [2, 2], **attributes}
    )


def split(*shape: int, axes: tuple[int, ...] = (1,), keepdims: int = 0) -> Step:
    def step(b: Builder, x: str) -> str:
        x = b.add("Reshape", [x, ints(b, "split", *shape)], "groups")
        return b.add("ReduceMean", [x, ints(b, "axes", *axes)], "mean", keepdims=keepdims)

    return step


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
    "a larger window": (pooled(kernel_shape=[3, 3]),),
    "a window that is not square": (pooled(kernel_shape=[2, 1]),),
    "no stride": (pooled(strides=[1, 1]),),
    "the default stride": (lambda b, x: b.add("AveragePool", [x], "pool", kernel_shape=[2, 2]),),
    "padding": (pooled(pads=[0, 0, 1, 1]),),
    "from -2": (bounds(-2, 1),),
    "to 2": (bounds(-1, 2),),
    "no upper bound": (one_sided,),
    "a bound that is computed": (computed_bound,),
    "another maximum": (lambda b, x: b.add("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2]),),
    "groups side by side": (split(1, 4, 2, 6, 4, axes=(2,)),),
    "two axes": (split(1, 2, 4, 6, 4, axes=(1, 2)),),
    "axes kept": (split(1, 2, 4, 6, 4, keepdims=1),),
    "rows in groups": (split(1, 2, 24, 2, 2),),
    "pixels turned": (split(1, 2, 4, 4, 6),),
    "batches in groups": (split(2, 2, 2, 6, 4),),
    "four parts": (split(1, 8, 6, 4, axes=(1,)),),
    "no reshape": (lambda b, x: b.add("ReduceMean", [x, ints(b, "axes", 1)], "mean", keepdims=0),),
    "all axes": (lambda b, x: b.add("ReduceMean", [x], "mean", keepdims=0),),
    "ours": (other_domain,),
}


@pytest.mark.parametrize("case", OTHERS)
def test_others_are_read_as_they_are(case: str) -> None:
    model, match = made(*OTHERS[case])
    assert match == ResidualMatch(model.graph.outputs[0], "same", False, False)


@pytest.mark.parametrize("size", [(5, 4), (4, 5), (5, 5)])
def test_odd_sizes_keep_their_average_pool(size: tuple[int, int]) -> None:
    """The kernel's windows would read beyond the edge."""
    model, match = made(pool, repeat, shape=(1, 8, *size))
    assert (match.kind, match.pool) == ("repeat", False)
    assert match.source.producer() is model.graph.node(0)


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


def test_an_axis_may_be_a_scalar() -> None:
    """As some exporters write it."""
    model, _ = made(mean(6, 4))
    model.graph.initializers["axes"].const_value = ir.tensor(np.array(1, np.int64))
    assert match_residual(model.graph.outputs[0]).kind == "group_mean"


@settings(max_examples=25, deadline=None)
@given(
    clips=st.booleans(),
    pools=st.booleans(),
    kind=st.sampled_from(["same", "repeat", "group_mean"]),
    half=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 1000),
)
def test_equivalence(clips: bool, pools: bool, kind: str, half: tuple[int, int], seed: int) -> None:
    """What a kernel reads by the match is what the graph computes."""
    height, width = 2 * half[0], 2 * half[1]
    size = half if pools else (height, width)
    last = {"same": (), "repeat": (repeat,), "group_mean": (mean(*size),)}[kind]
    model, match = made(*((clip,) * clips), *((pool,) * pools), *last, shape=(1, 8, height, width))
    image = 2 * np.random.default_rng(seed).standard_normal((1, 8, height, width)).astype(np.float32)
    (want,) = reference(model, image)
    read = Residual(match.kind, match.channels, match.pool, match.clip)  # type: ignore[arg-type]
    got = read.reference(image.transpose(0, 2, 3, 1), g.shape_of(model.graph.outputs[0])[1])
    # means of up to eight float32 in another order
    np.testing.assert_allclose(got.transpose(0, 3, 1, 2), want, rtol=1e-6, atol=1e-6)

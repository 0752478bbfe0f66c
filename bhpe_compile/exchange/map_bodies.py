"""Bodies of the operators between heat maps and crops, in standard ONNX operations.

    HeatMap       logits [N, J depth, H, W] -> softmax over the cells of each joint, same shape
    SoftArgmax    logits [N, J depth, H, W] -> expected (x, y, z) or its first `axes` coordinates, [N, J, axes]
    SamplePoints  x [N, C, H, W] at points [N, J, 2] in cells -> [N, J, C]
    Crop          x [N, C, H, W], a box [N, 4] of each in pixels -> [N, C, height, width]

Formulas stand in `networks/layers/grids.py` and beside the operators of torch (`networks/layers/`); the order of
operations is the kernels' order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.networks.layers.grids import (
    BOX,
    CELL,
    FURTHEST,
    LEVELS,
    LONGEST,
    LOWEST,
    MOST_SAMPLES,
    OCTAVES,
    STEPS_PER_NAT,
    SUB,
    TABLE,
    TABLE_BITS,
)

_INT = ir.AttributeType.INT
_FLOAT, _DOUBLE, _INT64, _UINT64 = (
    int(t) for t in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64, ir.DataType.UINT64)
)


class Body(Protocol):
    """What emits the nodes of one function (`functions.py`)."""

    def op(self, kind: str, *inputs: ir.Value, **attributes: ir.Attr | int | str | Sequence[int]) -> ir.Value:
        """One standard node."""

    def ints(self, *values: int) -> ir.Value:
        """An int64 vector."""

    def pick(self, vector: ir.Value, first: int, last: int) -> ir.Value:
        """vector[first:last]."""


def _constant(b: Body, array: NDArray[np.generic]) -> ir.Value:
    return b.op("Constant", value=ir.AttrTensor("value", ir.Tensor(array)))


def constant_of(b: Body, value: float, dtype: type[np.generic]) -> ir.Value:
    """A scalar."""
    return _constant(b, np.array(value, dtype))


def _attribute(b: Body, name: str) -> ir.Value:
    """The function's integer attribute as an int64 vector of one."""
    return b.op("Reshape", b.op("Constant", value_int=ir.RefAttr("value_int", name, _INT)), b.ints(1))


def _shift_right(b: Body, value: ir.Value, count: ir.Value) -> ir.Value:
    """Of int64 that are not negative."""
    words = [b.op("Cast", one, to=_UINT64) for one in (value, count)]
    return b.op("Cast", b.op("BitShift", *words, direction="RIGHT"), to=_INT64)


def _exponentials(b: Body, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """2^30 exp(l - max l) of every cell, int64 [N, J, cells], and the sizes (N, -1, depth, H, W)."""
    sizes = b.op("Shape", x)
    depth = _attribute(b, "depth")
    split = b.op("Concat", b.pick(sizes, 0, 1), b.ints(-1), depth, b.pick(sizes, 2, 4), axis=0)
    cells = b.op("ReduceProd", b.pick(split, 2, 5), keepdims=1)
    rows = b.op("Reshape", x, b.op("Concat", b.pick(split, 0, 2), cells, axis=0))
    below = b.op("Sub", rows, b.op("ReduceMax", rows, b.ints(2), keepdims=1))
    lowest = constant_of(b, float(LOWEST), np.float32)
    steps = b.op("Mul", below, constant_of(b, float(STEPS_PER_NAT), np.float32))
    steps = b.op("Where", b.op("Greater", steps, lowest), steps, lowest)
    whole = b.op("Cast", b.op("Round", steps), to=_INT64)
    k = b.op("Add", whole, constant_of(b, -int(LOWEST), np.int64))
    octave = _shift_right(b, k, constant_of(b, TABLE_BITS, np.int64))
    place = b.op("Sub", k, b.op("Mul", octave, constant_of(b, 1 << TABLE_BITS, np.int64)))
    found = b.op("Gather", _constant(b, TABLE), place)
    return _shift_right(b, found, b.op("Sub", constant_of(b, OCTAVES, np.int64), octave)), split


def _heat_map(b: Body, x: ir.Value) -> ir.Value:
    cells, _ = _exponentials(b, x)
    total = b.op("ReduceSum", cells, b.ints(2), keepdims=1)
    share = b.op("Div", b.op("Cast", cells, to=_FLOAT), b.op("Cast", total, to=_FLOAT))
    return b.op("Reshape", share, b.op("Shape", x))


def _soft_argmax(b: Body, x: ir.Value) -> ir.Value:
    cells, split = _exponentials(b, x)
    block = b.op("Reshape", cells, split)
    columns = []
    for axis in (4, 3, 2):
        line = b.op("ReduceSum", block, b.ints(*(i for i in (2, 3, 4) if i != axis)), keepdims=0)
        count = b.op("Squeeze", b.pick(split, axis, axis + 1))
        places = b.op("Range", constant_of(b, 0, np.int64), count, constant_of(b, 1, np.int64))
        columns.append(b.op("ReduceSum", b.op("Mul", line, places), b.ints(2), keepdims=1))
    sums = b.op("Cast", b.op("Concat", *columns, axis=2), to=_DOUBLE)
    total = b.op("Cast", b.op("ReduceSum", cells, b.ints(2), keepdims=1), to=_DOUBLE)
    mean = b.op("Div", b.op("Mul", sums, constant_of(b, CELL, np.float64)), total)
    whole = b.op("Floor", b.op("Add", mean, constant_of(b, 0.5, np.float64)))
    place = b.op("Mul", b.op("Cast", whole, to=_FLOAT), constant_of(b, 1 / CELL, np.float32))
    return b.op("Slice", place, b.ints(0), _attribute(b, "axes"), b.ints(2))


def limited(b: Body, value: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
    """`value` between low and high; low for what is no number."""
    raised = b.op("Where", b.op("Greater", value, low), value, low)
    return b.op("Where", b.op("Less", raised, high), raised, high)


def _column(b: Body, pairs: ir.Value, index: int) -> ir.Value:
    """pairs[..., index]"""
    return b.op("Gather", pairs, constant_of(b, index, np.int64), axis=2)


def _sample_points(b: Body, x: ir.Value, points: ir.Value) -> ir.Value:
    sizes = b.op("Shape", x)
    extent = b.op("Concat", b.pick(sizes, 3, 4), b.pick(sizes, 2, 3), axis=0)  # width, height
    bounded = limited(b, points, constant_of(b, -1, np.float32), b.op("Cast", extent, to=_FLOAT))
    low = b.op("Floor", bounded)
    part = b.op("Sub", bounded, low)
    first = b.op("Cast", low, to=_INT64)
    last = b.op("Sub", extent, b.ints(1))
    sides = []
    for side in (0, 1):
        place = b.op("Add", first, constant_of(b, side, np.int64))
        inside = b.op("And", b.op("GreaterOrEqual", place, b.ints(0)), b.op("Less", place, extent))
        share = part if side else b.op("Sub", constant_of(b, 1, np.float32), part)
        share = b.op("Where", inside, share, constant_of(b, 0, np.float32))
        sides.append((b.op("Max", b.op("Min", place, last), b.ints(0)), share))
    rows = b.op("Reshape", x, b.op("Concat", b.pick(sizes, 0, 2), b.ints(-1), axis=0))
    count = b.pick(b.op("Shape", points), 1, 2)
    spread = b.op("Concat", b.pick(sizes, 0, 2), count, axis=0)
    total = None
    for line, down in sides:
        for column, across in sides:
            row = b.op("Mul", _column(b, line, 1), b.pick(sizes, 3, 4))
            index = b.op("Unsqueeze", b.op("Add", row, _column(b, column, 0)), b.ints(1))
            value = b.op("GatherElements", rows, b.op("Expand", index, spread), axis=2)
            weight = b.op("Mul", _column(b, down, 1), _column(b, across, 0))
            one = b.op("Mul", value, b.op("Unsqueeze", weight, b.ints(1)))
            total = one if total is None else b.op("Add", total, one)
    assert total is not None
    return b.op("Transpose", total, perm=(0, 2, 1))


def _axis_weights(
    b: Body, first: ir.Value, size: ir.Value, cells: ir.Value, pixels: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Weights float32 [N, cells, pixels] of boxes along one axis, and samples a bin int64 [N, 1, 1].

    first, size int64 [N, 1, 1] in 1/16 pixel; cells, pixels int64 [1].
    """

    def whole(value: int) -> ir.Value:
        return constant_of(b, value, np.int64)

    def count_up(end: ir.Value) -> ir.Value:
        return b.op("Range", whole(0), b.op("Squeeze", end), whole(1))

    bin_size = b.op("Mul", cells, whole(BOX))
    rounded = b.op("Sub", b.op("Add", size, bin_size), whole(1))
    count = b.op("Min", b.op("Div", rounded, bin_size), whole(MOST_SAMPLES))
    count = b.op("Max", count, whole(1))
    i = b.op("Unsqueeze", count_up(cells), b.ints(1))  # [cells, 1]
    s = count_up(b.ints(MOST_SAMPLES))
    twice = b.op("Mul", count, whole(2))
    odd = b.op("Add", b.op("Add", b.op("Mul", twice, i), b.op("Mul", s, whole(2))), whole(1))
    numerator = b.op(
        "Add", b.op("Mul", b.op("Mul", odd, whole(2)), size), b.op("Mul", count, cells)
    )  # [N, cells, samples]
    inner = b.op("Div", numerator, b.op("Mul", twice, cells))
    place = b.op("Add", b.op("Mul", first, whole(2)), inner)
    inside = b.op("And", b.op("GreaterOrEqual", place, whole(-SUB)), b.op("Less", s, count))
    limit = b.op("Mul", pixels, whole(SUB))
    inside = b.op("And", inside, b.op("LessOrEqual", place, limit))
    place = b.op("Max", b.op("Min", place, b.op("Sub", limit, whole(SUB))), whole(0))
    column = b.op("Unsqueeze", b.op("Cast", place, to=_FLOAT), b.ints(3))
    centres = b.op("Cast", b.op("Mul", count_up(pixels), whole(SUB)), to=_FLOAT)
    distance = b.op("Abs", b.op("Sub", column, centres))
    share = b.op("Relu", b.op("Sub", constant_of(b, SUB, np.float32), distance))
    valid = b.op("Unsqueeze", b.op("Cast", inside, to=_FLOAT), b.ints(3))
    return b.op("ReduceSum", b.op("Mul", share, valid), b.ints(2), keepdims=0), count


def _crop(b: Body, x: ir.Value, boxes: ir.Value) -> ir.Value:
    sizes = b.op("Shape", x)
    scaled = b.op("Mul", boxes, constant_of(b, BOX, np.float32))
    furthest = [constant_of(b, sign * FURTHEST, np.float32) for sign in (-1, 1)]
    corners = b.op("Cast", b.op("Round", limited(b, scaled, *furthest)), to=_INT64)
    corners = b.op("Unsqueeze", corners, b.ints(2))  # [N, 4, 1]
    weights, counts = [], []
    for index, name in ((1, "height"), (0, "width")):
        first = b.op("Slice", corners, b.ints(index), b.ints(index + 1), b.ints(1))
        last = b.op("Slice", corners, b.ints(index + 2), b.ints(index + 3), b.ints(1))
        size = b.op("Max", b.op("Sub", last, first), constant_of(b, 1, np.int64))
        size = b.op("Min", size, constant_of(b, LONGEST, np.int64))
        pixels = b.pick(sizes, 3 - index, 4 - index)
        weight, count = _axis_weights(b, first, size, _attribute(b, name), pixels)
        weights.append(b.op("Unsqueeze", weight, b.ints(1)))
        counts.append(b.op("Unsqueeze", count, b.ints(1)))
    levels = b.op("Round", b.op("Mul", x, constant_of(b, LEVELS, np.float32)))
    across = b.op("Transpose", weights[1], perm=(0, 1, 3, 2))
    total = b.op("MatMul", b.op("MatMul", weights[0], levels), across)
    total = b.op(
        "Round", total
    )  # whole already; else a constant divisor becomes a factor of the product in front
    samples = b.op("Mul", b.op("Mul", *counts), constant_of(b, LEVELS * SUB * SUB, np.int64))
    return b.op("Div", total, b.op("Cast", samples, to=_FLOAT))


MAP_OPERATORS: dict[str, tuple[Callable[..., ir.Value], tuple[str, ...], dict[str, ir.AttributeType]]] = {
    "Crop": (_crop, ("x", "boxes"), {"height": _INT, "width": _INT}),
    "HeatMap": (_heat_map, ("x",), {"depth": _INT}),
    "SamplePoints": (_sample_points, ("x", "points"), {}),
    "SoftArgmax": (_soft_argmax, ("x",), {"depth": _INT, "axes": _INT}),
}
"""Name -> what emits the body, its inputs, its attributes."""

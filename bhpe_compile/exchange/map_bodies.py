"""Bodies of the operators between heat maps and crops, in standard ONNX operations.

    HeatMap       logits [N, J depth, H, W] -> softmax over the cells of each joint, same shape
    SoftArgmax    logits [N, J depth, H, W] -> expected (x, y, z) or its first `axes` coordinates, [N, J, axes]

Formulas stand in `networks/layers/grids.py`; the order of operations is the kernels' order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.networks.layers.grids import CELL, LOWEST, OCTAVES, STEPS_PER_NAT, TABLE, TABLE_BITS

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
    return b.op("Constant", value=ir.AttrTensor("value", ir.tensor(array)))


def _number(b: Body, value: float, dtype: type[np.generic]) -> ir.Value:
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
    lowest = _number(b, float(LOWEST), np.float32)
    steps = b.op("Mul", below, _number(b, float(STEPS_PER_NAT), np.float32))
    steps = b.op("Where", b.op("Greater", steps, lowest), steps, lowest)
    whole = b.op("Cast", b.op("Round", steps), to=_INT64)
    k = b.op("Add", whole, _number(b, -int(LOWEST), np.int64))
    octave = _shift_right(b, k, _number(b, TABLE_BITS, np.int64))
    place = b.op("Sub", k, b.op("Mul", octave, _number(b, 1 << TABLE_BITS, np.int64)))
    found = b.op("Gather", _constant(b, TABLE), place)
    return _shift_right(b, found, b.op("Sub", _number(b, OCTAVES, np.int64), octave)), split


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
        places = b.op("Range", _number(b, 0, np.int64), count, _number(b, 1, np.int64))
        columns.append(b.op("ReduceSum", b.op("Mul", line, places), b.ints(2), keepdims=1))
    sums = b.op("Cast", b.op("Concat", *columns, axis=2), to=_DOUBLE)
    total = b.op("Cast", b.op("ReduceSum", cells, b.ints(2), keepdims=1), to=_DOUBLE)
    mean = b.op("Div", b.op("Mul", sums, _number(b, CELL, np.float64)), total)
    whole = b.op("Floor", b.op("Add", mean, _number(b, 0.5, np.float64)))
    place = b.op("Mul", b.op("Cast", whole, to=_FLOAT), _number(b, 1 / CELL, np.float32))
    return b.op("Slice", place, b.ints(0), _attribute(b, "axes"), b.ints(2))


MAP_OPERATORS: dict[
    str, tuple[Callable[..., ir.Value], tuple[str, ...], dict[str, ir.AttributeType]]
] = {
    "HeatMap": (_heat_map, ("x",), {"depth": _INT}),
    "SoftArgmax": (_soft_argmax, ("x",), {"depth": _INT, "axes": _INT}),
}
"""Name -> what emits the body, its inputs, its attributes."""

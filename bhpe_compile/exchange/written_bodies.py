"""Bodies of what stands behind the last level: formulas of `networks/layers/written.py` in standard ONNX operations.

RotationVector   x [n, 6] -> [n, 3]
Logistic         x -> 1 / (1 + e^-x)
CellMean         x [N, C, H, W] -> [N, C], the mean of rint(4096 x) / 4096
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.map_bodies import Body, constant_of
from bhpe_compile.networks.layers import written
from bhpe_compile.networks.layers.grids import MEAN
from bhpe_compile.networks.layers.written import FIRST_POWER, POWERS, Term

_FLOAT, _DOUBLE, _INT64 = (int(t) for t in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64))

OPERATIONS = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "sqrt": "Sqrt", "rint": "Round"},
    **{"less": "Less", "choose": "Where"},
}


@dataclass(frozen=True)
class OnnxArithmetic:
    """On float32 values of a body."""

    body: Body

    def number(self, value: float) -> Any:
        return constant_of(self.body, value, np.float32)

    def operation(self, name: str, *values: Any) -> Any:
        b = self.body
        if name != "power":
            return b.op(OPERATIONS[name], *values)
        place = b.op("Sub", b.op("Cast", values[0], to=_INT64), constant_of(b, FIRST_POWER, np.int64))
        table = b.op("Constant", value=ir.AttrTensor("value", ir.Tensor(POWERS)))
        return b.op("Gather", table, place)


def _rotation_vector(b: Body, x: ir.Value) -> ir.Value:
    by = OnnxArithmetic(b)
    columns = [b.op("Gather", x, constant_of(b, i, np.int64), axis=1) for i in range(6)]
    found = written.rotation_vector([Term(column, by) for column in columns])
    return b.op("Concat", *(b.op("Unsqueeze", term.value, b.ints(1)) for term in found), axis=1)


def _logistic(b: Body, x: ir.Value) -> ir.Value:
    result: ir.Value = written.logistic(Term(x, OnnxArithmetic(b))).value
    return result


def _cell_mean(b: Body, x: ir.Value) -> ir.Value:
    whole = b.op("Cast", b.op("Round", b.op("Mul", x, constant_of(b, MEAN, np.float32))), to=_DOUBLE)
    total = b.op("ReduceSum", whole, b.ints(2, 3), keepdims=0)
    count = b.op("ReduceProd", b.pick(b.op("Shape", x), 2, 4), keepdims=0)
    parts = b.op("Cast", b.op("Mul", count, constant_of(b, MEAN, np.int64)), to=_DOUBLE)
    return b.op("Cast", b.op("Div", total, parts), to=_FLOAT)


WRITTEN_OPERATORS: dict[str, tuple[Callable[..., ir.Value], tuple[str, ...], dict[str, ir.AttributeType]]] = {
    "CellMean": (_cell_mean, ("x",), {}),
    "Logistic": (_logistic, ("x",), {}),
    "RotationVector": (_rotation_vector, ("x",), {}),
}
"""Name -> what emits the body, its inputs, its attributes."""

"""The body of FixedPointLinear in standard ONNX operations; the formula stands in `networks/layers/fixed_point.py`.

    FixedPointLinear   x [N, K], weight int8 [O, K], scale [O], bias [O] -> [N, O]

MatMulInteger multiplies unsigned bytes with zero point 128: with signed weights ONNX Runtime saturates on processors
with AVX2 and without VNNI.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.map_bodies import Body, constant_of, limited
from bhpe_compile.networks.layers.grids import FIXED, FIXED_OFFSET, PLANES

_FLOAT, _INT32, _UINT32, _UINT8 = (
    int(t) for t in (ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.UINT32, ir.DataType.UINT8)
)


def _fixed_point_linear(b: Body, x: ir.Value, weight: ir.Value, scale: ir.Value, bias: ir.Value) -> ir.Value:
    whole = b.op("Round", b.op("Mul", x, constant_of(b, FIXED, np.float32)))
    bounds = [constant_of(b, end, np.float32) for end in (-FIXED_OFFSET, (1 << 24) - 1 - FIXED_OFFSET)]
    moved = b.op(
        "Add",
        b.op("Cast", limited(b, whole, *bounds), to=_INT32),
        constant_of(b, FIXED_OFFSET, np.int32),
    )
    words = b.op("Cast", moved, to=_UINT32)
    unsigned = b.op("Add", b.op("Cast", weight, to=_INT32), constant_of(b, 128, np.int32))
    columns = b.op("Transpose", b.op("Cast", unsigned, to=_UINT8), perm=(1, 0))
    middle = constant_of(b, 128, np.uint8)
    y = bias
    for plane in range(PLANES):
        shifted = b.op("BitShift", words, constant_of(b, 8 * plane, np.uint32), direction="RIGHT")
        digits = b.op("BitwiseAnd", shifted, constant_of(b, 255, np.uint32))
        dot = b.op("MatMulInteger", b.op("Cast", digits, to=_UINT8), columns, middle, middle)
        step = b.op("Mul", scale, constant_of(b, 256**plane, np.float32))
        y = b.op("Add", b.op("Mul", b.op("Cast", dot, to=_FLOAT), step), y)
    return y


LINEAR_OPERATORS: dict[str, tuple[Callable[..., ir.Value], tuple[str, ...], dict[str, ir.AttributeType]]] = {
    "FixedPointLinear": (_fixed_point_linear, ("x", "weight", "scale", "bias"), {})
}
"""Name -> what emits the body, its inputs, its attributes."""

"""FixedPointLinear   ->   FixedPointLinear(FixedPointSplit(x)), two kernels."""

from __future__ import annotations

import onnx_ir as ir

from bhpe_compile.errors import InputError
from bhpe_compile.exchange.functions import DOMAIN
from bhpe_compile.passes.lower import graph as g


def linear_kernel(graph: ir.Graph, node: ir.Node) -> ir.Node | None:
    """The kernel node of `node`, the one that splits its input inserted in front; None where it is no such layer."""
    if node.domain != DOMAIN or node.op_type != "FixedPointLinear":
        return None
    x, *constants = node.inputs
    operands: dict[str, ir.Value] = {}
    for role, value in zip(("weight", "scale", "bias"), constants, strict=True):
        if value is None or g.array_of(value) is None:
            raise InputError(f"layer {node.name}: its {role} is computed at run time")
        operands[role] = value
    if x is None:
        raise InputError(f"layer {node.name}: no input")
    name = node.name or ""
    batch, features = g.shape_of(x)
    levels = g.new_value(f"{name}.planes", (batch, 3, features), ir.DataType.UINT8)
    graph.insert_before(node, g.kernel_node("FixedPointSplit", name, {"x": x}, {"out": levels}, {}))
    out = g.new_value(f"{node.outputs[0].name}_k", g.shape_of(node.outputs[0]))
    return g.kernel_node("FixedPointLinear", name, {"x": levels, **operands}, {"out": out}, {})

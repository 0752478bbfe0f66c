"""Kernel nodes of the operators between heat maps and crops, and behind the last level.

An operator becomes the kernel of the same name: HeatMap, SoftArgmax, SamplePoints, Crop; CellMean, Logistic,
RotationVector.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN
from bhpe_compile.passes.lower import graph as g


def _crop(node: ir.Node) -> dict[str, g.AttributeValue]:
    return {"out_height": g.integer(node, "height"), "out_width": g.integer(node, "width")}


def _heat_map(node: ir.Node) -> dict[str, g.AttributeValue]:
    return {"depth": g.integer(node, "depth")}


def _nothing(_: ir.Node) -> dict[str, g.AttributeValue]:
    return {}


def _soft_argmax(node: ir.Node) -> dict[str, g.AttributeValue]:
    return {"depth": g.integer(node, "depth"), "axes": g.integer(node, "axes")}


_KINDS: dict[str, tuple[tuple[str, ...], Callable[[ir.Node], dict[str, g.AttributeValue]]]] = {
    **dict.fromkeys(("CellMean", "Logistic", "RotationVector"), (("x",), _nothing)),
    "Crop": (("x", "boxes"), _crop),
    "HeatMap": (("x",), _heat_map),
    "SamplePoints": (("x", "points"), _nothing),
    "SoftArgmax": (("x",), _soft_argmax),
}
"""Operator -> the roles of its inputs, what its kernel has to know."""


def map_kernel(node: ir.Node) -> ir.Node | None:
    """The kernel node of `node`, or None where it is no such operator."""
    if node.domain != DOMAIN or node.op_type not in _KINDS:
        return None
    roles, facts = _KINDS[node.op_type]
    operands = {role: value for role, value in zip(roles, node.inputs, strict=True) if value is not None}
    out = g.new_value(f"{node.outputs[0].name}_k", g.shape_of(node.outputs[0]))
    return g.kernel_node(node.op_type, node.name or "", operands, {"out": out}, facts(node))

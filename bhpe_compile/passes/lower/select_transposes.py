"""The transposes that remain between channels first and channels last get a kernel of ours.

    Transpose(perm 0,2,3,1 | 0,3,1,2)   ->   kernel TransposeChannels          float32

They stand at the borders of the network and around what needs ONNX's layout; runs last, when the others have cancelled.
"""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.channel_last import TO_FIRST, TO_LAST


def _is_join(node: ir.Node) -> bool:
    """Whether maps of floats are joined along the last axis."""
    if node.op_type != "Concat" or node.domain not in ("", "ai.onnx") or len(node.inputs) < 2:
        return False
    shape = g.shape_of(node.outputs[0])
    floats = all(
        v is not None and v.dtype in (None, ir.DataType.FLOAT) and g.array_of(v) is None for v in node.inputs
    )
    return len(shape) == 4 and g.integer(node, "axis") in (3, -1) and floats


class SelectTransposes(Pass[ir.Model]):
    """Transpose, and Concat of channels -> kernel nodes."""

    name: ClassVar[str] = "select-transposes"
    summary: ClassVar[str] = "give the transposes that remain, and joins of channels, their own kernels"
    requires: ClassVar[tuple[str, ...]] = ("channel last",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.op_type == "Transpose" and node.domain in ("", "ai.onnx"):
                notes.append(self._select(graph.graph, node))
            elif _is_join(node):
                notes.append(self._join(graph.graph, node))
        return PassResult(graph, any(n.applied for n in notes), tuple(notes))

    def _join(self, graph: ir.Graph, node: ir.Node) -> Note:
        old = node.outputs[0]
        out = g.new_value(f"{old.name}_j", g.shape_of(old))
        sources = {f"x{k}": value for k, value in enumerate(node.inputs) if value is not None}
        new = g.kernel_node("JoinChannels", node.name or "", sources, {"out": out}, {"layout": "nhwc"})
        g.substitute(graph, node, new, {old: out})
        return self.applied(node.name or "", "computed by JoinChannels")

    def _select(self, graph: ir.Graph, node: ir.Node) -> Note:
        perm, x, old = g.integers(node, "perm", ()), node.inputs[0], node.outputs[0]
        name = node.name or ""
        if x is None or perm not in (TO_LAST, TO_FIRST):
            return self.refused(name, "it is no change between channels first and channels last")
        if x.dtype not in (None, ir.DataType.FLOAT):
            return self.refused(name, "only float32 has a kernel")
        out = g.new_value(f"{old.name}_t", g.shape_of(old))
        facts: dict[str, g.AttributeValue] = {"to_last": int(perm == TO_LAST), "layout": "nhwc"}
        new = g.kernel_node("TransposeChannels", name, {"x": x}, {"out": out}, facts)
        g.substitute(graph, node, new, {old: out})
        return self.applied(name, "computed by TransposeChannels")

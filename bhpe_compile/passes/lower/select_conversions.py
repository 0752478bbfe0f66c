"""The conversions between float32 and float16 that no other kernel took in get a kernel of ours.

    Cast(float32 -> float16 | float16 -> float32)   ->   kernel ConvertFloats

They remain where a map is kept whose channels fill no whole bytes. Runs last, when the others have taken theirs.
"""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g

FLOATS = {ir.DataType.FLOAT: "float32", ir.DataType.FLOAT16: "float16"}


class SelectConversions(Pass[ir.Model]):
    """Cast -> kernel nodes."""

    name: ClassVar[str] = "select-conversions"
    summary: ClassVar[str] = "give the float16 conversions that remain their own kernel"
    requires: ClassVar[tuple[str, ...]] = ("narrow storage",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.op_type == "Cast" and node.domain in ("", "ai.onnx"):
                notes.append(self._select(graph.graph, node))
        return PassResult(graph, any(n.applied for n in notes), tuple(notes))

    def _select(self, graph: ir.Graph, node: ir.Node) -> Note:
        x, old, name = node.inputs[0], node.outputs[0], node.name or ""
        if x is None or {x.dtype, old.dtype} != set(FLOATS):
            return self.refused(name, "it is no conversion between float32 and float16")
        assert old.dtype is not None
        out = g.new_value(f"{old.name}_c", g.shape_of(old), old.dtype)
        facts: dict[str, g.AttributeValue] = {"dtype": FLOATS[old.dtype], "layout": "nhwc"}
        g.substitute(
            graph, node, g.kernel_node("ConvertFloats", name, {"x": x}, {"out": out}, facts), {old: out}
        )
        return self.applied(name, "computed by ConvertFloats")

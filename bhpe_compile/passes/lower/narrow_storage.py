"""Kernels write and read float16 themselves where the graph rounds a value to it and back.

    kernel -> v -> Cast(float16) -> h -> Cast(float32) -> w -> kernel

    the reader      takes h in place of w: it widens what it loads
    the writer      writes h in place of v, when nothing else reads v: it rounds what it stores

Readers that are no kernels of ours keep the second cast.
"""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g

READ_ROLES = {
    **dict.fromkeys(g.CONV_KINDS, ("residual", "shortcut")),
    "MaxPool2d": ("x",),
    "Quantize": ("x",),
}
"""Operands that may be float16, by kernel."""

WRITERS = (*g.CONV_KINDS, "MaxPool2d")


class NarrowStorage(Pass[ir.Model]):
    """Cast pairs between kernels -> float16 buffers."""

    name: ClassVar[str] = "narrow-storage"
    summary: ClassVar[str] = "let kernels store and load float16 where the graph rounds to it"
    requires: ClassVar[tuple[str, ...]] = ("packed activations", "quantized activations")
    ensures: ClassVar[tuple[str, ...]] = ("narrow storage",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if _is_cast(node, ir.DataType.FLOAT16):
                notes.append(self._narrow(graph.graph, node))
        return PassResult(graph, any(n.applied for n in notes), tuple(notes))

    def _narrow(self, graph: ir.Graph, cast: ir.Node) -> Note:
        half, source = cast.outputs[0], cast.inputs[0]
        name = cast.name or ""
        if source is None:
            return self.refused(name, "it has no input")
        for back in [use.node for use in half.uses() if _is_cast(use.node, ir.DataType.FLOAT)]:
            for use in list(back.outputs[0].uses()):
                if g.is_kernel(use.node) and g.roles(use.node)[use.idx] in READ_ROLES.get(
                    use.node.op_type, ()
                ):
                    use.node.replace_input_with(use.idx, half)
            if not list(back.outputs[0].uses()) and not back.outputs[0].is_graph_output():
                g.detach(graph, back)
        producer = source.producer()
        if producer is None or not g.is_kernel(producer, *WRITERS) or g.result(producer, "out") is not source:
            return self.refused(name, "no kernel of ours writes it: rounded by a loop of its own")
        if len(list(source.uses())) != 1:
            return self.refused(name, "its float32 value is read as well")
        ir.convenience.replace_all_uses_with(half, source)
        g.detach(graph, cast)
        source.dtype = ir.DataType.FLOAT16
        return self.applied(producer.name or "", "writes float16")


def _is_cast(node: ir.Node, kind: ir.DataType) -> bool:
    return node.op_type == "Cast" and node.domain in ("", "ai.onnx") and g.integer(node, "to") == int(kind)

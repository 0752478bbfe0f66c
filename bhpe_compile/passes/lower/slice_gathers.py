"""x[i] with a constant i is a slice: no index arithmetic at run time, and TVM fuses it.

Gather(x, i, axis)   ->   Reshape(Slice(x, i, i + 1, axis))        i a constant scalar
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g


class SliceGathers(Pass[ir.Model]):
    """Gather with one constant index -> Slice."""

    name: ClassVar[str] = "slice-gathers"
    summary: ClassVar[str] = "turn picking one row or column into a slice"

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.op_type != "Gather" or node.domain not in ("", "ai.onnx"):
                continue
            index = g.array_of(node.inputs[1])
            if index is None or index.ndim != 0 or node.inputs[0] is None:
                notes.append(self.refused(node.name or "", "its index is not one constant"))
                continue
            self._replace(graph.graph, node, node.inputs[0], int(index))
            notes.append(self.applied(node.name or "", f"slice at {int(index)}"))
        return PassResult(graph, any(n.applied for n in notes), tuple(notes))

    @staticmethod
    def _replace(graph: ir.Graph, node: ir.Node, x: ir.Value, index: int) -> None:
        shape = g.shape_of(x)
        axis = g.integer(node, "axis") % len(shape)
        index %= shape[axis]
        name = node.name or "gather"
        bounds = [
            g.constant(graph, f"{name}.{word}", np.array([value], np.int64))
            for word, value in (("first", index), ("last", index + 1), ("axis", axis))
        ]
        piece = g.new_value(f"{name}.piece", (*shape[:axis], 1, *shape[axis + 1 :]))
        graph.insert_before(node, ir.Node("", "Slice", [x, *bounds], outputs=[piece], name=f"{name}.slice"))
        old = node.outputs[0]
        out = g.new_value(f"{old.name}_s", g.shape_of(old))
        target = g.constant(graph, f"{name}.shape", np.array(g.shape_of(old), np.int64))
        g.substitute(
            graph, node, ir.Node("", "Reshape", [piece, target], outputs=[out], name=name), {old: out}
        )

"""A Hardtanh in front of a sign does nothing, as long as the threshold lies inside it.

    clip(x, -1, 1) >= t   <=>   x >= t            for -1 < t <= 1

The sign then reads x itself; a Hardtanh nobody else reads disappears.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.nodes import array_of, detach, is_binary
from bhpe_compile.passes.base import Note, Pass, PassResult


class DropDeadHardtanh(Pass[ir.Model]):
    """Signs read past a Hardtanh."""

    name: ClassVar[str] = "drop-dead-hardtanh"
    summary: ClassVar[str] = "remove the clipping in front of a sign, which cannot change the sign"

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes = [
            note
            for node in self.visit(list(graph.graph))
            if is_binary(node)
            for note in self._visit(graph.graph, node)
        ]
        return PassResult(graph, any(n.applied for n in notes), tuple(notes))

    def _visit(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        notes: list[Note] = []
        while found := self._drop(graph, node):
            notes += found
            if not found[0].applied:
                break
        return notes

    def _drop(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        value = node.inputs[0]
        clip = value.producer() if value is not None else None
        if value is None or clip is None or clip.op_type != "Clip" or len(clip.inputs) < 3:
            return []
        name = node.name or ""
        low, high, threshold = array_of(clip.inputs[1]), array_of(clip.inputs[2]), array_of(node.inputs[1])
        if low is None or high is None or threshold is None:
            return [self.refused(name, "bounds or threshold are computed at run time")]
        if not (np.all(threshold > low) and np.all(threshold <= high)):
            bounds = f"({low.item():g}, {high.item():g}]"
            return [self.refused(name, f"a threshold lies outside {bounds}: the clipping decides it")]
        node.replace_input_with(0, clip.inputs[0])
        if list(value.uses()) or value.is_graph_output():
            return [self.applied(name, "its sign reads past the Hardtanh, which others still read")]
        detach(graph, clip)
        return [self.applied(name, "the Hardtanh in front is gone")]

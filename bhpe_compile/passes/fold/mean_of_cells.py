"""The mean over all cells of a map, where fixed-point linear layers read it, is a sum of whole numbers.

    ReduceMean(x, axes 2, 3), GlobalAveragePool(x)   ->   CellMean(x), the mean of rint(4096 x) / 4096

Its readers, through changes of shape and Concat, are linear layers that round what they read to 1/4096 themselves
(`quantize-linear`), so nothing is lost; and every runtime and every kernel gets the same bits, which a float sum of
many terms does not give. Other readers keep the mean they have, but in an imported network: nobody trained it to its
last digits, and 8-bit levels are read soon behind.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN, attach_bodies
from bhpe_compile.exchange.nodes import array_of, constant, new_value, shape_of, substitute
from bhpe_compile.passes.base import Note, Pass, PassResult

SHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Identity")
"""Operations that hand values on."""


class MeanOfCells(Pass[ir.Model]):
    """Means in front of fixed-point linear layers -> CellMean."""

    name: ClassVar[str] = "mean-of-cells"
    summary: ClassVar[str] = "means of maps that linear layers read are sums of whole numbers"
    requires: ClassVar[tuple[str, ...]] = ("fixed-point linear layers",)

    def __init__(self, imported: bool = False) -> None:
        """imported: whatever reads the means."""
        self.imported = imported

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if _is_mean(node):
                notes.append(self._write(graph.graph, node))
        modified = any(note.applied for note in notes)
        if modified:
            attach_bodies(graph)
        return PassResult(graph, modified, tuple(notes))

    def _write(self, graph: ir.Graph, node: ir.Node) -> Note:
        name, y = node.name or "", node.outputs[0]
        if not (self.imported or _feeds_linear_layers(y)):
            return self.refused(name, "not every reader is a fixed-point linear layer")
        x = shape_of(node.inputs[0])
        mean = new_value(f"{y.name}_cells", x[:2])
        new = ir.Node(DOMAIN, "CellMean", [node.inputs[0]], outputs=[mean], name=name)
        if len(shape_of(y)) == 2:
            substitute(graph, node, new, {y: mean})
        else:
            graph.insert_before(node, new)
            shape = constant(graph, f"{name}.shape", np.array(shape_of(y), np.int64))
            out = new_value(f"{y.name}_kept", shape_of(y))
            back = ir.Node("", "Reshape", [mean, shape], outputs=[out], name=f"{name}.kept")
            substitute(graph, node, back, {y: out})
        return self.applied(name, f"{x[2]}x{x[3]} cells are added as whole numbers of 1/4096")


def _is_mean(node: ir.Node) -> bool:
    if node.domain != "" or len(shape_of(node.inputs[0]) if node.inputs else ()) != 4:
        return False
    if node.op_type == "GlobalAveragePool":
        return True
    axes = array_of(node.inputs[1]) if node.op_type == "ReduceMean" and len(node.inputs) > 1 else None
    return axes is not None and sorted(int(one) % 4 for one in axes.reshape(-1)) == [2, 3]


def _feeds_linear_layers(value: ir.Value) -> bool:
    uses = list(value.uses())
    if not uses or value.is_graph_output():
        return False
    return all(
        use.node.op_type == "FixedPointLinear"
        or (use.node.op_type in SHAPES and _feeds_linear_layers(use.node.outputs[0]))
        for use in uses
    )

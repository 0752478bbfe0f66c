"""Windows along one axis become windows of one row: convolutions and pools of [N, C, L] work on [N, C, 1, L]."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.nodes import array_of, constant, integers, new_value, shape_of, substitute
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.imported.linear_layers import is_standard, reshaped
from bhpe_compile.passes.imported.name_layers import own_name

WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
LISTS = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}
"""Attributes with a number an axis, and the number of the new axis."""


class FlatWindows(Pass[ir.Model]):
    """[N, C, L] -> [N, C, 1, L] around every window along one axis."""

    name: ClassVar[str] = "flat-windows"
    summary: ClassVar[str] = "give windows along one axis a second axis of length one"

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if is_standard(node, *WINDOWS) and len(shape_of(node.inputs[0])) == 3:
                notes.append(self._widen(graph.graph, node))
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _widen(self, graph: ir.Graph, node: ir.Node) -> Note:
        name, x = own_name(node) or node.op_type, node.inputs[0]
        weighted = node.op_type in ("Conv", "ConvTranspose")
        weight = array_of(node.inputs[1]) if weighted else None
        if x is None or len(node.outputs) > 1 or (weighted and weight is None):
            return self.refused(name, "its weights are computed at run time, or it has two results")
        shape, out_shape = shape_of(x), shape_of(node.outputs[0])
        dtype = node.outputs[0].dtype or ir.DataType.FLOAT
        inputs: list[ir.Value | None] = [
            reshaped(graph, node, x, (*shape[:2], 1, shape[2]), f"{name}.map"),
            *node.inputs[1:],
        ]
        if weight is not None:
            inputs[1] = constant(graph, f"{name}.weight", np.ascontiguousarray(weight[:, :, None, :]))
        attributes = dict(node.attributes)
        for key, one in LISTS.items():
            if key in attributes:
                attributes[key] = ir.AttrInt64s(key, [one, *integers(node, key, ())])
        if "pads" in attributes:
            front, back = integers(node, "pads", ())
            attributes["pads"] = ir.AttrInt64s("pads", [0, front, 0, back])
        out = new_value(f"{name}.wide", (*out_shape[:2], 1, out_shape[2]), dtype)
        wide = ir.Node("", node.op_type, inputs, list(attributes.values()), outputs=[out], name=name)
        graph.insert_before(node, wide)
        target = constant(graph, f"{name}.shape", np.array(out_shape, np.int64))
        old, back_value = node.outputs[0], new_value(f"{name}.back", out_shape, dtype)
        back_node = ir.Node("", "Reshape", [out, target], outputs=[back_value], name=f"{name}.back")
        substitute(graph, node, back_node, {old: back_value})
        return self.applied(name, "a window of one row")

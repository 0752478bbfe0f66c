"""A transposed convolution whose windows do not overlap is a 1x1 convolution, its outputs spread over pixels.

    ConvTranspose, kernel = stride = (a, b), no padding    ->    Conv 1x1 to a b C channels, Reshape, Transpose, Reshape

Every output pixel reads one input pixel, so nothing is added up that was not before.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.nodes import (
    array_of,
    constant,
    integer,
    integers,
    new_value,
    shape_of,
    substitute,
    text,
)
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.imported.linear_layers import is_standard
from bhpe_compile.passes.imported.name_layers import own_name


class SpreadLayers(Pass[ir.Model]):
    """ConvTranspose without overlap -> Conv and a change of layout."""

    name: ClassVar[str] = "spread-layers"
    summary: ClassVar[str] = "compute transposed convolutions without overlap as 1x1 convolutions"
    requires: ClassVar[tuple[str, ...]] = ("imported layers",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes = [
            self._spread(graph.graph, node)
            for node in self.visit(list(graph.graph))
            if is_standard(node, "ConvTranspose")
        ]
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _spread(self, graph: ir.Graph, node: ir.Node) -> Note:
        name, weight, x = own_name(node) or "deconv", array_of(node.inputs[1]), node.inputs[0]
        if weight is None or x is None or weight.ndim != 4 or integer(node, "group", 1) != 1:
            return self.refused(name, "its weights are computed at run time, or it has groups")
        inner, outer, rows, columns = weight.shape
        plain = (
            integers(node, "strides", (1, 1)) == (rows, columns)
            and not any(integers(node, "pads", (0, 0, 0, 0)))
            and not any(integers(node, "output_padding", (0, 0)))
            and all(one == 1 for one in integers(node, "dilations", (1, 1)))
            and text(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
            and "output_shape" not in node.attributes
        )
        if not plain or (rows, columns) == (1, 1):
            return self.refused(name, "its windows overlap or have gaps, or it is padded")
        added = node.inputs[2] if len(node.inputs) > 2 else None
        bias = array_of(added)
        if added is not None and bias is None:
            return self.refused(name, "its bias is computed at run time")
        batch, _, height, width = shape_of(x)
        # output channel (o, i, j) of the 1x1 convolution is pixel (i, j) of channel o
        flat = weight.transpose(1, 2, 3, 0).reshape(outer * rows * columns, inner, 1, 1)
        inputs = [x, constant(graph, f"{name}.weight", np.ascontiguousarray(flat))]
        if bias is not None:
            inputs.append(constant(graph, f"{name}.bias", np.repeat(bias, rows * columns)))
        mixed = new_value(f"{name}.mixed", (batch, len(flat), height, width))
        split = new_value(f"{name}.split", (batch, outer, rows, columns, height, width))
        moved = new_value(f"{name}.moved", (batch, outer, height, rows, width, columns))
        out = new_value(f"{name}.spread", (batch, outer, height * rows, width * columns))
        shapes = [
            constant(graph, f"{name}.{word}", np.array(shape_of(value), np.int64))
            for word, value in (("split_shape", split), ("spread_shape", out))
        ]
        conv = ir.Node("", "Conv", inputs, [ir.AttrInt64s("pads", [0] * 4)], outputs=[mixed], name=name)
        apart = ir.Node("", "Reshape", [mixed, shapes[0]], outputs=[split], name=f"{name}.split")
        order = [ir.AttrInt64s("perm", [0, 1, 4, 2, 5, 3])]
        move = ir.Node("", "Transpose", [split], order, outputs=[moved], name=f"{name}.move")
        for one in (conv, apart, move):
            graph.insert_before(node, one)
        join = ir.Node("", "Reshape", [moved, shapes[1]], outputs=[out], name=f"{name}.spread")
        substitute(graph, node, join, {node.outputs[0]: out})
        return self.applied(
            name, f"a 1x1 convolution to {len(flat)} channels, spread over {rows}x{columns} pixels"
        )

"""Forms of operators that say the same as others become those others, which every storey below knows.

Tile(x, r), r constant          -> Reshape, Expand, Reshape
Dropout(x)                      -> x                           its mask, where it is read, is refused
ConvTranspose with output_shape -> with pads and output_padding
Pow(x, e), e constant integers  -> Pow(x, float(e))
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.errors import InputError
from bhpe_compile.exchange.nodes import array_of, constant, integers, new_value, shape_of, substitute, text
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.imported.linear_layers import is_standard


class PlainForms(Pass[ir.Model]):
    """Other forms -> plain ones."""

    name: ClassVar[str] = "plain-forms"
    summary: ClassVar[str] = "write forms of operators that say the same in one way"

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if is_standard(node, "Tile"):
                notes.append(self._tile(graph.graph, node))
            elif is_standard(node, "Dropout"):
                notes.append(self._dropout(graph.graph, node))
            elif is_standard(node, "ConvTranspose") and "output_shape" in node.attributes:
                notes.append(self._output_shape(node))
            elif is_standard(node, "Pow"):
                notes += self._pow(graph.graph, node)
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _tile(self, graph: ir.Graph, node: ir.Node) -> Note:
        x, repeats, name = node.inputs[0], array_of(node.inputs[1]), node.name or "tile"
        if x is None or repeats is None:
            return self.refused(name, "how often it repeats is computed at run time")
        shape, dtype = shape_of(x), x.dtype or ir.DataType.FLOAT
        apart = tuple(extent for one in shape for extent in (1, one))
        spread = tuple(
            extent for one, times in zip(shape, repeats, strict=True) for extent in (int(times), one)
        )
        value = x
        for kind, wanted, word in (
            ("Reshape", apart, "apart"),
            ("Expand", spread, "spread"),
            ("Reshape", shape_of(node.outputs[0]), "together"),
        ):
            out = new_value(f"{name}.{word}", wanted, dtype)
            target = constant(graph, f"{name}.{word}.shape", np.array(wanted, np.int64))
            one = ir.Node("", kind, [value, target], outputs=[out], name=f"{name}.{word}")
            if word == "together":
                substitute(graph, node, one, {node.outputs[0]: out})
            else:
                graph.insert_before(node, one)
            value = out
        return self.applied(name, "repeated by Expand")

    def _dropout(self, graph: ir.Graph, node: ir.Node) -> Note:
        name = node.name or "dropout"
        mask = node.outputs[1] if len(node.outputs) > 1 else None
        training = array_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        if len(node.inputs) > 2 and node.inputs[2] is not None and (training is None or training.any()):
            raise InputError(f"node Dropout ({name}): is in training mode; export the model in eval mode")
        if mask is not None and (mask.is_graph_output() or list(mask.uses())):
            raise InputError(f"node Dropout ({name}): its mask is read; export the model in eval mode")
        out = new_value(f"{name}.same", shape_of(node.outputs[0]), node.outputs[0].dtype or ir.DataType.FLOAT)
        same = ir.Node("", "Identity", [node.inputs[0]], outputs=[out], name=name)
        substitute(graph, node, same, {node.outputs[0]: out})
        return self.applied(name, "does nothing outside of training")

    def _output_shape(self, node: ir.Node) -> Note:
        """total = stride (x - 1) + output_padding + reach - y, shared between front and back."""
        x, y = shape_of(node.inputs[0])[2:], shape_of(node.outputs[0])[2:]
        rank = len(x)
        kernel = shape_of(node.inputs[1])[2:]
        strides, dilations = (integers(node, word, (1,) * rank) for word in ("strides", "dilations"))
        more = list(integers(node, "output_padding", (0,) * rank))
        upper = text(node, "auto_pad", "NOTSET") == "SAME_UPPER"
        pads = [0] * (2 * rank)
        for axis in range(rank):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            total = strides[axis] * (x[axis] - 1) + more[axis] + reach - y[axis]
            if total < 0:
                more[axis], total = more[axis] - total, 0
            small, large = total // 2, total - total // 2
            pads[axis], pads[axis + rank] = (small, large) if upper else (large, small)
        for word in ("output_shape", "auto_pad"):
            node.attributes.pop(word, None)
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
        node.attributes["output_padding"] = ir.AttrInt64s("output_padding", more)
        return self.applied(node.name or "", f"its size by pads {pads}")

    def _pow(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        exponent, x = array_of(node.inputs[1]), node.inputs[0]
        if exponent is None or exponent.dtype.kind not in "iu" or x is None or x.dtype != ir.DataType.FLOAT:
            return []
        name = node.name or "pow"
        node.replace_input_with(1, constant(graph, f"{name}.exponent", exponent.astype(np.float32)))
        return [self.applied(name, "its exponents as floats")]

"""Padding is written out: four numbers on every convolution, and never moved across a sign.

auto_pad                         -> pads
Pad(0) . Conv                    -> Conv with larger pads           a padded 0 is a 0 either way
Pad(0) . binary convolution      stays: sign(0 - t) is +-1, while a binary layer's own padding is 0
"""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from bhpe_compile.exchange.functions import BINARY_CONVOLUTIONS, DOMAIN
from bhpe_compile.exchange.nodes import CONVOLUTIONS, array_of, detach, integers, only_use, shape_of, text
from bhpe_compile.passes.base import Note, Pass, PassResult

PADDED = (*CONVOLUTIONS, *BINARY_CONVOLUTIONS, "MaxPool", "AveragePool")


class ExplicitPadding(Pass[ir.Model]):
    """auto_pad and zero Pads become the pads of dense convolutions."""

    name: ClassVar[str] = "explicit-padding"
    summary: ClassVar[str] = "write out all padding; zero padding after a sign stays exact"
    ensures: ClassVar[tuple[str, ...]] = ("explicit padding",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.op_type not in PADDED:
                continue
            notes += self._auto_pad(node)
            if node.op_type == "Conv" or node.domain == DOMAIN:
                while merged := self._merge_pad(graph.graph, node):
                    notes += merged
                    if not merged[0].applied:
                        break
        return PassResult(graph, any(n.applied for n in notes), tuple(notes))

    def _auto_pad(self, node: ir.Node) -> list[Note]:
        mode = text(node, "auto_pad", "NOTSET")
        rank = len(shape_of(node.inputs[0])) - 2
        if mode == "NOTSET":
            if "pads" not in node.attributes and node.domain == "" and "output_shape" not in node.attributes:
                node.attributes["pads"] = ir.AttrInt64s("pads", [0] * (2 * rank))
                return [self.applied(node.name or "", "no padding written out as zeros")]
            return []
        x, y = shape_of(node.inputs[0])[2:], shape_of(node.outputs[0])[2:]
        if node.op_type == "ConvTranspose":
            x, y = y, x  # it is the gradient of a convolution that goes the other way
        kernel = integers(node, "kernel_shape", ()) or shape_of(node.inputs[1])[2:]
        strides, dilations = (integers(node, name, (1,) * rank) for name in ("strides", "dilations"))
        pads = [0] * (2 * rank)
        if mode != "VALID":
            for axis in range(rank):
                reach = (kernel[axis] - 1) * dilations[axis] + 1
                total = max((y[axis] - 1) * strides[axis] + reach - x[axis], 0)
                small, large = total // 2, total - total // 2
                first, last = (small, large) if mode == "SAME_UPPER" else (large, small)
                pads[axis], pads[axis + rank] = first, last
        node.attributes.pop("auto_pad")
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
        return [self.applied(node.name or "", f"auto_pad {mode} is {pads}")]

    def _merge_pad(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        value = node.inputs[0]
        pad = value.producer() if value is not None else None
        if value is None or pad is None or pad.op_type != "Pad":
            return []
        name = node.name or ""
        if node.domain == DOMAIN:
            why = "a padded 0 has a sign, the layer's own padding has none: the Pad in front stays"
            return [self.refused(name, why)]
        amounts = array_of(pad.inputs[1])
        axes = pad.inputs[3] if len(pad.inputs) > 3 else None
        fill = array_of(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] is not None else None
        constant = text(pad, "mode", "constant") == "constant" and (fill is None or not fill.any())
        if amounts is None or axes is not None or not constant or len(amounts) != 8 or (amounts < 0).any():
            return [self.refused(name, "the Pad in front is not a constant frame of zeros")]
        if amounts[[0, 1, 4, 5]].any() or only_use(value) is not node:
            return [self.refused(name, "the Pad in front pads channels or has other readers")]
        own = integers(node, "pads", (0, 0, 0, 0))
        node.attributes["pads"] = ir.AttrInt64s(
            "pads", [int(a) + p for a, p in zip(amounts[[2, 3, 6, 7]], own, strict=True)]
        )
        node.replace_input_with(0, pad.inputs[0])
        detach(graph, pad)
        return [self.applied(name, "the Pad in front joined its pads")]

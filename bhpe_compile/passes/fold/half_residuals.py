"""Feature maps that are kept for later are kept as float16: half the memory traffic of what binary layers leave.

    x   ->   Cast(Cast(x, float16), float32)       for the readers of x listed below

    1. everything but the binary layers, where binary layers and others read x (residuals, shortcuts): the signs are
       taken before the rounding, while x is in registers
    2. the addition of a full-precision branch to a binary one
    3. max pooling of a convolution: it only selects, so its result is exact in float16 as well

Relative error 2^-11 a rounding. The casts say in the file what the compiled kernels do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import onnx_ir as ir

from bhpe_compile.exchange.nodes import new_value, only_use, shape_of
from bhpe_compile.passes.base import Note, Pass, PassResult

BINARY = ("PackedBinaryConv2d", "PackedBinaryConvTranspose2d", "PackedBinaryLinear")
DENSE = ("Conv", "ConvTranspose")
CHAIN = ("ChannelAffine", "Relu")
"""What a convolution's kernel computes as well."""

Uses = list[tuple[ir.Node, int]]


class HalfResiduals(Pass[ir.Model]):
    """Cast pairs where feature maps go to memory."""

    name: ClassVar[str] = "half-residuals"
    summary: ClassVar[str] = "keep residuals and shortcuts in float16"
    requires: ClassVar[tuple[str, ...]] = ("packed weights",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            for value in node.outputs:
                uses, why = _stored_uses(value)
                if uses:
                    self._round(graph.graph, node, value, uses)
                    notes.append(self.applied(node.name or "", f"{value.name} is kept in float16: {why}"))
        return PassResult(graph, bool(notes), tuple(notes))

    @staticmethod
    def _round(graph: ir.Graph, producer: ir.Node, value: ir.Value, uses: Uses) -> None:
        narrow = new_value(f"{value.name}.half", shape_of(value), ir.DataType.FLOAT16)
        wide = new_value(f"{value.name}.rounded", shape_of(value))
        for source, target, kind in ((value, narrow, ir.DataType.FLOAT16), (narrow, wide, ir.DataType.FLOAT)):
            attribute = ir.AttrInt64("to", int(kind))
            cast = ir.Node("", "Cast", [source], [attribute], outputs=[target], name=f"{target.name}.cast")
            graph.insert_after(producer, cast)
            producer = cast
        for node, index in uses:
            node.replace_input_with(index, wide)


def _stored_uses(value: ir.Value) -> tuple[Uses, str]:
    """The uses of `value` that shall read it rounded, and why; none where it is not a feature map."""
    if value.shape is None or len(value.shape) != 4 or value.is_graph_output():
        return [], ""
    uses: Uses = [(use.node, use.idx) for use in value.uses()]
    others = [(node, index) for node, index in uses if not (node.op_type in BINARY and index == 0)]
    if any(node.op_type == "Cast" for node, _ in others):
        return [], ""
    if others and len(others) < len(uses):
        return others, "binary layers read its signs, others its values"
    return _branch(value, uses)


def _branch(value: ir.Value, uses: Sequence[tuple[ir.Node, int]]) -> tuple[Uses, str]:
    reader = only_use(value)
    if reader is None or _layer_behind(value) not in DENSE:
        return [], ""
    if reader.op_type == "MaxPool":
        return list(uses), "it is max-pooled"
    if reader.op_type == "Add":
        other = reader.inputs[1 - uses[0][1]]
        if other is not None and _layer_behind(other, ("RPReLU", *CHAIN)) in BINARY:
            return list(uses), "it is the shortcut of a binary layer"
    return [], ""


def _layer_behind(value: ir.Value, chain: tuple[str, ...] = CHAIN) -> str:
    """The operator of the layer that `value` comes from through operators its kernel computes, else ""."""
    node = value.producer()
    while node is not None and node.op_type in (*chain, "Add"):
        if node.op_type == "Add":
            if "RPReLU" not in chain:
                return ""
            found = [_layer_behind(v, chain) for v in node.inputs if v is not None]
            return next((kind for kind in found if kind in BINARY), "")
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return node.op_type if node is not None else ""

"""Feature maps that are kept for later are kept as float16: half the memory traffic of what binary layers leave.

    x   ->   Cast(Cast(x, float16), float32)       for the readers that `passes/half_maps.py` names

Relative error 2^-11 a rounding. The casts say in the file what the compiled kernels do. Maps that float16 does not hold
(`wide`, by the names of their values) stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import onnx_ir as ir

from bhpe_compile.exchange.functions import INT8, PACKED
from bhpe_compile.exchange.nodes import CONVOLUTIONS, is_packed, new_value, shape_of
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.half_maps import SMALLEST, Kind, rounded_uses

Use = tuple[ir.Node, int]
"""A node, and which of its inputs."""

KINDS: dict[str, Kind] = {
    **dict.fromkeys(PACKED, "binary"),
    **dict.fromkeys((*CONVOLUTIONS, *INT8), "dense"),
    **dict.fromkeys(("ChannelAffine", "Relu"), "norm"),
    **{"RPReLU": "rprelu", "Add": "sum", "MaxPool": "pool", "Cast": "half"},
}


class HalfResiduals(Pass[ir.Model]):
    """Cast pairs where feature maps go to memory."""

    name: ClassVar[str] = "half-residuals"
    summary: ClassVar[str] = "keep residuals and shortcuts in float16"
    requires: ClassVar[tuple[str, ...]] = ("packed weights",)

    def __init__(self, wide: Mapping[str, float] | None = None) -> None:
        self.wide = wide or {}
        """Values that stay float32, and their largest magnitudes."""

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            for value in node.outputs:
                uses, why = rounded_uses(MAPS, value)
                largest = self.wide.get(value.name or "")
                if uses and largest is not None:
                    reason = f"it reaches {largest:.3g}, float16 holds {SMALLEST:.2g} to 65504"
                    notes.append(self.refused(node.name or "", f"{value.name} stays float32: {reason}"))
                elif uses:
                    self._round(graph.graph, node, value, uses)
                    notes.append(self.applied(node.name or "", f"{value.name} is kept in float16: {why}"))
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    @staticmethod
    def _round(graph: ir.Graph, producer: ir.Node, value: ir.Value, uses: Sequence[Use]) -> None:
        narrow = new_value(f"{value.name}.half", shape_of(value), ir.DataType.FLOAT16)
        wide = new_value(f"{value.name}.rounded", shape_of(value))
        for source, target, kind in ((value, narrow, ir.DataType.FLOAT16), (narrow, wide, ir.DataType.FLOAT)):
            attribute = ir.AttrInt64("to", int(kind))
            cast = ir.Node("", "Cast", [source], [attribute], outputs=[target], name=f"{target.name}.cast")
            graph.insert_after(producer, cast)
            producer = cast
        for node, index in uses:
            node.replace_input_with(index, wide)


class _Maps:
    """A folded ONNX graph, as `half_maps` asks about it."""

    def uses(self, value: ir.Value) -> tuple[list[Use], list[Use]]:
        signs: list[Use] = []
        others: list[Use] = []
        if value.shape is not None and len(value.shape) == 4 and not value.is_graph_output():
            for node, index in value.uses():
                (signs if is_packed(node) and index == 0 else others).append((node, index))
        return signs, others

    def kind(self, use: Use) -> Kind:
        return KINDS.get(use[0].op_type, "other")

    def beside(self, use: Use, value: ir.Value) -> list[ir.Value]:
        node, index = use
        return [one for place, one in enumerate(node.inputs) if one is not None and place != index]

    def origin(self, value: ir.Value) -> tuple[Kind, list[ir.Value]]:
        node = value.producer()
        if node is None:
            return "other", []
        return KINDS.get(node.op_type, "other"), [one for one in node.inputs if one is not None]


MAPS = _Maps()

"""What an 8-bit layer reads and a later addition reads again is kept as float16 for the addition.

    x -> Int8Conv, x -> Add    ->    x -> Int8Conv, Cast(Cast(x, float16), float32) -> Add

Levels are taken before the rounding, while the map is in registers. Relative error 2^-11 a rounding, where a level is
2^-8 of the range: half the memory traffic for a fraction of a level. The range that the layer reads tells whether
float16 holds the map.
"""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from bhpe_compile.exchange.nodes import array_of, is_int8, new_value, shape_of
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.half_maps import does_not_fit

MOST_LEVEL = 255


class HalfShortcuts(Pass[ir.Model]):
    """Cast pairs in front of additions of what 8-bit layers read."""

    name: ClassVar[str] = "half-shortcuts"
    summary: ClassVar[str] = "keep what 8-bit layers and later additions read as float16 for the additions"

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            for value in node.outputs:
                if note := self._round(graph.graph, node, value):
                    notes.append(note)
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _round(self, graph: ir.Graph, node: ir.Node, value: ir.Value) -> Note | None:
        uses = list(value.uses())
        levels = [use.node for use in uses if is_int8(use.node) and use.idx == 0]
        sums = [use for use in uses if use.node.op_type == "Add" and use.node.domain in ("", "ai.onnx")]
        if not levels or not sums or len(levels) + len(sums) != len(uses):
            return None
        if value.is_graph_output() or len(shape_of(value)) != 4:
            return None
        step = array_of(levels[0].inputs[1])
        if step is None or does_not_fit(MOST_LEVEL * float(step)):
            return self.refused(node.name or "", f"float16 does not hold {value.name}")
        narrow = new_value(f"{value.name}.half", shape_of(value), ir.DataType.FLOAT16)
        wide = new_value(f"{value.name}.rounded", shape_of(value))
        after = node
        for source, target, kind in ((value, narrow, ir.DataType.FLOAT16), (narrow, wide, ir.DataType.FLOAT)):
            attribute = ir.AttrInt64("to", int(kind))
            cast = ir.Node("", "Cast", [source], [attribute], outputs=[target], name=f"{target.name}.cast")
            graph.insert_after(after, cast)
            after = cast
        for use in sums:
            use.node.replace_input_with(use.idx, wide)
        return self.applied(node.name or "", f"{value.name} is kept in float16 for an addition")

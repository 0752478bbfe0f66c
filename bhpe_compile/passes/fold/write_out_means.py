"""Means over few terms are sums in a written order: every runtime and every kernel adds up alike.

AveragePool(x, 2x2, stride 2)                       ->  AveragePool2x2(x) = (((a + b) + c) + d) / 4
ReduceMean(Reshape(x, [N, k, C/k, H, W]), axis 1)   ->  (..(x_0 + x_1) + ..) * (1 / k) of x's k groups of channels
"""

from __future__ import annotations

from functools import reduce
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN, attach_bodies
from bhpe_compile.exchange.nodes import (
    array_of,
    constant,
    float_constant,
    integer,
    integers,
    new_value,
    shape_of,
    substitute,
)
from bhpe_compile.passes.base import Note, Pass, PassResult

MOST_GROUPS = 64
"""Groups of channels that are written out one by one."""


class WriteOutMeans(Pass[ir.Model]):
    """AveragePool and means of groups of channels -> sums."""

    name: ClassVar[str] = "write-out-means"
    summary: ClassVar[str] = "write out the order in which pooled pixels and groups of channels are added"
    requires: ClassVar[tuple[str, ...]] = ("explicit padding",)
    ensures: ClassVar[tuple[str, ...]] = ("written means",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.domain != "":
                continue
            if node.op_type == "AveragePool":
                notes.append(self._pool(graph.graph, node))
            elif node.op_type == "ReduceMean" and (source := _grouped(node)) is not None:
                notes.append(self._groups(graph.graph, node, source))
        modified = any(note.applied for note in notes)
        if modified:
            attach_bodies(graph)
        return PassResult(graph, modified, tuple(notes))

    def _pool(self, graph: ir.Graph, node: ir.Node) -> Note:
        name, x = node.name or "", shape_of(node.inputs[0])
        plain = integers(node, "kernel_shape", ()) == integers(node, "strides", (1, 1)) == (2, 2)
        if not plain or any(integers(node, "pads", (0,))) or integer(node, "ceil_mode"):
            return self.refused(name, "only 2x2 of stride 2 without padding has a written order")
        if any(size % 2 for size in x[2:]):
            return self.refused(name, "a side of the map is odd")
        out = new_value(f"{node.outputs[0].name}_mean", shape_of(node.outputs[0]))
        new = ir.Node(DOMAIN, "AveragePool2x2", [node.inputs[0]], outputs=[out], name=name)
        substitute(graph, node, new, {node.outputs[0]: out})
        return self.applied(name, "2x2 pixels are added row by row")

    def _groups(self, graph: ir.Graph, node: ir.Node, source: ir.Value) -> Note:
        name, y = node.name or "", shape_of(node.outputs[0])
        count = shape_of(source)[1] // y[1]
        if count > MOST_GROUPS:
            return self.refused(name, f"{count} groups are too many to write out")
        sizes = constant(graph, f"{name}.sizes", np.full(count, y[1], np.int64))
        parts = [new_value(f"{name}.part{index}", y) for index in range(count)]
        nodes = [
            ir.Node(
                "", "Split", [source, sizes], [ir.AttrInt64("axis", 1)], outputs=parts, name=f"{name}.split"
            )
        ]

        def add(a: ir.Value, b: ir.Value) -> ir.Value:
            total = new_value(f"{name}.sum{len(nodes)}", y)
            nodes.append(ir.Node("", "Add", [a, b], outputs=[total], name=f"{name}.add{len(nodes)}"))
            return total

        total = reduce(add, parts)
        share = float_constant(graph, f"{name}.share", np.array(1 / count))
        out = new_value(f"{node.outputs[0].name}_mean", y)
        mean = ir.Node("", "Mul", [total, share], outputs=[out], name=name)
        for one in nodes:
            graph.insert_before(node, one)
        substitute(graph, node, mean, {node.outputs[0]: out})
        return self.applied(name, f"{count} groups of channels are added one after the other")


def _grouped(node: ir.Node) -> ir.Value | None:
    """x where `node` is the mean over k groups of its channels, else None."""
    if len(node.inputs) < 2 or node.inputs[0] is None or integer(node, "keepdims", 1):
        return None
    axes, reshape = array_of(node.inputs[1]), node.inputs[0].producer()
    if axes is None or axes.tolist() not in ([1], 1) or reshape is None or reshape.op_type != "Reshape":
        return None
    source = reshape.inputs[0]
    before, split = shape_of(source), shape_of(node.inputs[0])
    fits = len(before) == 4 and len(split) == 5 and split[1] * split[2] == before[1]
    return source if fits and split[3:] == before[2:] and split[0] == before[0] else None

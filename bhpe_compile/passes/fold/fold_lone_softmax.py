"""Attention to a single element is that element's value.

    Softmax(x) along an axis of length 1    ->  1
    MatMul(1, v), 1 of [.., 1, 1]           ->  v
    Reshape and Transpose behind v that keep the order of its numbers and end in the shape they began with  ->  nothing

The softmax of one finite number is exactly 1, and 1 v is v, so nothing is rounded. What computed x (the layers of key
and query) is read by nothing else then, and goes. The simplifier may have made the first of the two steps already.
A product with ones that are longer adds rows up, and stays.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from bhpe_compile.exchange.nodes import array_of, constant, integer, integers, new_value, shape_of, substitute
from bhpe_compile.passes.base import Note, Pass, PassResult

READS_ONE = "softmax of a single element is 1"


class FoldLoneSoftmax(Pass[ir.Model]):
    """Softmax of one element -> 1; product of that and v -> v."""

    name: ClassVar[str] = "fold-lone-softmax"
    summary: ClassVar[str] = "attention to a single element becomes that element's value"

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.domain == "" and node.op_type == "Softmax":
                notes += self._softmax(graph.graph, node)
            elif node.domain == "" and node.op_type == "Reshape":
                notes += self._reshape(graph.graph, node)
            elif node.domain == "" and node.op_type == "MatMul":
                notes += self._product(graph.graph, node)
        if any(note.applied for note in notes):
            for node in list(graph.graph):
                _drop_detour(graph.graph, node)
        modified = any(note.applied for note in notes)
        if modified:
            common.RemoveUnusedNodesPass()(graph)
        return PassResult(graph, modified, tuple(notes))

    def _softmax(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        shape = shape_of(node.inputs[0])
        if shape[integer(node, "axis", -1)] != 1:
            return []
        _become_ones(graph, node, shape)
        return [self.applied(node.name or "", READS_ONE)]

    def _reshape(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        if not _is_one(array_of(node.inputs[0])):
            return []
        _become_ones(graph, node, shape_of(node.outputs[0]))
        return [self.applied(node.name or "", "ones of another shape")]

    def _product(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        ones, v, y = array_of(node.inputs[0]), node.inputs[1], node.outputs[0]
        if ones is None or not _is_one(ones) or ones.shape[-2:] != (1, 1) or v is None:
            return []
        if shape_of(v) != shape_of(y):
            return [self.refused(node.name or "", "its values are repeated")]
        out = new_value(f"{y.name}_value", shape_of(y))
        same = ir.Node("", "Identity", [v], outputs=[out], name=node.name)
        substitute(graph, node, same, {y: out})
        if not out.is_graph_output():
            out.replace_all_uses_with(v)
            graph.remove(same, safe=True)
        return [self.applied(node.name or "", f"{READS_ONE}: attention is its value, key and query go")]


def _drop_detour(graph: ir.Graph, node: ir.Node) -> None:
    """Readers of `node`, a Reshape, read what it and those before it began with, where that has the same shape."""
    if node.op_type != "Reshape" or node.outputs[0].is_graph_output():
        return
    wanted, value = shape_of(node.outputs[0]), node.inputs[0]
    while value is not None and shape_of(value) != wanted:
        before = value.producer()
        if before is None or not _keeps_order(before):
            return
        value = before.inputs[0]
    if value is not None:
        node.outputs[0].replace_all_uses_with(value)
        graph.remove(node, safe=True)


def _keeps_order(node: ir.Node) -> bool:
    """Whether `node` leaves the numbers in the order in which they stand: it moves axes of length 1 only."""
    if node.op_type != "Transpose":
        return node.op_type == "Reshape"
    shape = shape_of(node.inputs[0])
    order = [axis for axis in integers(node, "perm", range(len(shape))[::-1]) if shape[axis] > 1]
    return order == sorted(order)


def _is_one(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None) -> bool:
    return array is not None and array.dtype == np.float32 and array.ndim > 1 and bool((array == 1).all())


def _become_ones(graph: ir.Graph, node: ir.Node, shape: tuple[int, ...]) -> None:
    y = node.outputs[0]
    ones = constant(graph, f"{node.name}.ones", np.ones(shape, np.float32))
    if not y.is_graph_output():
        y.replace_all_uses_with(ones)
        graph.remove(node, safe=True)
        return
    out = new_value(f"{y.name}_ones", shape)
    substitute(graph, node, ir.Node("", "Identity", [ones], outputs=[out], name=node.name), {y: out})

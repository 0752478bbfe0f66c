"""Kernels read and write channels last; transposes appear at their borders and cancel in between.

    kernel(NCHW)              -> Transpose(0,3,1,2) . kernel(NHWC) . Transpose(0,2,3,1)
    Transpose . Transpose     -> nothing, when they undo each other
    Concat(axis 1), Cast, Clip, Relu, Add, Mul, ... over transposed values -> the same on axis 3 before the transpose

What such an operation spreads over the map (constants, factors of channels) is transposed with it, which costs nothing.

What remains stands where ONNX's layout is really needed (a few small heat maps).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
SPATIAL_ROLES = ("x", "residual", "shortcut")
ELEMENTWISE = frozenset(
    """
    Abs Add Cast Ceil Clip Div Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log Max Min Mish Mul Neg
    PRelu Pow Reciprocal Relu Round Sigmoid Sign Softplus Sqrt Sub Tanh
    """.split()  # noqa: SIM905 (a list is thirty lines)
)
"""Operations whose every output reads one element of each input."""


def _permuted(shape: tuple[int, ...], perm: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[p] for p in perm)


def _as_map(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[N, K] -> [N, 1, 1, K]."""
    return (shape[0], 1, 1, shape[1])


def _transpose(value: ir.Value, perm: tuple[int, ...], name: str) -> ir.Node:
    out = g.new_value(name, _permuted(g.shape_of(value), perm), value.dtype or ir.DataType.FLOAT)
    return ir.Node("", "Transpose", [value], [ir.AttrInt64s("perm", perm)], outputs=[out], name=name)


def _is_transpose(node: ir.Node | None, perm: tuple[int, ...]) -> bool:
    return node is not None and node.op_type == "Transpose" and g.integers(node, "perm", ()) == perm


def _last(graph: ir.Graph, value: ir.Value, before: ir.Node) -> ir.Value:
    """`value` with channels last: the source of its transpose when it has one, else a new transpose."""
    producer = value.producer()
    if _is_transpose(producer, TO_FIRST) and producer is not None and producer.inputs[0] is not None:
        return producer.inputs[0]
    for use in value.uses():
        if _is_transpose(use.node, TO_LAST):
            return use.node.outputs[0]
    node = _transpose(value, TO_LAST, f"{value.name}_nhwc")
    if producer is not None:
        graph.insert_after(producer, node)
    else:
        graph.insert_before(graph[0], node)
    return node.outputs[0]


class ChannelLast(Pass[ir.Model]):
    """Channel-last kernels, with the fewest transposes between them."""

    name: ClassVar[str] = "channel-last"
    summary: ClassVar[str] = "store activations channels last and cancel the transposes in between"
    requires: ClassVar[tuple[str, ...]] = ("fused epilogues", "standard operations")
    ensures: ClassVar[tuple[str, ...]] = ("channel last",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if g.is_kernel(node) and g.text(node, "layout") != "nhwc":
                self._convert(graph.graph, node)
                notes.append(self.applied(node.name or "", "channels last"))
        modified, moved = bool(notes), True
        while moved:
            steps = [
                self._sink(graph.graph, node)
                for node in self.visit(list(graph.graph))
                if node.graph is not None
            ]
            moved = any(steps)
            modified |= moved
        if modified:
            common.RemoveUnusedNodesPass()(graph)
            common.TopologicalSortPass()(graph)
        left = sum(node.op_type == "Transpose" for node in graph.graph)
        notes.append(self.applied("", f"{left} transposes remain"))
        return PassResult(graph, modified, tuple(notes))

    def _convert(self, graph: ir.Graph, node: ir.Node) -> None:
        facts = g.facts_of(node) | {"layout": "nhwc"}
        layer = g.text(node, "layer")
        operands: dict[str, ir.Value] = {}
        flat = bool(g.integer(node, "flat"))
        for role, value in g.operands_of(node).items():
            if flat and role == "x":
                operands[role] = _reshape(graph, node, value, _as_map(g.shape_of(value)), f"{layer}.x_map")
            elif role in SPATIAL_ROLES and len(g.shape_of(value)) == 4:
                operands[role] = _last(graph, value, node)
            else:
                operands[role] = value
        old = node.outputs[0]
        shape = g.shape_of(old)
        if not flat and len(shape) != 4:  # rows, which have no layout
            out = g.new_value(f"{old.name}_rows", shape)
            g.substitute(
                graph, node, g.kernel_node(node.op_type, layer, operands, {"out": out}, facts), {old: out}
            )
            return
        nhwc = _as_map(shape) if flat else _permuted(shape, TO_LAST)
        out = g.new_value(f"{old.name}_nhwc", nhwc)
        new = g.kernel_node(node.op_type, layer, operands, {"out": out}, facts)
        graph.insert_before(node, new)
        back = (
            _reshape_node(graph, out, shape, f"{old.name}_flat")
            if flat
            else _transpose(out, TO_FIRST, f"{old.name}_nchw")
        )
        g.substitute(graph, node, back, {old: back.outputs[0]})

    @staticmethod
    def _sink(graph: ir.Graph, node: ir.Node) -> bool:
        """One step of moving a TO_FIRST transpose below `node`, or of cancelling a pair."""
        if _is_transpose(node, TO_LAST) and node.inputs[0] is not None:
            source = node.inputs[0].producer()
            if not _is_transpose(source, TO_FIRST) or source is None or source.inputs[0] is None:
                return False
            old, last = node.outputs[0], source.inputs[0]
            if old.is_graph_output() and (last.is_graph_output() or last.producer() is None):
                return False  # one value has one name
            name = old.name
            ir.convenience.replace_all_uses_with(old, last, replace_graph_outputs=True)
            if last.is_graph_output():
                old.name, last.name = f"{name}_replaced", name
            g.detach(graph, node)
            return True
        if node.domain not in ("", "ai.onnx") or len(node.outputs) != 1 or not list(node.outputs[0].uses()):
            return False
        if node.op_type == "Reshape" and node.inputs[0] is not None:
            return _undo_reshape(graph, node, node.inputs[0])
        concat = node.op_type == "Concat" and g.integer(node, "axis") == 1
        if not (concat or node.op_type in ELEMENTWISE):
            return False
        shape = node.outputs[0].shape
        if shape is None or len(shape) != 4:
            return False
        tensors = [v for v in node.inputs if v is not None and g.array_of(v) is None]
        moved = [v for v in tensors if _is_transpose(v.producer(), TO_FIRST)]
        if not moved or not (concat or all(v in moved or _is_one_pixel(v) for v in tensors)):
            return False
        inputs = [
            v if v is None else _last(graph, v, node) if v in tensors else _spread_last(graph, node, v)
            for v in node.inputs
        ]
        old = node.outputs[0]
        out = g.new_value(
            f"{old.name}_nhwc", _permuted(g.shape_of(old), TO_LAST), old.dtype or ir.DataType.FLOAT
        )
        attributes = [ir.AttrInt64("axis", 3)] if concat else list(node.attributes.values())
        graph.insert_before(
            node, ir.Node("", node.op_type, inputs, attributes, outputs=[out], name=node.name)
        )
        back = _transpose(out, TO_FIRST, f"{old.name}_nchw")
        g.substitute(graph, node, back, {old: back.outputs[0]})
        return True


def _is_one_pixel(value: ir.Value) -> bool:
    """Whether a value has one number a channel, [N, C, 1, 1]."""
    shape = g.shape_of(value)
    return len(shape) == 4 and shape[2:] == (1, 1)


def _spread_last(graph: ir.Graph, node: ir.Node, value: ir.Value) -> ir.Value:
    """A constant that is spread over a map, channels last."""
    array = g.array_of(value)
    if array is None or array.size == 1:
        return value
    whole = array.reshape((1,) * (4 - array.ndim) + array.shape)
    return g.constant(graph, f"{node.name}.{value.name}_last", np.ascontiguousarray(whole.transpose(TO_LAST)))


def _undo_reshape(graph: ir.Graph, node: ir.Node, value: ir.Value) -> bool:
    """Reshape(Reshape(x)) of x's own shape is x."""
    source = value.producer()
    if source is None or source.op_type != "Reshape" or source.inputs[0] is None:
        return False
    if node.outputs[0].is_graph_output() or g.shape_of(source.inputs[0]) != g.shape_of(node.outputs[0]):
        return False
    ir.convenience.replace_all_uses_with(node.outputs[0], source.inputs[0])
    g.detach(graph, node)
    return True


def _reshape_node(graph: ir.Graph, value: ir.Value, shape: tuple[int, ...], name: str) -> ir.Node:
    out = g.new_value(name, shape, value.dtype or ir.DataType.FLOAT)
    constant = g.constant(graph, f"{name}_shape", np.asarray(shape, dtype=np.int64))
    return ir.Node("", "Reshape", [value, constant], outputs=[out], name=name)


def _reshape(
    graph: ir.Graph, before: ir.Node, value: ir.Value, shape: tuple[int, ...], name: str
) -> ir.Value:
    node = _reshape_node(graph, value, shape, name)
    graph.insert_before(before, node)
    return node.outputs[0]

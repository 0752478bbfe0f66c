"""The core convolutions of an imported graph become binary: BiDRB of BinaryHPE (arXiv 2311.14323).

    Conv(x, w, b) [-> BatchNormalization]   ->   n = BinaryConv2d(a, 0, w, mean |w|, b) [-> BatchNormalization]
                                                 y = n + residual(a),   a = clip(x, -1, 1)
    Relu behind it                          ->   RPReLU(y), with the slope 1/4 below 0
    Relu behind a sum that it ends          ->   gone: the sum stays signed for the signs that read it

    residual(a)   C -> C      a
                  C -> k C    k copies of a
                  C -> C / k  the mean of k groups of channels
                  stride 2    of a 2x2 average pool of a

Weights are taken over, nothing is trained. A file whose batch norms are folded into its weights keeps their gain in
mean |w| and their shift in the bias. Roles are read off the graph (`roles.py`): stems, shortcuts and the layers that
compute an output stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
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
    layer_of,
    new_value,
    only_use,
    set_layer,
    shape_of,
    substitute,
    text,
)
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.imported.linear_layers import is_standard
from bhpe_compile.passes.imported.roles import Role, find_roles

SLOPE = 0.25
"""Of RPReLU below 0, before training."""

REASONS: dict[Role, str] = {
    "stem": "it is a stem: what reads the input keeps its precision",
    "output": "it computes an output",
    "shortcut": "it is a shortcut: the path on which a block's input travels unbinarized",
}


class BinaryLayers(Pass[ir.Model]):
    """Conv -> BinaryConv2d with its local residual and activation."""

    name: ClassVar[str] = "binary-layers"
    summary: ClassVar[str] = "make the core convolutions of an imported graph binary"
    requires: ClassVar[tuple[str, ...]] = ("imported layers",)

    def __init__(self, keep_float: tuple[str, ...] = ()) -> None:
        self.keep_float = keep_float

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        roles = find_roles(graph.graph)
        notes = [
            self._decide(graph.graph, node, layer, roles[layer])
            for node in self.visit(list(graph.graph))
            if is_standard(node, "Conv", "ConvTranspose") and (layer := layer_of(node)) is not None
        ]
        modified = any(note.applied for note in notes)
        if modified:
            attach_bodies(graph)
        return PassResult(graph, modified, tuple(notes))

    def _decide(self, graph: ir.Graph, node: ir.Node, layer: str, role: Role) -> Note:
        kept = next((glob for glob in self.keep_float if fnmatchcase(layer, glob)), None)
        why = f"not binary: --keep-float {kept!r}" if kept else REASONS.get(role) or refusal(node)
        return (
            self.refused(layer, why) if why else self.applied(layer, f"residual: {_make_binary(graph, node)}")
        )


def refusal(node: ir.Node) -> str | None:
    """Why a convolution has no binary form with a local residual, None where it has one."""
    weight = array_of(node.inputs[1])
    if weight is None or any(value is not None and array_of(value) is None for value in node.inputs[2:]):
        return "its weights are computed at run time"
    if node.op_type != "Conv" or weight.ndim != 4:
        return "transposed convolutions, and windows along one axis or three, have no local residual"
    if integer(node, "group", 1) != 1:
        return "it has groups: too few products a sum for signs"
    (rows, columns), (outer, inner) = weight.shape[2:], weight.shape[:2]
    strides, dilations = integers(node, "strides", (1, 1)), integers(node, "dilations", (1, 1))
    if rows != columns or rows % 2 == 0 or dilations != (1, 1):
        return (
            f"its window is {rows}x{columns}, dilated by {dilations[0]}: square odd ones have a binary kernel"
        )
    if text(node, "auto_pad", "NOTSET") != "NOTSET" or integers(node, "pads", (0,) * 4) != (rows // 2,) * 4:
        return "its padding changes the size of the map, which its local residual cannot follow"
    if strides not in ((1, 1), (2, 2)):
        return f"its stride is {strides[0]}x{strides[1]}, a local residual has 1 or 2"
    if strides == (2, 2) and any(size % 2 for size in shape_of(node.inputs[0])[2:]):
        return "its stride is 2 and a side of its map is odd"
    if outer % inner and inner % outer:
        return f"no residual leads from {inner} to {outer} channels"
    return None


def _make_binary(graph: ir.Graph, node: ir.Node) -> str:
    """Rewrite a convolution in place; its residual in words."""
    name, x, weight = node.name or "", node.inputs[0], array_of(node.inputs[1])
    assert x is not None  # `refusal` has looked
    assert weight is not None
    inner, shape = weight.shape[1], shape_of(node.outputs[0])
    clipped = _emit(graph, node, "Clip", [x, *_bounds(graph, name)], f"{name}.clip", shape_of(x))
    bias = array_of(node.inputs[2]) if len(node.inputs) > 2 else None
    inputs = [
        clipped,
        constant(graph, f"{name}.threshold", np.zeros(inner, np.float32)),
        node.inputs[1],
        float_constant(graph, f"{name}.scale", np.abs(weight.astype(np.float64)).mean((1, 2, 3))),
        float_constant(graph, f"{name}.shift", np.zeros(shape[1]) if bias is None else bias.reshape(-1)),
    ]
    facts = [
        ir.AttrInt64s(key, integers(node, key, ())) for key in ("strides", "pads") if key in node.attributes
    ]
    if "strides" not in node.attributes:
        facts.append(ir.AttrInt64s("strides", [1, 1]))
    if "pads" not in node.attributes:
        facts.append(ir.AttrInt64s("pads", [0] * 4))
    out = new_value(f"{name}.binary", shape)
    binary = ir.Node(DOMAIN, "BinaryConv2d", inputs, facts, outputs=[out], name=name)
    set_layer(binary, layer_of(node) or name)
    stride = integers(node, "strides", (1, 1))[0]
    substitute(graph, node, binary, {node.outputs[0]: out})
    last = binary
    behind = only_use(out)
    if behind is not None and is_standard(behind, "BatchNormalization"):
        last = behind
    _behind(graph, last, name, lambda before: _residual(graph, before, name, clipped, shape, stride))
    kind = (
        "identity"
        if inner == shape[1]
        else "repeated"
        if inner < shape[1]
        else "mean over groups of channels"
    )
    return f"{kind}, of a 2x2 average pool" if stride == 2 else kind


def _behind(graph: ir.Graph, last: ir.Node, name: str, residual: Callable[[ir.Node], ir.Value]) -> None:
    """Add the residual behind `last`, and put RPReLU in the place of a ReLU there."""
    value = last.outputs[0]
    readers = [(use.node, use.idx) for use in value.uses()]
    follower, shape = only_use(value), shape_of(value)
    before = next(node for node in graph if any(node is reader for reader, _ in readers))
    tap = residual(before)
    total = _emit(graph, before, "Add", [value, tap], f"{name}.sum", shape)
    if follower is not None and is_standard(follower, "Relu"):
        total = _rprelu(graph, follower, name, total, shape[1])
        ir.convenience.replace_all_uses_with(follower.outputs[0], total, replace_graph_outputs=True)
        follower.replace_input_with(0, None)
        graph.remove(follower)
        return
    if follower is not None and is_standard(follower, "Add") and not follower.outputs[0].is_graph_output():
        behind = only_use(follower.outputs[0])
        if behind is not None and is_standard(behind, "Relu") and not behind.outputs[0].is_graph_output():
            ir.convenience.replace_all_uses_with(behind.outputs[0], follower.outputs[0])
            behind.replace_input_with(0, None)
            graph.remove(behind)
            total = _rprelu(graph, follower, name, total, shape[1])
    for reader, index in readers:
        reader.replace_input_with(index, total)


def _residual(
    graph: ir.Graph, before: ir.Node, name: str, source: ir.Value, shape: tuple[int, ...], stride: int
) -> ir.Value:
    """What carries `source` past the signs, in the shape of the convolution's result."""
    value = source
    if stride == 2:
        facts = [ir.AttrInt64s("kernel_shape", [2, 2]), ir.AttrInt64s("strides", [2, 2])]
        pooled = (*shape_of(source)[:2], *shape[2:])
        value = _emit(graph, before, "AveragePool", [value], f"{name}.pool", pooled, facts)
    inner, outer = shape_of(value)[1], shape[1]
    if outer > inner:
        copies: list[ir.Value | None] = [value] * (outer // inner)
        value = _emit(graph, before, "Concat", copies, f"{name}.copies", shape, [ir.AttrInt64("axis", 1)])
    elif outer < inner:
        groups = (shape[0], inner // outer, outer, *shape[2:])
        target = constant(graph, f"{name}.groups.shape", np.array(groups, np.int64))
        value = _emit(graph, before, "Reshape", [value, target], f"{name}.groups", groups)
        axes = constant(graph, f"{name}.mean.axes", np.array([1], np.int64))
        facts = [ir.AttrInt64("keepdims", 0)]
        value = _emit(graph, before, "ReduceMean", [value, axes], f"{name}.mean", shape, facts)
    return value


def _rprelu(graph: ir.Graph, before: ir.Node, name: str, value: ir.Value, channels: int) -> ir.Value:
    parameters = [
        constant(graph, f"{name}.{word}", np.full((channels, 1, 1), number, np.float32))
        for word, number in (("gamma", 0.0), ("beta", SLOPE), ("zeta", 0.0))
    ]
    return _emit(
        graph, before, "RPReLU", [value, *parameters], f"{name}.activation", shape_of(value), domain=DOMAIN
    )


def _bounds(graph: ir.Graph, name: str) -> list[ir.Value]:
    return [
        constant(graph, f"{name}.{word}", np.array(edge, np.float32))
        for word, edge in (("low", -1), ("high", 1))
    ]


def _emit(
    graph: ir.Graph,
    before: ir.Node,
    kind: str,
    inputs: list[ir.Value | None] | list[ir.Value],
    name: str,
    shape: tuple[int, ...],
    facts: list[ir.Attr] | None = None,
    *,
    domain: str = "",
) -> ir.Value:
    """A node in front of `before`."""
    out = new_value(name, shape)
    graph.insert_before(before, ir.Node(domain, kind, list(inputs), facts or [], outputs=[out], name=name))
    return out

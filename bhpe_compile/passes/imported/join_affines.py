"""Sums and products with constants, one number or one a channel, behind a convolution become part of it.

    a (conv(x, w) + bias) + b   ->   conv(x, a w) + (a bias + b)

Several in a row are taken in one after the other, computed in float64, stored in float32. So a network that learned its
scales beside its convolutions has nothing between these and their activations. Weights that another layer reads as well
stay as they are for that one. Refused are weights in float16 that would not be ones any more, weights computed at run
time, and those of transposed convolutions in groups.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.affines import Doubles, affine_behind
from bhpe_compile.exchange.nodes import (
    CONVOLUTIONS,
    array_of,
    detach,
    float_constant,
    integer,
    layer_of,
    shape_of,
)
from bhpe_compile.passes.base import Note, Pass, PassResult


class JoinAffines(Pass[ir.Model]):
    """Conv, Mul, Add with constants -> Conv."""

    name: ClassVar[str] = "join-affines"
    summary: ClassVar[str] = "take sums and products with constants into the convolution in front of them"
    requires: ClassVar[tuple[str, ...]] = ("imported layers",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            stored = layer_of(node) is not None
            if stored and node.domain in ("", "ai.onnx") and node.op_type in CONVOLUTIONS:
                note = self._join(graph.graph, node)
                notes += [] if note is None else [note]
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _join(self, graph: ir.Graph, node: ir.Node) -> Note | None:
        name, channels = node.name or "", shape_of(node.outputs[0])[1]
        a, b = np.ones(channels), np.zeros(channels)
        taken: list[ir.Node] = []
        value = node.outputs[0]
        while (found := affine_behind(value)) is not None:
            after, k, shift = found
            by_channel = [_by_channel(one, channels, len(shape_of(value))) for one in (k, shift)]
            if by_channel[0] is None or by_channel[1] is None:
                break
            a, b = by_channel[0] * a, by_channel[0] * b + by_channel[1]
            taken.append(after)
            value = after.outputs[0]
        if not taken:
            return None
        weight = array_of(node.inputs[1])
        bias = array_of(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(channels)
        if weight is None or bias is None:
            return self.refused(name, "its weights are computed at run time")
        transposed = node.op_type == "ConvTranspose"
        if transposed and integer(node, "group", 1) != 1:
            return self.refused(name, "the weights of transposed groups do not lie by output")
        joined = weight * a.reshape([-1 if axis == int(transposed) else 1 for axis in range(weight.ndim)])
        if _holds_half(weight) and not _holds_half(joined.astype(np.float32)):
            return self.refused(name, "its weights are float16, and would not be any more")
        node.replace_input_with(1, float_constant(graph, f"{name}.joined.weight", joined))
        node.resize_inputs(3)
        node.replace_input_with(2, float_constant(graph, f"{name}.joined.bias", a * bias + b))
        self._bypass(graph, node, taken)
        return self.applied(name, f"took in {', '.join(one.op_type for one in taken)} with constants")

    @staticmethod
    def _bypass(graph: ir.Graph, node: ir.Node, taken: list[ir.Node]) -> None:
        """The node writes what the last of `taken` wrote, under its name."""
        before, after = node.outputs[0], taken[-1].outputs[0]
        kept, output = after.name, after.is_graph_output()
        ir.convenience.replace_all_uses_with(after, before, replace_graph_outputs=output)
        for one in reversed(taken):
            detach(graph, one)
        before.name = kept


def _by_channel(array: Doubles, channels: int, rank: int) -> Doubles | None:
    """`array` as a number for each channel of a map with `rank` axes; None where it is another kind of constant."""
    wide = (1,) * (rank - array.ndim) + array.shape
    if array.size == 1 or wide == (1, channels, *(1,) * (rank - 2)):
        return np.broadcast_to(array.reshape(-1), (channels,))
    return None


def _holds_half(weight: Doubles) -> bool:
    with np.errstate(over="ignore"):
        return bool((weight.astype(np.float16) == weight).all())

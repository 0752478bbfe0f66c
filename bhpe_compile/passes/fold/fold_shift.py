"""What an RPReLU subtracts first joins the bias of the layer in front.

    rprelu(dot * scale + bias [+ residual]; gamma, beta, zeta)
        ->  rprelu(dot * scale + (bias - gamma) [+ residual]; 0, beta, zeta)

Kernels compute the second form. The difference is taken in float64 and stored as float32, once, here.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN
from bhpe_compile.exchange.nodes import array_of, float_constant, is_binary, only_use
from bhpe_compile.passes.base import Note, Pass, PassResult


class FoldShift(Pass[ir.Model]):
    """RPReLU's gamma -> the layer's bias."""

    name: ClassVar[str] = "fold-shift"
    summary: ClassVar[str] = "fold what an RPReLU subtracts into the bias of the layer in front"
    requires: ClassVar[tuple[str, ...]] = ("folded norms",)
    ensures: ClassVar[tuple[str, ...]] = ("folded shifts",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.domain == DOMAIN and node.op_type == "RPReLU":
                notes += self._fold(graph.graph, node)
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _fold(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        name, gamma = node.name or "", array_of(node.inputs[1])
        if gamma is not None and not gamma.any():
            return []
        found = _layer_behind(node)
        if isinstance(found, str):
            return [self.refused(name, found)]
        layer, place = found
        bias = array_of(layer.inputs[place])
        if gamma is None or bias is None:
            return [self.refused(name, "parameters are computed at run time")]
        shifted = bias.astype(np.float64) - gamma.astype(np.float64).reshape(bias.shape)
        layer.replace_input_with(place, float_constant(graph, f"{layer.name}.shifted.bias", shifted))
        node.replace_input_with(1, float_constant(graph, f"{name}.none", np.zeros_like(gamma)))
        return [self.applied(layer.name or "", "its bias takes what the activation subtracts")]


def _layer_behind(activation: ir.Node) -> tuple[ir.Node, int] | str:
    """The layer whose value, with at most one addition between, `activation` alone reads, and the place of its bias
    among its inputs; or why there is none."""
    value = activation.inputs[0]
    source = value.producer() if value is not None else None
    if value is None or source is None:
        return "no layer computes what the activation reads"
    if only_use(value) is not activation:
        return "others read what the activation reads"
    place = _bias_place(source)
    if place is None and source.op_type == "Add" and source.domain == "":
        for side in source.inputs:
            layer = side.producer() if side is not None else None
            if side is not None and layer is not None and only_use(side) is source:
                source_place = _bias_place(layer)
                if source_place is not None:
                    return layer, source_place
        return "no layer adds to what the activation reads"
    return "no layer computes what the activation reads" if place is None else (source, place)


def _bias_place(node: ir.Node) -> int | None:
    if is_binary(node):
        return 4
    return 2 if node.domain == DOMAIN and node.op_type == "ChannelAffine" else None

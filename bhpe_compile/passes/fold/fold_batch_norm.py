"""Batch norms and biases become one affine per channel behind the layer; weights are never touched.

    k = gamma / sqrt(var + eps)
    binary layer     scale' = k * scale,  bias' = k * (bias - mean) + beta        in the layer's own inputs
    dense layer      ChannelAffine(k, k * (bias - mean) + beta)                   behind it, its own bias gone
    dense, no norm   ChannelAffine(1, bias)

Computed in float64, stored in float32. +-1 weights stay +-1, float16 weights stay float16.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.functions import attach_bodies
from bhpe_compile.exchange.nodes import (
    array_of,
    detach,
    float_constant,
    new_value,
    only_use,
    shape_of,
    substitute,
)
from bhpe_compile.passes.base import Note, Pass, PassResult

BINARY = ("BinaryConv2d", "BinaryConvTranspose2d", "BinaryLinear")
DENSE = ("Conv", "ConvTranspose")

Vector = NDArray[np.float64]


class FoldBatchNorm(Pass[ir.Model]):
    """BatchNormalization and conv bias -> affine."""

    name: ClassVar[str] = "fold-batch-norm"
    summary: ClassVar[str] = "fold batch norms, scales and biases into one affine per channel"
    ensures: ClassVar[tuple[str, ...]] = ("folded norms",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in list(graph.graph):
            if node.domain == "bhpe" and node.op_type in BINARY:
                notes += self._binary(graph.graph, node)
            elif node.domain == "" and node.op_type in DENSE:
                notes += self._dense(graph.graph, node)
        modified = any(n.applied for n in notes)
        if modified:
            attach_bodies(graph)  # ChannelAffine may be new
        return PassResult(graph, modified, tuple(notes))

    def _binary(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        norm, why = _norm_behind(node)
        if norm is None:
            return [self.refused(node.name or "", why)] if why else []
        scale, bias = array_of(node.inputs[3]), array_of(node.inputs[4])
        affine = _affine(norm)
        if scale is None or bias is None or affine is None:
            return [self.refused(node.name or "", "parameters are computed at run time")]
        k, mean, beta = affine
        new_scale, new_bias = k * scale, k * (bias.astype(np.float64) - mean) + beta
        node.replace_input_with(3, float_constant(graph, f"{node.name}.folded.scale", new_scale))
        node.replace_input_with(4, float_constant(graph, f"{node.name}.folded.bias", new_bias))
        _bypass(graph, norm, node)
        return [self.applied(node.name or "", "batch norm folded into scale and bias")]

    def _dense(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        norm, why = _norm_behind(node)
        if why:
            return [self.refused(node.name or "", why)]
        channels = shape_of(node.outputs[0])[1]
        bias_value = node.inputs[2] if len(node.inputs) > 2 else None
        own = array_of(bias_value) if bias_value is not None else np.zeros(channels)
        affine = (
            _affine(norm) if norm is not None else (np.ones(channels), np.zeros(channels), np.zeros(channels))
        )
        if own is None or affine is None:
            return [self.refused(node.name or "", "parameters are computed at run time")]
        if norm is None and bias_value is None:
            return []
        k, mean, beta = affine
        if bias_value is not None:
            node.resize_inputs(2)
        scale = float_constant(graph, f"{node.name}.affine.scale", k.reshape(-1, 1, 1))
        bias = float_constant(graph, f"{node.name}.affine.bias", (k * (own - mean) + beta).reshape(-1, 1, 1))
        y = node.outputs[0]
        out = new_value(f"{y.name}_affine", shape_of(y))
        new = ir.Node("bhpe", "ChannelAffine", [y, scale, bias], outputs=[out], name=f"{node.name}.affine")
        if norm is not None:
            substitute(graph, norm, new, {norm.outputs[0]: out})
        else:
            graph.insert_after(node, new)
            uses = [use for use in y.uses() if use.node is not new]
            for use in uses:
                use.node.replace_input_with(use.idx, out)
            for index, value in enumerate(graph.outputs):
                if value is y:
                    graph.outputs[index] = out
                    y.name, out.name = f"{y.name}_raw", y.name
        return [
            self.applied(
                node.name or "", "batch norm and bias became an affine" if norm else "bias became an affine"
            )
        ]


def _norm_behind(node: ir.Node) -> tuple[ir.Node | None, str]:
    """The batch norm that alone reads the node's output, or why it cannot be folded ("" when there is none)."""
    readers = [use.node for use in node.outputs[0].uses()]
    norms = [reader for reader in readers if reader.op_type == "BatchNormalization"]
    if not norms:
        return None, ""
    if only_use(node.outputs[0]) is None:
        return None, "others read the value in front of the batch norm"
    return norms[0], ""


def _affine(norm: ir.Node) -> tuple[Vector, Vector, Vector] | None:
    arrays: list[NDArray[Any] | None] = [array_of(v) for v in norm.inputs[1:5]]
    if any(a is None for a in arrays):
        return None
    gamma, beta, mean, var = (np.asarray(a, np.float64) for a in arrays)
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    return gamma / np.sqrt(var + epsilon), mean, beta


def _bypass(graph: ir.Graph, norm: ir.Node, node: ir.Node) -> None:
    """The node writes what the norm wrote."""
    before, after = node.outputs[0], norm.outputs[0]
    after_name = after.name
    output = after.is_graph_output()
    ir.convenience.replace_all_uses_with(after, before, replace_graph_outputs=True)
    if output:
        after.name, before.name = f"{after_name}_folded", after_name
    detach(graph, norm)

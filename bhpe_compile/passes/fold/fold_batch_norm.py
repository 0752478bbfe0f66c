"""Batch norms and biases become one affine per channel behind the layer; weights are never touched.

    k = gamma / sqrt(var + eps)
    binary layer     scale' = k * scale,  bias' = k * (bias - mean) + beta        in the layer's own inputs
    dense layer      ChannelAffine(k, k * (bias - mean) + beta)                   behind it, its own bias gone
    dense, no norm   ChannelAffine(1, bias)

Several norms in a row fold one after the other into the same affine. A value keeps its name: the affine's is that of
the last norm, or of the layer, whose own is NAME_raw then.
Computed in float64, stored in float32. +-1 weights stay +-1, float16 weights stay float16.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.functions import DOMAIN, attach_bodies
from bhpe_compile.exchange.nodes import (
    array_of,
    detach,
    float_constant,
    is_binary,
    is_dense_convolution,
    new_value,
    only_use,
    shape_of,
    substitute,
)
from bhpe_compile.passes.base import Note, Pass, PassResult

RUN_TIME = "parameters are computed at run time"
TRAINING = "the batch norm is in training mode: it norms with the statistics of its own input"

Vector = NDArray[np.float64]
Norm = tuple[ir.Node, tuple[Vector, Vector, Vector]]
"""A BatchNormalization with its k, mean and beta."""


class FoldBatchNorm(Pass[ir.Model]):
    """BatchNormalization and conv bias -> affine."""

    name: ClassVar[str] = "fold-batch-norm"
    summary: ClassVar[str] = "fold batch norms, scales and biases into one affine per channel"
    ensures: ClassVar[tuple[str, ...]] = ("folded norms",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if is_binary(node):
                notes += self._binary(graph.graph, node)
            elif is_dense_convolution(node):
                notes += self._dense(graph.graph, node)
        modified = any(n.applied for n in notes)
        if modified:
            attach_bodies(graph)  # ChannelAffine may be new
        return PassResult(graph, modified, tuple(notes))

    def _binary(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        norms, why = _norms_behind(node)
        if why or not norms:
            return [self.refused(node.name or "", why)] if why else []
        scale, bias = array_of(node.inputs[3]), array_of(node.inputs[4])
        if scale is None or bias is None:
            return [self.refused(node.name or "", RUN_TIME)]
        new_scale, new_bias = _compose(scale, bias, norms)
        node.replace_input_with(3, float_constant(graph, f"{node.name}.folded.scale", new_scale))
        node.replace_input_with(4, float_constant(graph, f"{node.name}.folded.bias", new_bias))
        for norm, _ in norms:
            _bypass(graph, norm, node)
        return [self.applied(node.name or "", "batch norm folded into scale and bias")]

    def _dense(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        norms, why = _norms_behind(node)
        if why:
            return [self.refused(node.name or "", why)]
        channels = shape_of(node.outputs[0])[1]
        bias_value = node.inputs[2] if len(node.inputs) > 2 else None
        own = array_of(bias_value) if bias_value is not None else np.zeros(channels)
        if own is None:
            return [self.refused(node.name or "", RUN_TIME)]
        if not norms and bias_value is None:
            return []
        k, shift = _compose(np.ones(channels), own, norms)
        if bias_value is not None:
            node.resize_inputs(2)
        scale = float_constant(graph, f"{node.name}.affine.scale", k.reshape(-1, 1, 1))
        bias = float_constant(graph, f"{node.name}.affine.bias", shift.reshape(-1, 1, 1))
        for norm, _ in norms[:-1]:
            _bypass(graph, norm, node)
        y = node.outputs[0]
        out = new_value(f"{y.name}_affine", shape_of(y))
        new = ir.Node(DOMAIN, "ChannelAffine", [y, scale, bias], outputs=[out], name=f"{node.name}.affine")
        if norms:
            last = norms[-1][0]
            name = last.outputs[0].name
            substitute(graph, last, new, {last.outputs[0]: out})
            out.name = name
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
                node.name or "", "batch norm and bias became an affine" if norms else "bias became an affine"
            )
        ]


def _norms_behind(node: ir.Node) -> tuple[list[Norm], str]:
    """The batch norms one after the other behind `node`, or why the first cannot be folded ("" without any)."""
    norms: list[Norm] = []
    value = node.outputs[0]
    while any(use.node.op_type == "BatchNormalization" for use in value.uses()):
        norm = only_use(value)
        if norm is None:
            return norms, "" if norms else "others read the value in front of the batch norm"
        if _in_training(norm):
            return norms, "" if norms else TRAINING
        affine = _affine(norm)
        if affine is None:
            return norms, "" if norms else RUN_TIME
        norms.append((norm, affine))
        value = norm.outputs[0]
    return norms, ""


def _compose(scale: NDArray[Any], bias: NDArray[Any], norms: list[Norm]) -> tuple[Vector, Vector]:
    """scale and bias of all norms applied to scale * x + bias."""
    s, b = scale.astype(np.float64), bias.astype(np.float64)
    for _, (k, mean, beta) in norms:
        s, b = k * s, k * (b - mean) + beta
    return s, b


def _in_training(norm: ir.Node) -> bool:
    mode = norm.attributes.get("training_mode")
    return len(norm.outputs) > 1 or (mode is not None and mode.as_int() != 0)


def _affine(norm: ir.Node) -> tuple[Vector, Vector, Vector] | None:
    """(k, mean, beta), or None when a parameter is computed at run time."""
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

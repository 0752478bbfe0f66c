"""Layers of an ONNX graph, which have weights, as steps of a `Structure`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from bhpe_compile.exchange.nodes import integer, integers, layer_of, only_use, shape_of
from bhpe_compile.frontends.structure_writer import StructureWriter, number, tensor_of
from bhpe_compile.networks.structure import Setting

EPSILON = 1e-5
"""Of the norms that are put in."""


def padded(w: StructureWriter, node: ir.Node, x: str, fill: float) -> tuple[str, tuple[int, int]]:
    """x, and what is left to pad on both sides alike."""
    top, left, bottom, right = integers(node, "pads", (0, 0, 0, 0))
    if (top, left) == (bottom, right):
        return x, (top, left)
    return w.emit("pad", [x], pads=(left, right, top, bottom), fill=fill), (0, 0)


def convolution(w: StructureWriter, node: ir.Node) -> None:
    weight, bias = w.weight(node, 1), w.weight(node, 2)
    if weight is None or weight.ndim != 4:
        raise w.refusal(node, "its windows have three axes")
    transposed = node.op_type == "ConvTranspose"
    x = w.name_of(node.inputs[0], node)
    if transposed:
        top, left, *others = integers(node, "pads", (0, 0, 0, 0))
        if [top, left] != others:
            raise w.refusal(node, "it is padded on one side")
        padding = (top, left)
    else:
        x, padding = padded(w, node, x, 0.0)
    norm = _wants_norm(w, node)
    settings: dict[str, Setting] = {
        "stride": integers(node, "strides", (1, 1)),
        "padding": padding,
        "dilation": integers(node, "dilations", (1, 1)),
        "groups": integer(node, "group", 1),
    }
    if transposed:
        settings["output_padding"] = integers(node, "output_padding", (0, 0))
    weights = {"weight": weight} | ({} if bias is None or norm else {"bias": bias})
    value = None if norm else node.outputs[0]
    y = w.layer("conv_transpose" if transposed else "conv", node, x, weights, value, **settings)
    if norm:
        channels = shape_of(node.outputs[0])[1]
        path = w.path(f"{w.steps[-1].path}_norm")
        shift = np.zeros(channels, np.float32) if bias is None else bias
        gain = np.full(channels, math.sqrt(1 + EPSILON))
        _norm(w, path, gain, shift, np.zeros(channels), np.ones(channels))
        w.emit("batch_norm", [y], node.outputs[0], path, epsilon=EPSILON)


def _wants_norm(w: StructureWriter, node: ir.Node) -> bool:
    """Whether a convolution gets a norm: there is none, and the file's may have been folded into it."""
    follower, shape = only_use(node.outputs[0]), shape_of(node.outputs[0])
    if follower is not None and follower.op_type == "BatchNormalization":
        return False
    called = sum(other.inputs[1] is node.inputs[1] for other in w.graph if len(other.inputs) > 1)
    return w.roles.get(layer_of(node) or "") != "output" and shape[2:] != (1, 1) and called == 1


def _norm(w: StructureWriter, path: str, gain: Any, shift: Any, mean: Any, variance: Any) -> None:
    numbers = {"weight": gain, "bias": shift, "running_mean": mean, "running_var": variance}
    w.state |= {f"{path}.{name}": tensor_of(array) for name, array in numbers.items()}
    w.state[f"{path}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)


def batch_norm(w: StructureWriter, node: ir.Node) -> None:
    arrays = [w.weight(node, index) for index in range(1, 5)]
    if len(shape_of(node.inputs[0])) != 4:
        raise w.refusal(node, "it norms something else than maps")
    path = w.path(node.name or "norm")
    _norm(w, path, *arrays)
    x = w.name_of(node.inputs[0], node)
    w.emit("batch_norm", [x], node.outputs[0], path, epsilon=number(node, "epsilon", 1e-5))


def gemm(w: StructureWriter, node: ir.Node) -> None:
    weight, bias = w.weight(node, 1), w.weight(node, 2)
    if weight is None or integer(node, "transA") or not integer(node, "transB"):
        raise w.refusal(node, "its first factor is transposed")
    weights = {"weight": weight} | ({} if bias is None else {"bias": bias.reshape(-1)})
    w.layer("linear", node, w.name_of(node.inputs[0], node), weights, node.outputs[0])


def layer_norm(w: StructureWriter, node: ir.Node) -> None:
    rank = len(shape_of(node.inputs[0]))
    w.axis(node, integer(node, "axis", -1), rank)
    weight, bias = w.weight(node, 1), w.weight(node, 2)
    assert weight is not None  # the operator has one
    weights = {"weight": weight} | ({} if bias is None else {"bias": bias})
    x, epsilon = w.name_of(node.inputs[0], node), number(node, "epsilon", 1e-5)
    w.layer("layer_norm", node, x, weights, node.outputs[0], epsilon=epsilon)


def prelu(w: StructureWriter, node: ir.Node) -> None:
    slopes, shape = w.weight(node, 1), shape_of(node.inputs[0])
    assert slopes is not None  # the operator has some
    whole = (1,) * (len(shape) - slopes.ndim) + slopes.shape
    if slopes.size != 1 and whole != (1, shape[1], *[1] * (len(shape) - 2)):
        raise w.refusal(node, "its slopes differ from pixel to pixel")
    x = w.name_of(node.inputs[0], node)
    w.layer("prelu", node, x, {"weight": slopes.reshape(-1)}, node.outputs[0])

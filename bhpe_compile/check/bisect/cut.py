"""An ONNX graph cut in front of every layer, so that no difference travels from one layer to the next.

Each layer reads a graph input of its own in place of its x, and is given the reference's value there:

    dense layer    x itself
    binary layer   t where the reference's sign is +, t - 1 - |t| where it is -      t is the layer's threshold

A binary layer thus reads the reference's signs whatever a pass did to x and t. What the layers would have read and
what they computed become outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bhpe_compile.check.verify.oracle import remove_rounding
from bhpe_compile.exchange.functions import DOMAIN, PACKED
from bhpe_compile.exchange.nodes import LAYERS
from bhpe_compile.exchange.onnx_runtime import runtime

Array = NDArray[Any]

KINDS = frozenset({*LAYERS, *PACKED})
NORMS = ("BatchNormalization", "ChannelAffine")

PREFIX = "bisect.x."


@dataclass(frozen=True)
class Layer:
    """A layer of a graph: the value it reads, the value behind its norms, its threshold when it is binary."""

    name: str
    index: int
    x: str
    tail: str
    threshold: Array | None
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Values:
    """What the cut graph computed, by name of the value; and what it was fed."""

    model: onnx.ModelProto
    feeds: Mapping[str, Array]
    values: Mapping[str, Array]


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """The layers of a graph, in order."""
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    shapes = {
        info.name: tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        for info in (*model.graph.value_info, *model.graph.input)
    }
    found = []
    for index, node in enumerate(model.graph.node):
        if node.op_type not in KINDS:
            continue
        tail = node.output[0]
        while tail not in outputs and len(after := readers.get(tail, [])) == 1 and after[0].op_type in NORMS:
            tail = after[0].output[0]
        binary = node.domain == DOMAIN
        threshold = (
            numpy_helper.to_array(arrays[node.input[1]]) if binary and node.input[1] in arrays else None
        )
        found.append(Layer(node.name, index, node.input[0], tail, threshold, shapes.get(node.input[0])))
    return found


def signs_of(layer: Layer, x: Array) -> NDArray[np.bool_]:
    """Whether x [N, C, ...] reaches the layer's threshold."""
    return np.asarray(x >= _column(layer, x))


def margins_of(layer: Layer, x: Array) -> Array:
    """How far x is from the layer's threshold."""
    return np.asarray(x - _column(layer, x))


def _column(layer: Layer, x: Array) -> Array:
    if layer.threshold is None:
        raise ValueError(f"{layer.name} is not binary")
    return layer.threshold.reshape(1, -1, *[1] * (x.ndim - 2))


def run_cut(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    reads: Mapping[str, Array],
    signs: Mapping[str, NDArray[np.bool_]],
) -> Values:
    """Run `model` without its 8-bit and float16 rounding, cut in front of every layer that `reads` or `signs` names.

    The value in front of each layer, the one behind it, and the outputs are computed. `model` is not changed.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    remove_rounding(whole)
    layers = layers_of(whole)
    feeds: dict[str, Array] = dict(inputs)
    wanted = [value.name for value in whole.graph.output]
    for layer in layers:
        wanted += [layer.x, layer.tail]
        fed = _fed(layer, reads, signs)
        if fed is None:
            continue
        name = PREFIX + layer.name
        whole.graph.node[layer.index].input[0] = name
        whole.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, fed.shape))
        feeds[name] = fed
    values = run_onnx(whole, feeds, wanted)
    return Values(whole, feeds, values | feeds)


def _fed(
    layer: Layer, reads: Mapping[str, Array], signs: Mapping[str, NDArray[np.bool_]]
) -> NDArray[np.float32] | None:
    if layer.threshold is not None:
        sign = signs.get(layer.name)
        if sign is None or (layer.shape is not None and sign.shape != layer.shape):
            return None
        column = np.broadcast_to(_column(layer, sign), sign.shape)
        return np.where(sign, column, column - 1 - np.abs(column)).astype(np.float32)
    x = reads.get(layer.name)
    if x is None or (layer.shape is not None and x.size != np.prod(layer.shape)):
        return None  # its Pad stands outside, as a node of its own
    return np.asarray(x if layer.shape is None else x.reshape(layer.shape), np.float32)


def run_onnx(model: onnx.ModelProto, feeds: Mapping[str, Array], names: list[str]) -> dict[str, Array]:
    """The values called `names`; those that are fed or constant are given as they are."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    produced = {name for node in whole.graph.node for name in node.output}
    wanted = [name for name in dict.fromkeys(names) if name in produced]
    if not wanted:
        return {}
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    options = runtime().SessionOptions()
    options.log_severity_level = 3
    session = runtime().InferenceSession(whole.SerializeToString(), options, ["CPUExecutionProvider"])
    needed = {one.name for one in session.get_inputs()}
    results = session.run(wanted, {name: array for name, array in feeds.items() if name in needed})
    return dict(zip(wanted, results, strict=True))

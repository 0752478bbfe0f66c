"""Small questions to ask of an onnx-ir graph, and small things to do to it; shared by fold and lower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.errors import InputError
from bhpe_compile.exchange.functions import BINARY, DOMAIN, INT8, PACKED

CONVOLUTIONS = ("Conv", "ConvTranspose")
"""Full-precision convolutions of standard ONNX."""

LAYERS = (*CONVOLUTIONS, "Gemm", "MatMul", *BINARY)
"""Operators that are layers of the network, before their weights are packed."""

LAYER = "bhpe.layer"
"""The entry of a node's `meta` that holds the path of its layer. It is no part of a file."""


def layer_of(node: ir.Node) -> str | None:
    """The path of the layer that `node` computes, as it was set where the node entered; None for a formula."""
    path = node.meta.get(LAYER)
    return path if isinstance(path, str) else None


def set_layer(node: ir.Node, path: str) -> None:
    """`node` computes the layer `path`; passes that rewrite a node in place keep that."""
    node.meta[LAYER] = path


def set_layers_of_file(model: ir.Model) -> None:
    """A model that was read from a file: every node with stored weights computes the layer of its name."""
    for node in model.graph:
        weight = weight_of(node)
        if weight is not None and weight.is_initializer() and node.name:
            set_layer(node, node.name)


def is_binary(node: ir.Node) -> bool:
    """Whether `node` is a binary layer whose weights are not packed yet."""
    return node.domain == DOMAIN and node.op_type in BINARY


def is_packed(node: ir.Node) -> bool:
    """Whether `node` is a binary layer with packed weights."""
    return node.domain == DOMAIN and node.op_type in PACKED


def is_int8(node: ir.Node) -> bool:
    """Whether `node` is a convolution of 8-bit levels."""
    return node.domain == DOMAIN and node.op_type in INT8


def is_dense_convolution(node: ir.Node) -> bool:
    """Whether `node` is a full-precision convolution."""
    return node.domain in ("", "ai.onnx") and node.op_type in CONVOLUTIONS


def shape_of(value: ir.Value | None) -> tuple[int, ...]:
    """Static shape of a value; an InputError names values whose shape is unknown or dynamic."""
    if value is None or value.shape is None or any(not isinstance(d, int) for d in value.shape):
        name = "?" if value is None else value.name
        raise InputError(f"value {name} has no static shape: export the model with a fixed batch of 1")
    return tuple(int(d) for d in value.shape)  # type: ignore[arg-type]


def weight_of(node: ir.Node) -> ir.Value | None:
    """The value a layer reads as its weight (for a MatMul, its second factor); None when `node` is no layer."""
    return node.inputs[2 if node.domain == DOMAIN else 1] if node.op_type in LAYERS else None


def array_of(value: ir.Value | None) -> NDArray[Any] | None:
    """The constant behind a value, or None when it is computed."""
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    producer = value.producer()
    if producer is not None and producer.op_type == "Constant" and "value" in producer.attributes:
        return producer.attributes["value"].as_tensor().numpy()
    return None


def constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Register `array` as an initializer; the name is made unique."""
    unique, count = name, 1
    while unique in graph.initializers:
        unique, count = f"{name}_{count}", count + 1
    tensor = ir.Tensor(np.asarray(array, order="C"), name=unique)  # ascontiguousarray makes scalars vectors
    value = ir.Value(
        name=unique, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape)
    )
    graph.register_initializer(value)
    return value


def float_constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Register `array` as a float32 initializer. InputError for what float32 does not hold."""
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise InputError(
            f"{name}: folding the layer's norms and scales gives numbers that float32 does not hold"
        )
    return constant(graph, name, narrow)


def integers(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An integer-list attribute, or its default."""
    return tuple(node.attributes[name].as_ints()) if name in node.attributes else tuple(default)


def integer(node: ir.Node, name: str, default: int = 0) -> int:
    """An integer attribute, or its default."""
    return node.attributes[name].as_int() if name in node.attributes else default


def text(node: ir.Node, name: str, default: str = "") -> str:
    """A string attribute, or its default."""
    return node.attributes[name].as_string() if name in node.attributes else default


def new_value(name: str, shape: Sequence[int], dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    """A fresh value with static shape."""
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def only_use(value: ir.Value) -> ir.Node | None:
    """The one node that reads `value`, or None when several do, none does, or it is a graph output."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def detach(graph: ir.Graph, node: ir.Node) -> None:
    """Take `node` out of the graph and cut it off from its inputs."""
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)
    graph.remove(node)


def substitute(graph: ir.Graph, old: ir.Node, new: ir.Node, outputs: Mapping[ir.Value, ir.Value]) -> None:
    """Put `new` at the place of `old`; values in `outputs` are replaced by their partners everywhere."""
    graph.insert_before(old, new)
    for before, after in outputs.items():
        name = before.name
        ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
        if after.is_graph_output():
            before.name, after.name = f"{name}_replaced", name
    detach(graph, old)

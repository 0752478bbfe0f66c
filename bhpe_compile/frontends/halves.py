"""Files in float16 are computed in float32, which holds every float16 number: weights, inputs, outputs and casts change
their type, in place. Weights are stored as float16 all the same, where their kernels read that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

TYPES = frozenset({"to", "dtype", "output_dtype", "stash_type"})
"""Attributes that name a type."""


def widen(model: ModelProto) -> bool:
    """Turn float16 into float32; whether there was any."""
    found = [_widen_graph(graph) for graph in _graphs(model.graph)]
    found += [_widen_node(node) for function in model.functions for node in function.node]
    return any(found)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
                yield from _graphs(inner)


def _widen_graph(graph: GraphProto) -> bool:
    found = [_widen_tensor(tensor) for tensor in graph.initializer]
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        if value.type.WhichOneof("value") == "tensor_type" and tensor.elem_type == TensorProto.FLOAT16:
            tensor.elem_type = TensorProto.FLOAT
            found.append(True)
    found += [_widen_node(node) for node in graph.node]
    return any(found)


def _widen_node(node: NodeProto) -> bool:
    found = False
    for attribute in node.attribute:
        if attribute.name in TYPES and attribute.i == TensorProto.FLOAT16:
            attribute.i, found = TensorProto.FLOAT, True
        elif attribute.type == AttributeProto.TENSOR:
            found = _widen_tensor(attribute.t) or found
    return found


def _widen_tensor(tensor: TensorProto) -> bool:
    if tensor.data_type != TensorProto.FLOAT16:
        return False
    array = numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return True

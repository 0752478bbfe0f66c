"""Runs a graph with kernel nodes in NumPy: kernels by their references, the rest by ONNX's own."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.describe import ARRAY_ROLES, describe
from bhpe_compile.targets.isa import AVX512


def reference(model: ir.Model, image: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """Outputs of a graph without kernel nodes, computed by ONNX Runtime."""
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return list(session.run(None, {"image": image}))


def evaluate(model: ir.Model, feeds: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    """Outputs of the graph in order."""
    values: dict[str, NDArray[np.generic]] = dict(feeds)
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:
            values[name] = value.const_value.numpy()
    bodies = [ir.to_proto(body) for body in model.functions.values()]
    for node in model.graph:
        outputs = _kernel(node, values) if g.is_kernel(node) else _standard(node, values, bodies)
        values.update(zip((o.name or "" for o in node.outputs), outputs, strict=True))
    return [values[o.name or ""] for o in model.graph.outputs]


def _kernel(node: ir.Node, values: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    kernel = describe(node)
    arrays = {r: values[v.name or ""] for r, v in g.operands_of(node).items()}
    given = {role: arrays.pop(role) for role in ARRAY_ROLES if role in arrays}
    arrays |= kernel.constants(AVX512, given)
    results = kernel.reference(**arrays)
    return [results[name] for name in g.results_of(node)]


def _standard(
    node: ir.Node, values: dict[str, NDArray[np.generic]], bodies: list[onnx.FunctionProto]
) -> list[NDArray[np.generic]]:
    proto = ir.to_proto(node)
    feeds = {i.name: values[i.name] for i in node.inputs if i is not None and i.name is not None}
    infos = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    outs = [onnx.helper.make_empty_tensor_value_info(o.name or "") for o in node.outputs]
    graph = onnx.helper.make_graph([proto], "one", infos, outs)
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("bhpe", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, functions=bodies)
    return list(ReferenceEvaluator(model).run(None, feeds))

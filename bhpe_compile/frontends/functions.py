"""Operators that the standard itself writes out as others are written out, where nothing here computes them whole.

The bodies are those of `onnx.defs`, at the op set of the model; functions that a file brings along are inlined as well.
"""

from __future__ import annotations

import onnx
from onnx import FunctionProto, ModelProto, NodeProto

WRITTEN_OUT = frozenset(
    {
        *("Attention", "AffineGrid", "Celu", "CenterCropPad", "MeanVarianceNormalization"),
        *(
            "NegativeLogLikelihoodLoss",
            "RMSNormalization",
            "RotaryEmbedding",
            "SoftmaxCrossEntropyLoss",
            "Swish",
        ),
        *("BlackmanWindow", "HammingWindow", "HannWindow"),
    }
)
"""Operators that are written out wherever they stand."""

ONE_RESULT = frozenset({"LayerNormalization"})
"""Operators that are computed whole as long as only their first result is asked for."""

DEEPEST = 4
"""Bodies within each other."""

PLACE = "bhpe.written.out"
"""The domain of the bodies until they are inlined."""


def write_out(model: ModelProto) -> tuple[ModelProto, tuple[str, ...]]:
    """The model with those operators, and its own functions, written out; and the operators that were, by name.

    An operator whose body is not known at the model's op set stays. Bodies may hold such operators again.
    """
    done: dict[str, None] = {}
    for _ in range(DEEPEST):
        model, kinds = _write_out_once(model)
        if not kinds:
            break
        done |= dict.fromkeys(kinds)
    return model, tuple(done)


def _write_out_once(model: ModelProto) -> tuple[ModelProto, tuple[str, ...]]:
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    types = _types(model)
    done: list[str] = []
    changed = ModelProto()
    changed.CopyFrom(model)
    for index, node in enumerate(changed.graph.node):
        several = node.op_type in ONE_RESULT and len([name for name in node.output if name]) > 1
        if node.domain not in ("", "ai.onnx") or not (node.op_type in WRITTEN_OUT or several):
            continue
        body = _body(node, version, types)
        if body is None:
            continue
        done.append(node.op_type)
        body.domain, body.name = PLACE, f"{node.op_type}_{index}"
        changed.functions.append(body)
        node.domain, node.op_type = body.domain, body.name
    if not done and not model.functions:
        return model, ()
    if done:
        changed.opset_import.add(domain=PLACE, version=1)
    from onnx import inliner

    return inliner.inline_local_functions(changed), tuple(dict.fromkeys(done))


def _types(model: ModelProto) -> dict[str, onnx.TypeProto]:
    """The types of the graph's values by name."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    types = {one.name: one.type for one in (*inferred.value_info, *inferred.input, *inferred.output)}
    for tensor in model.graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    return types


def _body(node: NodeProto, version: int, types: dict[str, onnx.TypeProto]) -> FunctionProto | None:
    """The body of a node's operator at an op set, None where the standard has none."""
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return None
    if version in schema.function_opset_versions or schema.has_function:
        content = schema.get_function_with_opset_version(
            max(v for v in schema.function_opset_versions if v <= version)
        )
    elif schema.has_context_dependent_function:
        known = [v for v in schema.context_dependent_function_opset_versions if v <= version]
        inputs = [types.get(name, onnx.TypeProto()).SerializeToString() for name in node.input]
        content = schema.get_context_dependent_function_with_opset_version(
            max(known), node.SerializeToString(), inputs
        )
    else:
        return None
    body = FunctionProto.FromString(content)
    for entry in body.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = version
    return body

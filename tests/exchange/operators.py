"""One operator of the domain `bhpe` executed by torch and by ONNX Runtime."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bhpe_compile.exchange.functions import DOMAIN, attach_bodies

Array = NDArray[Any]
LEVELS = {"optimized": "ORT_ENABLE_ALL", "plain": "ORT_DISABLE_ALL"}


def onnx_outputs(op: str, inputs: dict[str, Array], **attributes: Any) -> dict[str, Array]:
    """What ONNX Runtime makes of one node with its body, with all its optimizations and with none."""
    infos = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in inputs.items()
    ]
    node = helper.make_node(op, list(inputs), ["y"], domain=DOMAIN, **attributes)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model = ir.from_proto(
        helper.make_model(helper.make_graph([node], "one", infos, [out]), opset_imports=opsets)
    )
    model.ir_version = 10
    attach_bodies(model)
    proto = ir.to_proto(model).SerializeToString()
    found = {}
    for name, level in LEVELS.items():
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
        found[f"ONNX Runtime, {name}"] = np.asarray(session.run(None, inputs)[0])
    return found


def everywhere(op: str, inputs: dict[str, Array], **attributes: Any) -> dict[str, Array]:
    """The same, and what torch's operator of that name makes of the inputs; its arguments have this order."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", op).lower()
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in inputs.values()]
    result = getattr(torch.ops.bhpe, name)(*tensors, *attributes.values())
    return {"torch": result.numpy(), **onnx_outputs(op, inputs, **attributes)}

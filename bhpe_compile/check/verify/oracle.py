"""ONNX Runtime on the artefact's own model.onnx, with the signs of every binary layer brought out.

The same file with its Q/DQ and cast pairs taken out is the network before 8-bit and float16 rounding: what these
choices cost is the difference between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from bhpe_compile.check.verify.integers import BinaryLayer, Int8Layer, binary_layers, int8_layers
from bhpe_compile.exchange.onnx_runtime import runtime


@dataclass(frozen=True)
class OracleRun:
    """Outputs by name; the signs each binary layer read, bool [N, H, W, C]; the levels each 8-bit layer read."""

    outputs: dict[str, NDArray[np.float32]]
    signs: dict[str, NDArray[np.bool_]]
    levels: dict[str, NDArray[np.uint8]]
    layers: dict[str, BinaryLayer]
    int8: dict[str, Int8Layer]


def run_oracle(model_path: Path, inputs: Mapping[str, NDArray[np.float32]]) -> OracleRun:
    """Run model.onnx unchanged except for extra outputs in front of the binary layers."""
    return _run(onnx.load(model_path), inputs)


def run_without_rounding(model_path: Path, inputs: Mapping[str, NDArray[np.float32]]) -> OracleRun | None:
    """Run model.onnx with float32 in place of 8-bit and float16 values; None when it has none."""
    model = onnx.load(model_path)
    return _run(model, inputs) if remove_rounding(model) else None


def remove_rounding(model: onnx.ModelProto) -> bool:
    """Take Q/DQ pairs and casts to float16 and back out of a model, in place; whether there were any."""
    producers = {name: node for node in model.graph.node for name in node.output}
    pairs = {"DequantizeLinear": "QuantizeLinear", "Cast": "Cast"}
    origin: dict[str, str] = {}
    for node in model.graph.node:
        before = producers.get(node.input[0]) if node.op_type in pairs else None
        if before is not None and before.op_type == pairs[node.op_type] and _returns(node, before):
            origin[node.output[0]] = before.input[0]
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            while name in origin:
                name = origin[name]
            node.input[index] = name
    return bool(origin)


def _returns(node: onnx.NodeProto, before: onnx.NodeProto) -> bool:
    if node.op_type != "Cast":
        return True
    kinds = [onnx.helper.get_attribute_value(n.attribute[0]) for n in (before, node)]
    return kinds == [onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT]


def _run(model: onnx.ModelProto, inputs: Mapping[str, NDArray[np.float32]]) -> OracleRun:
    layers, int8 = binary_layers(model), int8_layers(model)
    names = [o.name for o in model.graph.output]
    for name in dict.fromkeys(
        [la.x_name for la in layers.values()] + [la.levels_name for la in int8.values()]
    ):
        if name not in names:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = runtime().SessionOptions()
    options.log_severity_level = 3
    session = runtime().InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    values = dict(zip([o.name for o in session.get_outputs()], session.run(None, dict(inputs)), strict=True))
    signs = {}
    for layer in layers.values():
        x = values[layer.x_name]
        last = np.moveaxis(x, 1, -1) if x.ndim == 4 else x[:, None, None, :]
        signs[layer.name] = last >= layer.threshold
    levels = {name: np.moveaxis(values[layer.levels_name], 1, -1) for name, layer in int8.items()}
    return OracleRun({name: values[name] for name in names}, signs, levels, layers, int8)

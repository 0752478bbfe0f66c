"""ONNX Runtime on the artefact's own model.onnx, with the signs of every binary layer brought out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from bhpe_compile.verification.integers import BinaryLayer, binary_layers


@dataclass(frozen=True)
class OracleRun:
    """Outputs by name, and per binary layer the signs it read: bool [N, H, W, C]."""

    outputs: dict[str, NDArray[np.float32]]
    signs: dict[str, NDArray[np.bool_]]
    layers: dict[str, BinaryLayer]


def run_oracle(model_path: Path, inputs: Mapping[str, NDArray[np.float32]]) -> OracleRun:
    """Run model.onnx unchanged except for extra outputs in front of the binary layers."""
    model = onnx.load(model_path)
    layers = binary_layers(model)
    names = [o.name for o in model.graph.output]
    known = set(names)
    for layer in layers.values():
        if layer.x_name not in known:
            known.add(layer.x_name)
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(layer.x_name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    values = dict(zip([o.name for o in session.get_outputs()], session.run(None, dict(inputs)), strict=True))
    signs = {}
    for layer in layers.values():
        x = values[layer.x_name]
        last = np.moveaxis(x, 1, -1) if x.ndim == 4 else x[:, None, None, :]
        signs[layer.name] = last >= layer.threshold
    return OracleRun({name: values[name] for name in names}, signs, layers)

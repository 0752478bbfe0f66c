"""ONNX Runtime on the artefact's own model.onnx, with what every layer reads brought out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bhpe_compile.check.verify.layers import Layer, layers_of
from bhpe_compile.exchange.float_parts import ROUNDING, chosen, float_parts, is_float_part, rounded
from bhpe_compile.exchange.runtime import EXACT_SUMS, runtime
from bhpe_compile.networks.interface import Interface

Array = NDArray[Any]

SAME, FLOAT, ROUNDED = 0, 1, 2
"""A value is the same everywhere; a float part is in front of it; what a float part gave was rounded in front of it."""


@dataclass(frozen=True)
class OracleRun:
    """Outputs by name, what each layer read (see `layers.Layer`), the boxes of each crop by its name, and the scores of
    each output that tells which one is largest (ArgMax), by its name.

    `doubtful`: of a layer right behind a float part, where another rounding of it may give another sign or level.
    """

    outputs: dict[str, Array]
    reads: dict[str, Array]
    crops: dict[str, Array]
    scores: dict[str, Array]
    doubtful: dict[str, Array]


class Oracle:
    """model.onnx, open in ONNX Runtime.

    `float_parts` are in front of a layer's signs or levels, of what a linear layer rounds, or of a box. `settled` names
    layers and outputs that have none in front of a rounding: what such a layer reads is equal. `apart` says of every
    layer and output whether it is the SAME where all layers in front read the same. `chosen` are outputs that an argmax
    is taken of, with the float parts in front.
    """

    def __init__(self, model: onnx.ModelProto, interface: Interface) -> None:
        self.layers: dict[str, Layer] = layers_of(model)
        self.outputs = [value.name for value in model.graph.output]
        self.boxes = [name for name in self.outputs if interface.output(name).kind == "boxes"]
        reads = [layer.x for layer in self.layers.values()]
        self.crops = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Crop"}
        self.float_parts = float_parts(model, rounded(model, interface))
        self.chosen = chosen(model, interface)
        self.settled = frozenset(name for name, state in self._states(model).items() if state == SAME)
        self.apart = self._states(model, forced=True)
        self._scores = {
            node.output[0]: (node.input[0], _axis(node))
            for node in model.graph.node
            if node.op_type == "ArgMax" and node.output[0] in self.outputs
        }
        scores = [name for name, _ in self._scores.values()]
        self._session = _open(model, [*reads, *self.crops.values(), *scores])
        self._names = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> OracleRun:
        """On inputs by name."""
        found = dict(zip(self._names, self._session.run(None, dict(feeds)), strict=True)) | dict(feeds)
        reads = {name: layer.of_value(found[layer.x]) for name, layer in self.layers.items()}
        crops = {name: found[boxes] for name, boxes in self.crops.items()}
        scores = {name: np.moveaxis(found[of], axis, -1) for name, (of, axis) in self._scores.items()}
        doubtful = {
            name: layer.doubtful(found[layer.x])
            for name, layer in self.layers.items()
            if self.apart[name] == FLOAT
        }
        return OracleRun({name: found[name] for name in self.outputs}, reads, crops, scores, doubtful)

    def _states(self, model: onnx.ModelProto, forced: bool = False) -> dict[str, int]:
        """SAME, FLOAT or ROUNDED of what every layer reads, and of every output: of an output FLOAT counts as SAME,
        as nothing was rounded behind the float part. forced: what layers and crops read is equal, whoever computes."""
        state: dict[str, int] = {}
        found: dict[str, int] = {}
        for node in model.graph.node:
            before = [state.get(name, SAME) for name in node.input]
            behind = max(before, default=SAME)
            if node.name in self.layers:
                found[node.name] = before[0]
                behind = max(before[1:], default=SAME) if forced else behind
                behind = ROUNDED if behind else SAME
            elif forced and node.op_type == "Crop":
                behind = before[0]
            elif node.op_type in ROUNDING:
                behind = ROUNDED if behind else SAME
            elif is_float_part(node):
                behind = max(behind, FLOAT)
            state |= dict.fromkeys(node.output, behind)
        return found | {name: ROUNDED if state.get(name, SAME) == ROUNDED else SAME for name in self.outputs}


def _axis(node: onnx.NodeProto) -> int:
    return next((int(one.i) for one in node.attribute if one.name == "axis"), 0)


def run_values(model: onnx.ModelProto, feeds: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
    """The values called `names` of a model, and its inputs."""
    session = _open(model, names)
    values = session.run(None, dict(feeds))
    return dict(zip([value.name for value in session.get_outputs()], values, strict=True)) | dict(feeds)


def _open(model: onnx.ModelProto, extra: Iterable[str]) -> Any:
    """A session on a copy of `model` with further outputs."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    produced = {name for node in whole.graph.node for name in node.output}
    produced -= {value.name for value in whole.graph.output}
    for name in dict.fromkeys(name for name in extra if name in produced):
        whole.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = runtime().SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(*EXACT_SUMS)
    return runtime().InferenceSession(whole.SerializeToString(), options, ["CPUExecutionProvider"])

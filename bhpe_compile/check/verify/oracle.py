"""ONNX Runtime on the artefact's own model.onnx, with what every layer reads brought out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bhpe_compile.check.verify.layers import Layer, layers_of
from bhpe_compile.exchange.runtime import runtime
from bhpe_compile.networks.interface import Interface

Array = NDArray[Any]

EXACT = frozenset(
    """
    Abs Add And ArgMax ArgMin Cast Ceil Clip Concat Constant ConstantOfShape ConvInteger
    DequantizeLinear Div Equal Expand Flatten Floor Gather GlobalMaxPool Greater GreaterOrEqual Identity
    LeakyRelu Less LessOrEqual MatMulInteger Max MaxPool Min Mul Neg Not Or PRelu Pad QuantizeLinear
    ReduceMax ReduceMin Relu Reshape Round Shape Sign Slice Split Sqrt Squeeze Sub Tile Transpose
    Unsqueeze Where
    """.split()  # noqa: SIM905 (a list is fifty lines)
)
"""Operations of ONNX whose result IEEE 754 settles. The others are sums in no written order, or functions that every
library computes its own way."""


def is_exact(node: onnx.NodeProto) -> bool:
    """Whether every program computes the bits of a node of standard ONNX: it is one of `EXACT`, or copies pixels."""
    copies = node.op_type == "Resize" and any(a.name == "mode" and a.s == b"nearest" for a in node.attribute)
    return node.op_type in EXACT or copies


ROUNDING = ("FixedPointLinear", "CellMean")
"""Operations of ours that round what they read to a grid."""


@dataclass(frozen=True)
class OracleRun:
    """Outputs by name, what each layer read (see `layers.Layer`), the boxes of each crop by its name, and the scores of
    each output that tells which one is largest (ArgMax), by its name."""

    outputs: dict[str, Array]
    reads: dict[str, Array]
    crops: dict[str, Array]
    scores: dict[str, Array]


class Oracle:
    """model.onnx, open in ONNX Runtime.

    `float_parts` are in front of a layer's signs or levels, of what a linear layer rounds, or of a box. `settled` names
    layers and outputs that have none in front of a rounding: what such a layer reads is equal.
    """

    def __init__(self, model: onnx.ModelProto, interface: Interface) -> None:
        self.layers: dict[str, Layer] = layers_of(model)
        self.outputs = [value.name for value in model.graph.output]
        self.boxes = [name for name in self.outputs if interface.output(name).kind == "boxes"]
        reads = [layer.x for layer in self.layers.values()]
        self.crops = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Crop"}
        rounded = [node.input[0] for node in model.graph.node if node.op_type in ROUNDING]
        self.float_parts = float_parts(model, [*reads, *self.boxes, *rounded])
        self.settled = self._settled(model)
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
        return OracleRun({name: found[name] for name in self.outputs}, reads, crops, scores)

    def _settled(self, model: onnx.ModelProto) -> frozenset[str]:
        """Names of layers and outputs without a rounding of a float part in front."""
        state: dict[str, int] = {}  # of a value: 0 the same everywhere, 1 float, 2 float that was rounded
        found = set()
        for node in model.graph.node:
            before = max((state.get(name, 0) for name in node.input), default=0)
            behind = before
            if node.name in self.layers:
                behind = 2 if before else 0
                if not before:
                    found.add(node.name)
            elif node.op_type in ROUNDING:
                behind = 2 if before else 0
            elif node.domain == "" and not is_exact(node):
                behind = max(before, 1)
            state |= dict.fromkeys(node.output, behind)
        return frozenset(found | {name for name in self.outputs if state.get(name, 0) < 2})


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
    return runtime().InferenceSession(whole.SerializeToString(), options, ["CPUExecutionProvider"])


def float_parts(model: onnx.ModelProto, values: Iterable[str]) -> tuple[str, ...]:
    """Names of the nodes in front of `values` whose float result depends on who computes it, in graph order."""
    producers = {name: node for node in model.graph.node for name in node.output}
    waiting, seen = list(values), set[str]()
    found = set[str]()
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.domain == "" and not is_exact(node):
            found.add(node.name or node.output[0])
        waiting += node.input
    return tuple(n for node in model.graph.node if (n := node.name or node.output[0]) in found)

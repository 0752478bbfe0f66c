"""Float parts of model.onnx: nodes whose result no two programs compute to the bit, and what they stand in front of.

In front of a sign, a level or a box they end what is equal on every machine. In front of an argmax they may change its
result where two scores are alike. The manifest names both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bhpe_compile.exchange.functions import DOMAIN, INT8, PACKED
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

ROUNDING = ("FixedPointLinear", "CellMean")
"""Operations of ours that round what they read to a grid."""

CHOOSING = ("simcc", "logits", "codes")
"""Kinds of outputs of which the place of the largest value is what matters, or is what they hold."""


def is_exact(node: onnx.NodeProto) -> bool:
    """Whether every program computes the bits of a node of standard ONNX: it is one of `EXACT`, or copies pixels."""
    copies = node.op_type == "Resize" and any(a.name == "mode" and a.s == b"nearest" for a in node.attribute)
    return node.op_type in EXACT or copies


def is_float_part(node: onnx.NodeProto) -> bool:
    """Whether the result of a node depends on who computes it; our own operations are written out."""
    return node.domain == "" and not is_exact(node)


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
        if is_float_part(node):
            found.add(node.name or node.output[0])
        waiting += node.input
    return tuple(n for node in model.graph.node if (n := node.name or node.output[0]) in found)


def rounded(model: onnx.ModelProto, interface: Interface) -> list[str]:
    """Values that become signs or levels or are rounded to a grid, and boxes."""
    layers = (*PACKED, *INT8)
    reads = [node.input[0] for node in model.graph.node if node.domain == DOMAIN and node.op_type in layers]
    grids = [node.input[0] for node in model.graph.node if node.op_type in ROUNDING]
    boxes = [value.name for value in model.graph.output if interface.output(value.name).kind == "boxes"]
    return [*reads, *boxes, *grids]


def chosen(model: onnx.ModelProto, interface: Interface) -> dict[str, tuple[str, ...]]:
    """Outputs that an argmax is taken of, or that one gave, with the float parts in front; none without any."""
    by_node = {node.output[0] for node in model.graph.node if node.op_type in ("ArgMax", "ArgMin")}
    names = [value.name for value in model.graph.output]
    picked = [name for name in names if name in by_node or interface.output(name).kind in CHOOSING]
    return {name: parts for name in picked if (parts := float_parts(model, [name]))}


def places(output: Array) -> Array:
    """Where the largest value of every row is, the first one of equal ones; whole numbers are such places already."""
    return output if output.dtype.kind in "iu" else np.asarray(output.argmax(-1))


def told(model: onnx.ModelProto, interface: Interface) -> dict[str, Any]:
    """Plain data for the manifest: names of the float parts in front of levels, and in front of each argmax."""
    return {
        "levels": list(float_parts(model, rounded(model, interface))),
        "argmax": {name: list(parts) for name, parts in chosen(model, interface).items()},
    }

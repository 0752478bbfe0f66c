"""What a linear layer reads beside its input, and is the same for every picture, is a part of its bias.

    Gemm(Concat(x, c), [W_x W_c], b)    ->   Gemm(x, W_x, b + W_c c)

Computed in float64, stored as float32. Weights that other calls read as well stay: a second copy of W_x would take more
room than W_c leaves.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.nodes import (
    array_of,
    constant,
    float_constant,
    integer,
    new_value,
    shape_of,
)
from bhpe_compile.passes.base import Note, Pass, PassResult


class FoldConstantFeatures(Pass[ir.Model]):
    """Gemm of features and constants -> Gemm of features, the constants in its bias."""

    name: ClassVar[str] = "fold-constant-features"
    summary: ClassVar[str] = "constants that a linear layer reads become a part of its bias"

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.domain == "" and node.op_type == "Gemm":
                notes += self._fold(graph.graph, node)
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _fold(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        x = node.inputs[0]
        concat = x.producer() if x is not None else None
        if x is None or concat is None or concat.op_type != "Concat" or len(shape_of(x)) != 2:
            return []
        arrays = [array_of(part) for part in concat.inputs]
        if integer(concat, "axis") not in (1, -1) or all(one is None for one in arrays):
            return []
        name, weight = node.name or "", array_of(node.inputs[1])
        bias = array_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        why = _refusal(node, arrays, weight, bias)
        if why:
            return [self.refused(name, why)]
        assert weight is not None
        by_output = weight if integer(node, "transB") else weight.T
        shift = np.zeros(len(by_output)) if bias is None else bias.astype(np.float64).reshape(-1)
        kept, columns, start = [], [], 0
        for part, array in zip(concat.inputs, arrays, strict=True):
            stop = start + shape_of(part)[1]
            if array is None:
                kept.append(part)
                columns.append(by_output[:, start:stop])
            else:
                shift = shift + by_output[:, start:stop].astype(np.float64) @ array[0].astype(np.float64)
            start = stop
        rest = np.concatenate(columns, 1)
        if len(kept) == 1:
            source = kept[0]
        else:
            source = new_value(f"{x.name}_features", (shape_of(x)[0], rest.shape[1]))
            attributes = [ir.AttrInt64("axis", 1)]
            graph.insert_before(
                node, ir.Node("", "Concat", kept, attributes, outputs=[source], name=f"{name}.features")
            )
        node.replace_input_with(0, source)
        stored = rest if integer(node, "transB") else rest.T
        node.replace_input_with(1, constant(graph, f"{name}.features.weight", np.ascontiguousarray(stored)))
        node.resize_inputs(3)
        node.replace_input_with(2, float_constant(graph, f"{name}.features.bias", shift))
        if not x.uses() and not x.is_graph_output():
            graph.remove(concat, safe=True)
        return [
            self.applied(name, f"{weight.size // len(by_output) - rest.shape[1]} constants are in its bias")
        ]


def _refusal(
    node: ir.Node,
    arrays: list[np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None],
    weight: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None,
    bias: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None,
) -> str:
    """Why the constants stay, "" where they need not."""
    stored, given = node.inputs[1], len(node.inputs) > 2 and node.inputs[2] is not None
    if weight is None or stored is None or (given and bias is None):
        return "its weights are computed at run time"
    if len(stored.uses()) > 1:
        return "its weights are read by other calls as well"
    if integer(node, "transA") or any(
        node.attributes[one].as_float() != 1 for one in ("alpha", "beta") if one in node.attributes
    ):
        return "its product is scaled or transposed"
    if any(one is not None and (one != one[:1]).any() for one in arrays):
        return "its constants differ from row to row"
    if bias is not None and bias.size != weight.shape[0 if integer(node, "transB") else 1]:
        return "its bias is no constant for each output"
    return "nothing else is read" if all(one is not None for one in arrays) else ""

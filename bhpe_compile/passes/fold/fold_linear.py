"""Linear layers with nothing between them become one.

    Gemm(Gemm(x, W, b), V, c)  ->  Gemm(x, V W, V b + c)

    V (W x + b) + c = (V W) x + (V b + c), for every layer V that reads the first one

The first layer is gone then, so it is done where all that reads it are linear layers, and where the merged ones have no
more weights than all of them had: not behind a bottleneck. Products are taken in float64 and stored as float32, once,
also where the layers are called several times. A weight that was rounded to float16 before gives products that
were not: with `--dense fp32` they are stored as float32. With 8 bits a merged layer is rounded once, where training
rounds each of its parts.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.nodes import array_of, detach, float_constant, integer, layer_of
from bhpe_compile.passes.base import Note, Pass, PassResult

Parameters = tuple[ir.Value | None, ...]
"""Weight, and the bias where there is one."""


class FoldLinear(Pass[ir.Model]):
    """Gemms that read a Gemm, all with trained weights -> Gemms of what that one reads."""

    name: ClassVar[str] = "fold-linear"
    summary: ClassVar[str] = "merge linear layers that have no activation between them"
    ensures: ClassVar[tuple[str, ...]] = ("merged linear layers",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        merged: dict[tuple[Parameters, Parameters], Parameters] = {}
        notes = [
            note
            for node in self.visit(list(graph.graph))
            if _is_layer(node)
            for note in self._merge(graph.graph, node, merged)
        ]
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _merge(
        self, graph: ir.Graph, first: ir.Node, merged: dict[tuple[Parameters, Parameters], Parameters]
    ) -> list[Note]:
        """Take `first` into the layers that read it. merged: the parameters of pairs, which further calls share."""
        value = first.outputs[0]
        readers = [use.node for use in value.uses()]
        behind = [node for node in readers if _is_layer(node) and node.inputs[0] is value]
        if not behind:
            return []
        reason = _refusal(first, readers, behind)
        if reason is not None:
            return [self.refused(first.name or "", reason)]
        names = ", ".join(str(node.name) for node in behind)
        notes = [self.applied(first.name or "", f"it becomes part of {names}: all are linear")]
        for node in behind:
            pair = tuple(first.inputs[1:]), tuple(node.inputs[1:])
            if pair not in merged:
                merged[pair] = _product(graph, str(node.name), *pair)
            node.replace_input_with(0, first.inputs[0])
            node.resize_inputs(3)
            for place, parameter in enumerate(merged[pair], 1):
                node.replace_input_with(place, parameter)
            notes.append(self.applied(node.name or "", f"{first.name} is part of it: both are linear"))
        detach(graph, first)
        return notes


def _is_layer(node: ir.Node) -> bool:
    """Whether `node` is a linear layer with trained weights, stored by output."""
    if (node.domain, node.op_type) != ("", "Gemm") or layer_of(node) is None:
        return False
    weight, *bias = (array_of(value) for value in node.inputs[1:])
    return (
        weight is not None
        and all(one is not None and one.size == len(weight) for one in bias)
        and (integer(node, "transA"), integer(node, "transB")) == (0, 1)
        and all(node.attributes[a].as_float() == 1 for a in ("alpha", "beta") if a in node.attributes)
    )


def _refusal(first: ir.Node, readers: list[ir.Node], behind: list[ir.Node]) -> str | None:
    """Why `first` stays, or None."""
    if len(behind) < len(readers) or first.outputs[0].is_graph_output():
        return "not only linear layers read it"
    hidden, features = _shape(first)
    outputs = sum(_shape(node)[0] for node in behind)
    before, after = hidden * (features + outputs), features * outputs
    if after > before:
        names = ", ".join(str(node.name) for node in behind)
        return f"it keeps {names} small: merged, {after} weights would take the place of {before}"
    return None


def _shape(node: ir.Node) -> tuple[int, int]:
    """Outputs and features."""
    weight = array_of(node.inputs[1])
    assert weight is not None  # `_is_layer` has looked
    return weight.shape[0], weight.shape[1]


def _product(graph: ir.Graph, name: str, first: Parameters, second: Parameters) -> Parameters:
    """Weight and bias of the layer `name` behind `first`."""
    (w, b), (v, c) = (_float64(parameters) for parameters in (first, second))
    weight = float_constant(graph, f"{name}.merged.weight", v @ w)
    return weight, float_constant(graph, f"{name}.merged.bias", v @ b + c)


def _float64(parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias, zeros where there is none."""
    weight, *bias = (np.asarray(array_of(value), np.float64) for value in parameters)
    return weight, bias[0].reshape(-1) if bias else np.zeros(len(weight))

"""Operators whose result no standard settles, of an imported network in 8 bits, become those that IEEE 754 settles.

    HardSigmoid(x)              ->  Clip(alpha x + beta, 0, 1)
    HardSwish(x)                ->  x Clip(x (1 / 6) + 0.5, 0, 1)
    Sigmoid(x), a few values    ->  Logistic(x), a polynomial in a written order
    BatchNormalization(x)       ->  k x + (beta - k mean),  k = gamma / sqrt(var + eps), where no layer took it in

Every runtime and every kernel computes the products and sums of these forms alike, so that the levels behind them are
equal. A Sigmoid of more than `MOST` values stays: its polynomial is computed one value at a time.
"""

from __future__ import annotations

from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN, attach_bodies
from bhpe_compile.exchange.nodes import array_of, float_constant, integer, new_value, shape_of, substitute
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.fold.round_constants import settled

MOST = 4096
"""Values of a Sigmoid that is written out: the gates of channels, not maps."""


class WriteOutFunctions(Pass[ir.Model]):
    """HardSigmoid, HardSwish, small Sigmoid, lone BatchNormalization -> products and sums."""

    name: ClassVar[str] = "write-out-functions"
    summary: ClassVar[str] = (
        "write gates and lone norms as products and sums that every program computes alike"
    )
    requires: ClassVar[tuple[str, ...]] = ("folded norms",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.domain not in ("", "ai.onnx"):
                continue
            if node.op_type in ("HardSigmoid", "HardSwish"):
                notes.append(self._gate(graph.graph, node))
            elif node.op_type == "Sigmoid":
                notes.append(self._sigmoid(graph.graph, node))
            elif node.op_type == "BatchNormalization":
                notes.append(self._norm(graph.graph, node))
        modified = any(note.applied for note in notes)
        if modified:
            attach_bodies(graph)  # Logistic may be new
        return PassResult(graph, modified, tuple(notes))

    def _gate(self, graph: ir.Graph, node: ir.Node) -> Note:
        name, x = node.name or node.op_type, node.inputs[0]
        if node.op_type == "HardSwish":
            alpha, beta = 1 / 6, 0.5
        else:
            alpha, beta = (
                node.attributes[key].as_float() if key in node.attributes else default
                for key, default in (("alpha", 0.2), ("beta", 0.5))
            )
        numbers = {"alpha": alpha, "beta": beta, "zero": 0.0, "one": 1.0}
        a, b, low, high = (
            float_constant(graph, f"{name}.{word}", np.array(number)) for word, number in numbers.items()
        )
        words = [
            ("Mul", "scaled", [x, a]),
            ("Add", "shifted", [None, b]),
            ("Clip", "gate", [None, low, high]),
        ]
        if node.op_type == "HardSwish":
            words.append(("Mul", "product", [None, x]))
        self._chain(graph, node, words)
        return self.applied(name, "written as products and sums")

    def _norm(self, graph: ir.Graph, node: ir.Node) -> Note:
        name = node.name or "norm"
        arrays = [array_of(one) for one in node.inputs[1:]]
        if any(one is None for one in arrays) or integer(node, "training_mode"):
            return self.refused(name, "its parameters are computed at run time")
        gamma, beta, mean, variance = (np.asarray(one, np.float64) for one in arrays)
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        k = gamma / np.sqrt(variance + epsilon)
        along = (-1, *[1] * (len(shape_of(node.inputs[0])) - 2))
        scale = float_constant(graph, f"{name}.scale", settled(k).reshape(along))
        bias = float_constant(graph, f"{name}.shift", settled(beta - k * mean).reshape(along))
        words = [("Mul", "scaled", [node.inputs[0], scale]), ("Add", "shifted", [None, bias])]
        self._chain(graph, node, words)
        return self.applied(name, "written as a product and a sum")

    def _sigmoid(self, graph: ir.Graph, node: ir.Node) -> Note:
        name, x = node.name or "sigmoid", node.inputs[0]
        count = prod(shape_of(x))
        if count > MOST:
            return self.refused(name, f"{count} values are more than {MOST}")
        out = new_value(f"{node.outputs[0].name}_logistic", shape_of(x))
        substitute(
            graph, node, ir.Node(DOMAIN, "Logistic", [x], outputs=[out], name=name), {node.outputs[0]: out}
        )
        return self.applied(name, "a polynomial in a written order")

    @staticmethod
    def _chain(graph: ir.Graph, node: ir.Node, words: list[tuple[str, str, list[ir.Value | None]]]) -> None:
        """Operations one behind the other, in place of `node`; None stands for the one before."""
        name, y = node.name or node.op_type, node.outputs[0]
        value: ir.Value | None = None
        for kind, word, inputs in words:
            out = new_value(f"{y.name}_{word}", shape_of(y))
            given = [value if one is None else one for one in inputs]
            new = ir.Node("", kind, given, outputs=[out], name=f"{name}.{word}")
            if word == words[-1][1]:
                substitute(graph, node, new, {y: out})
            else:
                graph.insert_before(node, new)
            value = out

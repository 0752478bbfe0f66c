"""What no kernel took in of our own element-wise operators becomes standard ones, for TVM.

ChannelAffine(x, s, b)      ->   Mul(x, s), Add(., b)
RPReLU(x, g, b, z)          ->   Sub, Mul, Greater, Where, Add
"""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g


class ExpandAffines(Pass[ir.Model]):
    """ChannelAffine and RPReLU that remain -> standard nodes."""

    name: ClassVar[str] = "expand-affines"
    summary: ClassVar[str] = "write out affines and activations that no kernel takes in"
    requires: ClassVar[tuple[str, ...]] = ("fused epilogues",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.domain == DOMAIN and node.op_type in ("ChannelAffine", "RPReLU"):
                self._expand(graph.graph, node)
                notes.append(self.applied(node.name or "", "written out: no kernel in front takes it in"))
        return PassResult(graph, bool(notes), tuple(notes))

    @staticmethod
    def _expand(graph: ir.Graph, node: ir.Node) -> None:
        x, *parameters = node.inputs
        shape = g.shape_of(node.outputs[0])

        def emit(kind: str, *inputs: ir.Value | None, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
            out = g.new_value(f"{node.name}.{kind.lower()}", shape, dtype)
            one = ir.Node("", kind, list(inputs), outputs=[out], name=f"{node.name}.{kind.lower()}")
            graph.insert_before(node, one)
            return out

        if node.op_type == "ChannelAffine":
            scale, bias = parameters
            last = emit("Add", emit("Mul", x, scale), bias)
        else:
            gamma, beta, zeta = parameters
            shifted = emit("Sub", x, gamma)
            positive = emit("Greater", x, gamma, dtype=ir.DataType.BOOL)
            last = emit("Add", emit("Where", positive, shifted, emit("Mul", beta, shifted)), zeta)
        end = last.producer()
        assert end is not None  # emitted above
        old = node.outputs[0]
        name = old.name
        ir.convenience.replace_all_uses_with(old, last, replace_graph_outputs=True)
        if last.is_graph_output():
            old.name, last.name = f"{name}_replaced", name
        g.detach(graph, node)

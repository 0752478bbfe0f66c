"""An operator of ours that no kernel took is written out in standard operations, for TVM.

RPReLU, ChannelAffine, AveragePool2x2      ->      the body that ONNX Runtime executes, operation by operation

These are element-wise but for the pool, whose body is slices and sums of them: TVM computes the same bits.
"""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN, function
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g

WRITTEN = ("AveragePool2x2", "ChannelAffine", "RPReLU")


class WriteOutOperators(Pass[ir.Model]):
    """What is left of RPReLU, ChannelAffine, AveragePool2x2 -> standard operations."""

    name: ClassVar[str] = "write-out-operators"
    summary: ClassVar[str] = "write activations, affines and pools that no kernel took as standard operations"
    requires: ClassVar[tuple[str, ...]] = ("fused epilogues",)
    ensures: ClassVar[tuple[str, ...]] = ("standard operations",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.domain == DOMAIN and node.op_type in WRITTEN:
                operations = _write_out(graph.graph, node)
                notes.append(self.applied(node.name or "", f"no kernel takes it in: {operations}"))
        return PassResult(graph, bool(notes), tuple(notes))


def _write_out(graph: ir.Graph, node: ir.Node) -> str:
    """Put the body in the node's place. What lies between has the shape of the result. Returns its operations."""
    body, name, old = function(node.op_type), node.name or node.op_type, node.outputs[0]
    values: dict[ir.Value, ir.Value | None] = dict(zip(body.inputs, node.inputs, strict=True))
    written: list[ir.Node] = []
    for inner in body:
        out = inner.outputs[0]
        if inner.op_type == "Constant":
            values[out] = g.constant(
                graph, f"{name}.{out.name}", inner.attributes["value"].as_tensor().numpy()
            )
            continue
        dtype = ir.DataType.BOOL if inner.op_type == "Greater" else ir.DataType.FLOAT
        last = out is body.outputs[0]
        result = g.new_value(f"{old.name}_w" if last else f"{name}.{out.name}", g.shape_of(old), dtype)
        values[out] = result
        inputs = [values[value] for value in inner.inputs if value is not None]
        written.append(
            ir.Node(
                "",
                inner.op_type,
                inputs,
                outputs=[result],
                name=name if last else f"{name}.{inner.name}",
            )
        )
        if not last:
            graph.insert_before(node, written[-1])
    g.substitute(graph, node, written[-1], {old: written[-1].outputs[0]})
    return ", ".join(dict.fromkeys(one.op_type for one in written))

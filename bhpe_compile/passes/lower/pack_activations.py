"""Binary convolutions read packed bits; whoever writes the value also writes its bits.

    bits[c] = x[c] >= threshold[c]      channel c is bit c % 8 of byte c // 8, 4 * ceil(C / 32) bytes a pixel

The comparison joins the epilogue of the kernel that produces x, so the float value is written only where
someone still reads it. A value no kernel of ours produces, or one that is compared with two thresholds, gets
a PackBits kernel. The bits lie in a border of zeros as wide as the largest padding among the readers.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
from numpy.typing import NDArray

from bhpe_compile.errors import InputError
from bhpe_compile.kernels.kernel import packed_bytes
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g

PRODUCERS = (*g.CONV_KINDS, "MaxPool2d")
WHOLE = 8
"""Channels of a byte."""


def _threshold(node: ir.Node) -> NDArray[np.generic]:
    array = g.array_of(g.operand(node, "input_threshold"))
    if array is None:
        raise InputError(f"layer {node.name}: its threshold is computed at run time; only constants compile")
    return array.reshape(-1)


def _obstacle(producer: ir.Node | None, channels: int) -> str | None:
    """Why the kernel that produces a value cannot write its bits as well, or None when it can."""
    if producer is None or not g.is_kernel(producer, *PRODUCERS):
        return "no kernel writes it"
    if g.result(producer, "bits") is not None:
        return "it already writes other bits"
    if channels % WHOLE:
        return f"it has {channels} channels, which are no whole bytes"
    operands = g.operands_of(producer)
    if "residual" in operands and g.text(producer, "residual_kind") == "repeat":
        repeated = g.shape_of(operands["residual"])[3]
        if repeated % WHOLE:
            return f"it repeats a residual of {repeated} channels, which are no whole bytes"
    return None


class PackActivations(Pass[ir.Model]):
    """Float edges in front of binary kernels become packed bits."""

    name: ClassVar[str] = "pack-activations"
    summary: ClassVar[str] = "write sign bits where activations are produced"
    requires: ClassVar[tuple[str, ...]] = ("channel last",)
    ensures: ClassVar[tuple[str, ...]] = ("packed activations",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        while readers := self._next_readers(graph.graph):
            self.at = readers[0].name or ""
            notes.append(self._pack(graph.graph, readers))
        if notes:
            common.RemoveUnusedNodesPass()(graph)
        return PassResult(graph, bool(notes), tuple(notes))

    @staticmethod
    def _next_readers(graph: ir.Graph) -> list[ir.Node]:
        """The first reader of unpacked values, with all others of the same value and threshold."""
        waiting = [n for n in graph if g.is_kernel(n, *g.BINARY_KINDS) and "input_threshold" in g.roles(n)]
        if not waiting:
            return []
        x, threshold = g.operand(waiting[0], "x"), _threshold(waiting[0])
        return [n for n in waiting if g.operand(n, "x") is x and np.array_equal(_threshold(n), threshold)]

    def _pack(self, graph: ir.Graph, readers: list[ir.Node]) -> Note:
        x, threshold = g.operands_of(readers[0])["x"], g.operands_of(readers[0])["input_threshold"]
        batch, height, width, channels = g.shape_of(x)
        border = max(g.integer(node, "padding") for node in readers)
        shape = (batch, height + 2 * border, width + 2 * border, packed_bytes(channels))
        bits = g.new_value(f"{x.name}_bits_{g.text(readers[0], 'layer')}", shape, ir.DataType.UINT8)
        producer = x.producer()
        names = ", ".join(node.name or "" for node in readers)
        obstacle = _obstacle(producer, channels)
        if producer is not None and obstacle is None:
            self._extend(graph, producer, threshold, bits, border, readers)
            note = self.applied(producer.name or "", f"also writes the bits of {names}")
        else:
            facts: dict[str, g.AttributeValue] = {"border": border, "layout": "nhwc"}
            node = g.kernel_node(
                "PackBits",
                g.text(readers[0], "layer"),
                {"x": x, "threshold": threshold},
                {"bits": bits},
                facts,
            )
            graph.insert_before(readers[0], node)
            note = self.refused(names, f"bits are packed by a kernel of their own: {x.name}: {obstacle}")
            for reader in readers:
                self._read_bits(graph, reader, bits, border)
        return note

    def _extend(
        self,
        graph: ir.Graph,
        producer: ir.Node,
        threshold: ir.Value,
        bits: ir.Value,
        border: int,
        readers: list[ir.Node],
    ) -> None:
        for reader in readers:
            self._read_bits(graph, reader, bits, border)
        old = g.result(producer, "out")
        if old is None:
            raise AssertionError("a producer without bits writes floats")
        results = {"bits": bits}
        if list(old.uses()) or old.is_graph_output():
            results = {"out": g.new_value(f"{old.name}_f", g.shape_of(old)), "bits": bits}
        operands = g.operands_of(producer)
        if g.is_kernel(producer, "MaxPool2d") or np.any(g.array_of(threshold)):
            operands["threshold"] = threshold  # a convolution without one compares with 0
        facts = g.facts_of(producer) | {"bits_border": border}
        new = g.kernel_node(producer.op_type, g.text(producer, "layer"), operands, results, facts)
        g.substitute(graph, producer, new, {old: results["out"]} if "out" in results else {})

    @staticmethod
    def _read_bits(graph: ir.Graph, reader: ir.Node, bits: ir.Value, border: int) -> None:
        operands = {r: v for r, v in g.operands_of(reader).items() if r != "input_threshold"}
        operands["x"] = bits
        results = {
            n: g.new_value(f"{v.name}_b", g.shape_of(v), v.dtype or ir.DataType.FLOAT)
            for n, v in g.results_of(reader).items()
        }
        facts = g.facts_of(reader) | {"in_border": border}
        new = g.kernel_node(reader.op_type, g.text(reader, "layer"), operands, results, facts)
        g.substitute(graph, reader, new, dict(zip(reader.outputs, new.outputs, strict=True)))

"""The kernel that computes a value writes the levels that 8-bit convolutions read, and floats where they are read.

    kernel -> v -> Quantize(step, zero) -> 8-bit kernel       ->    kernel -> levels -> 8-bit kernel

All readers in the same steps share the levels; their border is as wide as the widest one wants. Where a table stands
behind the kernel its entries are the levels that are read. Quantize stays where no kernel of ours computes the value,
where a layer reads every second pixel only, and for readers in other steps than the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.kernels.epilogue import values_fit
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g

PRODUCERS = (*g.DENSE_KINDS, *g.INT8_KINDS, g.DEPTHWISE)
READERS = ("Int8Conv2d", "Int8DepthwiseConv2d")
"""Kernels that take any border and any spare pixels of a row."""

ROLES = {"scale", "bias", "beta", "zeta", "limits", "requantization"}
"""What an epilogue computes its values with."""


@dataclass(frozen=True)
class _Read:
    """A Quantize kernel and the one that reads its levels."""

    quantize: ir.Node
    reader: ir.Node

    @property
    def steps(self) -> NDArray[np.generic]:
        """Step and zero point."""
        array = g.array_of(g.operand(self.quantize, "quantization"))
        return np.zeros(2) if array is None else array

    @property
    def border(self) -> int:
        return g.integer(self.quantize, "border")

    @property
    def width(self) -> int:
        return g.integer(self.quantize, "stored_width")


class WriteLevels(Pass[ir.Model]):
    """Quantize kernels -> epilogues that write levels."""

    name: ClassVar[str] = "write-levels"
    summary: ClassVar[str] = "let kernels write the levels that 8-bit layers read"
    requires: ClassVar[tuple[str, ...]] = ("quantized activations",)
    ensures: ClassVar[tuple[str, ...]] = ()

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if g.is_kernel(node, *PRODUCERS) and (reads := _reads_of(node)):
                notes.append(self._write(graph.graph, node, reads))
        return PassResult(graph, bool(notes), tuple(notes))

    def _write(self, graph: ir.Graph, node: ir.Node, reads: list[_Read]) -> Note:
        out = g.result(node, "out")
        if out is None:
            raise AssertionError("whose floats are quantized, writes them")
        batch, height, width, channels = g.shape_of(out)
        border = max(one.border for one in reads)
        stored = max(width + 2 * border, *(one.width + border - one.border for one in reads))
        step, zero = (float(value) for value in reads[0].steps)
        for one in reads:
            g.detach(graph, one.quantize)
        floats = bool(list(out.uses())) or out.is_graph_output()
        operands, facts = g.operands_of(node), g.facts_of(node)
        of_table = False
        if g.text(node, "activation") == "table" and "shortcut" not in operands:
            of_table = _tabulate(
                graph, node, operands, step, zero, floats or g.result(node, "bits") is not None
            )
        operands["requantization"] = g.constant(
            graph, f"{node.name}.requantization", np.array([step, zero], np.float32)
        )
        facts |= {
            "levels_border": border,
            "levels_width": stored,
            "levels_divide": int(step != 1),
            "levels_of_table": int(of_table),
            "levels_fit": int(_fit(node, operands)),
        }
        shape = (batch, height + 2 * border, stored, channels)
        levels = g.new_value(f"{out.name}_levels", shape, ir.DataType.UINT8)
        results: dict[str, ir.Value] = {}
        replaced: dict[ir.Value, ir.Value] = {}
        for name, value in g.results_of(node).items():
            if value is out and not floats:
                continue
            new_result = g.new_value(f"{value.name}_l", g.shape_of(value), value.dtype or ir.DataType.FLOAT)
            results[name] = replaced[value] = new_result
        new = g.kernel_node(
            node.op_type, g.text(node, "layer"), operands, results | {"levels": levels}, facts
        )
        for one in reads:
            _read(one.reader, levels, border)
        g.substitute(graph, node, new, replaced)
        names = ", ".join(one.reader.name or "" for one in reads)
        kept = ", and its floats" if floats else ""
        return self.applied(new.name or "", f"writes the levels of {names}{kept}")


def _reads_of(node: ir.Node) -> list[_Read]:
    """The readers of a kernel's floats that want the same levels of them."""
    out = g.result(node, "out")
    if out is None or g.result(node, "levels") is not None or len(g.shape_of(out)) != 4:
        return []
    found: list[_Read] = []
    for use in out.uses():
        if not g.is_kernel(use.node, "Quantize") or g.integer(use.node, "stride") != 1:
            continue
        reader = g.only_use(use.node.outputs[0])
        if reader is None or not g.is_kernel(reader, *READERS):
            continue
        one = _Read(use.node, reader)
        if not found or np.array_equal(found[0].steps, one.steps):
            found.append(one)
    return found


def _fit(node: ir.Node, operands: dict[str, ir.Value]) -> bool:
    """Whether no value that becomes a level is too large for an int32, whatever the input."""
    if not g.is_kernel(node, *READERS) or "residual" in operands:
        return False
    arrays = {
        role: array
        for role in ROLES
        if role in operands and (array := g.array_of(operands[role])) is not None
    }
    if arrays.keys() != ROLES & operands.keys():
        return False
    products = math.prod(g.shape_of(operands["weight"])[1:])
    return values_fit(g.text(node, "activation", "none"), products * 255.0 * 127.0, arrays)


def _tabulate(
    graph: ir.Graph, node: ir.Node, operands: dict[str, ir.Value], step: float, zero: float, kept: bool
) -> bool:
    """Make the entries of the table the levels of (step, zero); False where its values are read as well, which lie on
    another grid."""
    table, grid = g.array_of(operands["table"]), g.array_of(operands["grid"])
    if table is None or grid is None:
        return False
    in_zero, out_step, out_zero = grid.astype(np.float32)
    if (out_step, out_zero) == (np.float32(step), np.float32(zero)):
        return True
    if kept:
        return False
    values = (table.astype(np.float32) - out_zero) * out_step
    levels = np.clip(np.rint(values / np.float32(step)) + np.float32(zero), 0, 255).astype(np.uint8)
    operands["table"] = g.constant(graph, f"{node.name}.levels_table", levels)
    operands["grid"] = g.constant(
        graph, f"{node.name}.levels_grid", np.array([in_zero, step, zero], np.float32)
    )
    return True


def _read(reader: ir.Node, levels: ir.Value, border: int) -> None:
    """`reader` reads `levels` in a border."""
    reader.replace_input_with(g.roles(reader).index("x"), levels)
    reader.attributes["in_border"] = ir.AttrInt64("in_border", border)

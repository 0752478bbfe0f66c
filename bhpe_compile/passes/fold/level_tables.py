"""An activation behind an 8-bit convolution, in front of another one, is a table of 256 levels.

    y = f(v)   ->   y = LevelTable(v', 1, zero, table, out_step, out_zero)
    v = dot * scale + bias   ->   v' = dot * (scale / step) + bias / step

    step, zero          of v, from its calibrated range, cut to where f is not flat
    table               rint(f((level - zero) * step) / out_step) + out_zero, clipped to 0 .. 255, computed in float64
    out_step, out_zero  those of the first 8-bit convolution that reads y, else those of the table's own range

exp, tanh and the like differ from program to program in their last bits; a table does not. The convolution counts in
steps, so that nothing is divided. Refused is what reads floats only: it keeps its precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.activations import Activation, activation_of, span_of
from bhpe_compile.exchange.functions import DOMAIN, attach_bodies
from bhpe_compile.exchange.nodes import (
    array_of,
    constant,
    detach,
    float_constant,
    is_int8,
    new_value,
    shape_of,
    substitute,
)
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.fold.quantize_dense import SMALLEST_STEP
from bhpe_compile.passes.fold.round_constants import settled

if TYPE_CHECKING:
    from bhpe_compile.networks.layers.rounding import Ranges

HANDED_ON = ("Add", "Concat", "MaxPool", "Mul", "Resize", "ReduceMean", "GlobalAveragePool", "Slice", "Split")
"""What may stand between a table and the convolution that reads levels."""


class LevelTables(Pass[ir.Model]):
    """SiLU, Sigmoid, Tanh, GELU, ELU, HardSwish, Softplus, Mish between 8-bit layers -> LevelTable."""

    name: ClassVar[str] = "level-tables"
    summary: ClassVar[str] = "compute activations between 8-bit layers by tables of 256 levels"
    requires: ClassVar[tuple[str, ...]] = ("folded norms",)

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if not is_int8(node):
                continue
            activation = activation_of(node.outputs[0])
            if activation is not None:
                notes.append(self._replace(graph.graph, node, activation))
        modified = any(note.applied for note in notes)
        if modified:
            attach_bodies(graph)
        return PassResult(graph, modified, tuple(notes))

    def _replace(self, graph: ir.Graph, node: ir.Node, activation: Activation) -> Note:
        name, v, y = node.name or "", node.outputs[0], activation.result
        scale, bias = array_of(node.inputs[4]), array_of(node.inputs[5])
        if span_of(v) not in self.ranges:
            return self.refused(name, f"no range in front of its {activation.name} was measured")
        if scale is None or bias is None:
            return self.refused(name, "its scale or bias is computed at run time")
        if y.is_graph_output() or not all(_reads_levels(use.node) for use in y.uses()):
            return self.refused(name, f"floats are read behind its {activation.name}")
        step, zero = _grid(*np.clip(self.ranges[span_of(v)], *activation.span))
        inputs = (np.arange(256) - np.float64(zero)) * np.float64(step)
        values = activation.formula(inputs)
        out_step, out_zero = _read_grid(y) or _grid(min(values.min(), 0), max(values.max(), 0))
        table = np.clip(np.rint(values / np.float64(out_step)) + out_zero, 0, 255).astype(np.uint8)
        node.replace_input_with(4, float_constant(graph, f"{name}.scale", settled(scale / np.float64(step))))
        node.replace_input_with(5, float_constant(graph, f"{name}.shift", settled(bias / np.float64(step))))
        operands = [
            v,
            constant(graph, f"{name}.table.step", np.array(1, np.float32)),
            constant(graph, f"{name}.table.zero", zero),
            constant(graph, f"{name}.table", table),
            constant(graph, f"{name}.table.out_step", np.array(out_step, np.float32)),
            constant(graph, f"{name}.table.out_zero", np.array(out_zero, np.uint8)),
        ]
        out = new_value(f"{y.name}_table", shape_of(y))
        last, kept = activation.nodes[-1], y.name
        new = ir.Node(DOMAIN, "LevelTable", operands, outputs=[out], name=f"{name}.{activation.name}")
        substitute(graph, last, new, {y: out})
        out.name = kept
        for inner in reversed(activation.nodes[:-1]):
            detach(graph, inner)
        low, high = inputs[0], inputs[-1]
        return self.applied(name, f"{activation.name} by a table of levels from {low:.4g} to {high:.4g}")


def _grid(low: float, high: float) -> tuple[np.float32, NDArray[np.uint8]]:
    """Step and zero point of a range that holds 0."""
    step = np.float32(max((float(high) - float(low)) / 255, SMALLEST_STEP))
    return step, np.array(np.clip(np.rint(-low / step), 0, 255), np.uint8)


def _reads_levels(node: ir.Node) -> bool:
    return is_int8(node) or (node.domain in ("", "ai.onnx") and node.op_type in HANDED_ON)


def _read_grid(y: ir.Value) -> tuple[np.float32, NDArray[np.uint8]] | None:
    """Step and zero point in which the first 8-bit convolution reads `y`."""
    for use in y.uses():
        if is_int8(use.node):
            step, zero = array_of(use.node.inputs[1]), array_of(use.node.inputs[2])
            if step is not None and zero is not None:
                return np.float32(step.reshape(())), np.array(zero.reshape(()), np.uint8)
    return None

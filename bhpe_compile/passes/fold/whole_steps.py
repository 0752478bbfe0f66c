"""Where only 8-bit convolutions read what an 8-bit one computes, it counts in their steps: nothing is divided.

    Int8Conv(.., scale, bias) [-> Relu, Clip, LeakyRelu, PRelu, MaxPool]* -> Int8Conv(step, zero)
    Int8Conv(.., scale / step, bias / step) [-> the same, Clip's ends / step] -> Int8Conv(1, zero)

All of these operations scale with what they are given. The readers' own scales stay: they count levels.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.nodes import array_of, constant, float_constant, is_int8
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.fold.round_constants import settled

SCALING = ("Relu", "Clip", "LeakyRelu", "PRelu", "MaxPool")
"""f(x / step) = f(x) / step, ends of Clip divided as well."""


class WholeSteps(Pass[ir.Model]):
    """Values between 8-bit convolutions are held in steps."""

    name: ClassVar[str] = "whole-steps"
    summary: ClassVar[str] = "let 8-bit layers count in the steps of the layers that read them"

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if is_int8(node):
                note = self._rescale(graph.graph, node)
                notes += [note] if note is not None else []
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _rescale(self, graph: ir.Graph, node: ir.Node) -> Note | None:
        name, value = node.name or "", node.outputs[0]
        between: list[ir.Node] = []
        while (after := _scaling_reader(value)) is not None:
            between.append(after)
            value = after.outputs[0]
        readers = [use.node for use in value.uses()]
        if not readers or value.is_graph_output() or not all(is_int8(one) for one in readers):
            return None
        steps = {
            float(array.reshape(())) for one in readers if (array := array_of(one.inputs[1])) is not None
        }
        scale, bias = array_of(node.inputs[4]), array_of(node.inputs[5])
        if len(steps) != 1 or scale is None or bias is None:
            return self.refused(name, "its readers count in different steps")
        step = steps.pop()
        if step == 1:
            return None
        node.replace_input_with(4, float_constant(graph, f"{name}.scale", settled(scale / np.float64(step))))
        node.replace_input_with(5, float_constant(graph, f"{name}.shift", settled(bias / np.float64(step))))
        for one in between:
            if one.op_type == "Clip":
                for index, end in enumerate(one.inputs[1:], 1):
                    array = array_of(end)
                    if array is not None:
                        divided = settled(np.asarray(array / np.float64(step)))
                        one.replace_input_with(
                            index, float_constant(graph, f"{one.name}.end{index}", divided)
                        )
        whole = constant(graph, f"{name}.whole", np.array(1, np.float32))
        for reader in readers:
            reader.replace_input_with(1, whole)
        return self.applied(name, f"counts in steps of {step:.4g}")


def _scaling_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads `value`, where it scales with it."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    if (
        node.domain not in ("", "ai.onnx")
        or node.op_type not in SCALING
        or uses[0].idx != 0
        or len(node.outputs) != 1
    ):
        return None
    if node.op_type == "Clip" and any(end is not None and array_of(end) is None for end in node.inputs[1:]):
        return None
    return node

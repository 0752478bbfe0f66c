"""Leave a tidy file: nothing unused, nodes in order, names unique, no metadata, bodies for every operator in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from bhpe_compile.exchange.functions import attach_bodies
from bhpe_compile.exchange.nodes import new_value, shape_of
from bhpe_compile.passes.base import Pass, PassResult


class CleanUp(Pass[ir.Model]):
    """Unused nodes and initializers, order, names, bodies."""

    name: ClassVar[str] = "clean-up"
    summary: ClassVar[str] = "drop what nothing reads; order and name the rest"

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        passes = (
            common.IdentityEliminationPass(),
            common.RemoveUnusedNodesPass(),
            common.DeduplicateInitializersPass(),
            common.TopologicalSortPass(),
            common.ClearMetadataAndDocStringPass(),
            common.NameFixPass(),
        )
        names = [value.name or "" for value in graph.graph.outputs]
        modified = [one(graph).modified for one in passes]
        keep_outputs(graph.graph, names)
        attach_bodies(graph, anew=True)  # the passes above go through bodies, too
        return PassResult(graph, any(modified))


def keep_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Give the outputs their `names` again, in order: a value has the name of the first output that it is, and a node
    hands it on to the others, as it does where an input or a constant is an output of another name."""
    seen: set[ir.Value] = set()
    for index, name in enumerate(names):
        value = graph.outputs[index]
        if value not in seen and value.producer() is not None:
            value.name = name
        if value not in seen and value.name == name:
            seen.add(value)
            continue
        out = new_value(name, shape_of(value), value.dtype or ir.DataType.FLOAT)
        graph.append(ir.Node("", "Identity", [value], outputs=[out], name=f"{name}.again"))
        graph.outputs[index] = out

"""Every node with stored weights is a layer, and has a name that reports can tell it by.

The name is the node's own, or its weight's without the word "weight". What commands give a meaning to (a comma, #, and
the letters of globs) becomes _.
"""

from __future__ import annotations

import re
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from bhpe_compile.exchange.nodes import set_layer, weight_of
from bhpe_compile.passes.base import Pass, PassResult

UNUSABLE = re.compile(r"[^\w.\-/+:@]")
WEIGHT = re.compile(r"[./_]?(weights?|kernel|filter)$", re.IGNORECASE)


def own_name(node: ir.Node) -> str:
    """The node's own name, or its stored weight's without the word "weight"; "" where neither says one."""
    weight = weight_of(node) if node.domain == "" else None
    stored = weight is not None and weight.is_initializer()
    return node.name or (WEIGHT.sub("", weight.name or "") if stored and weight is not None else "")


class NameLayers(Pass[ir.Model]):
    """Names of nodes, unique; layers with weights entered under theirs."""

    name: ClassVar[str] = "name-layers"
    summary: ClassVar[str] = "name every layer of an imported graph, and all else in it"
    requires: ClassVar[tuple[str, ...]] = ("imported layers",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        taken: set[str] = set()
        for node in self.visit(graph.graph):
            weight = weight_of(node) if node.domain == "" else None
            stem = UNUSABLE.sub("_", own_name(node)) or node.op_type
            name, count = stem, 1
            while name in taken:
                count += 1
                name = f"{stem}_{count}"
            taken.add(name)
            node.name = name
            if weight is not None and weight.is_initializer():
                set_layer(node, name)
        common.NameFixPass()(graph)
        return PassResult(graph, True, ())

"""Leave a tidy file: nothing unused, nodes in order, names unique, no metadata, bodies for every operator in use."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from bhpe_compile.exchange.functions import attach_bodies
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
        modified = [one(graph).modified for one in passes]
        attach_bodies(graph)
        return PassResult(graph, any(modified))

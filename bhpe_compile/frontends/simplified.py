"""The graph of an ONNX file in memory, constants folded and shapes known everywhere."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import onnx_ir.passes.common as common
from onnx import ModelProto

from bhpe_compile.exchange.simplify import Simplifier, simplify
from bhpe_compile.passes.base import Note


def simplified(
    proto: ModelProto, simplifier: Simplifier | None = None, show: Callable[[ir.Model], None] = lambda _: None
) -> tuple[ir.Model, tuple[Note, ...]]:
    """`proto` through onnxsim. show: is shown the graph before."""
    model = ir.from_proto(proto)
    model.functions.clear()
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.RemoveUnusedNodesPass()(model)
    common.NameFixPass()(model)
    model.producer_name, model.producer_version = "bhpe-compile", ""
    show(model)
    model, notes = simplify(model, simplifier)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return model, notes

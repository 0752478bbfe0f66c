"""Lower: a folded ONNX model becomes a Program for one target.

Graph passes (onnx-ir) decide which kernel computes what and what it fuses; then the graph becomes Relax, TVM
fuses the glue, LLVM compiles, and `emit` lays out memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir
import tvm
from tvm import tirx

from bhpe_compile.artifact.program import Program
from bhpe_compile.passes.base import Pass
from bhpe_compile.passes.lower.channel_last import ChannelLast
from bhpe_compile.passes.lower.codegen import build_object
from bhpe_compile.passes.lower.emit import emit
from bhpe_compile.passes.lower.fuse_epilogue import FuseEpilogue
from bhpe_compile.passes.lower.glue import lower_glue, refuse_heavy_glue
from bhpe_compile.passes.lower.pack_activations import PackActivations
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from bhpe_compile.passes.lower.slice_gathers import SliceGathers
from bhpe_compile.passes.lower.to_relax import to_relax

if TYPE_CHECKING:
    from bhpe_compile.targets import Target

SYMBOL_PREFIX = "bhpe_"

Tick = Callable[[str], None]


def lower_passes() -> list[Pass[ir.Model]]:
    """The graph passes of this storey, in order."""
    return [SliceGathers(), SelectKernels(), FuseEpilogue(), ChannelLast(), PackActivations()]


@dataclass(frozen=True)
class Lowered:
    """What code generation yields besides the program: figures for the report."""

    program: Program
    kernels: int  # different ones
    glue: int  # functions TVM generated


def generate(model: ir.Model, target: Target, tick: Tick = lambda _: None) -> Lowered:
    """Kernel graph -> Program: Relax import, TVM's glue pipeline, LLVM, memory plan, call table."""
    device = tvm.target.Target(dict(target.llvm))
    tick("to-relax")
    module, kernels, calls = to_relax(model, target.isa)
    tick("fuse-glue")
    module = lower_glue(module, device)
    refuse_heavy_glue(module)
    tick("llvm")
    glue = {v.name_hint: f for v, f in module.functions.items() if isinstance(f, tirx.PrimFunc)}
    functions = {SYMBOL_PREFIX + name: func for name, func in (*kernels.items(), *glue.items())}
    code, workspace = build_object(functions, device)
    tick("memory-plan")
    names = [value.name or f"output{i}" for i, value in enumerate(model.graph.outputs)]
    program = emit(module, calls, names, SYMBOL_PREFIX, (code,), workspace)
    return Lowered(program, len(kernels), len(glue))

"""Lower: a folded ONNX model becomes a Program for one target.

Graph passes (onnx-ir) decide which kernel computes what and what it fuses; then workers import the graph into
Relax, TVM fuses the glue, LLVM compiles, and `emit` lays out memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from bhpe_compile.artifact.program import Program
from bhpe_compile.passes.base import Pass
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.channel_last import ChannelLast
from bhpe_compile.passes.lower.choose_tiles import ChooseTiles
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.fuse_epilogue import FuseEpilogue
from bhpe_compile.passes.lower.narrow_storage import NarrowStorage
from bhpe_compile.passes.lower.pack_activations import PackActivations
from bhpe_compile.passes.lower.quantize_activations import QuantizeActivations
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from bhpe_compile.passes.lower.slice_gathers import SliceGathers
from bhpe_compile.passes.lower.worker import Workers
from bhpe_compile.targets.tile import NO_TILES, Tiles

if TYPE_CHECKING:
    from bhpe_compile.targets import Target, VectorIsa

Tick = Callable[[str], None]


def lower_passes(tiles: Tiles = NO_TILES, isa: VectorIsa | None = None) -> list[Pass[ir.Model]]:
    """The graph passes of this storey, in order; with the measured tiles of a target and its instruction set."""
    return [
        *(SliceGathers(), SelectKernels(), FuseEpilogue(), ChannelLast(), PackActivations()),
        *(QuantizeActivations(), NarrowStorage(), ChooseTiles(tiles, isa)),
    ]


@dataclass(frozen=True)
class Lowered:
    """What code generation yields besides the program: figures for the report."""

    program: Program
    kernels: int  # different ones
    glue: int  # calls of functions that TVM generated


def generate(model: ir.Model, target: Target, workers: Workers, tick: Tick = lambda _: None) -> Lowered:
    """Kernel graph -> Program: the glue and the kernels' code made in parallel, in a fixed division."""
    tick("code generation")
    described = (describe(node) for node in model.graph if g.is_kernel(node))
    kernels = list({kernel.symbol(): kernel for kernel in described}.values())
    # the first worker also has the glue; the division is fixed, so the same model gives the same bytes
    own = 2 * len(kernels) // 5
    parts = (kernels[:own], kernels[own:])
    first, second = workers.members
    second.submit("generate_kernels", parts[1], dict(target.llvm), target.isa)
    proto = ir.to_proto(model)
    first.submit("generate_glue", proto.SerializeToString(), dict(target.llvm), target.isa)
    first.submit("generate_kernels", parts[0], dict(target.llvm), target.isa)
    program: Program = first.result()
    tick("LLVM")
    built = [first.result(), second.result()]
    program = replace(
        program,
        objects=(*program.objects, *(code for code, _ in built)),
        workspace_bytes=max(program.workspace_bytes, *(workspace for _, workspace in built)),
    )
    glue = sum(step.kind == "glue" for step in program.steps)
    return Lowered(program, len(kernels), glue)

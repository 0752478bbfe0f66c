"""Lower: a folded ONNX model becomes a Program for one target.

Graph passes (onnx-ir) decide which kernel computes what and what it fuses; then workers import the graph into
Relax, TVM fuses the glue, LLVM compiles, and `emit` lays out memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import onnx_ir as ir

from bhpe_compile.artifact.program import Program
from bhpe_compile.passes.base import Note, Pass
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.channel_last import ChannelLast
from bhpe_compile.passes.lower.choose_tiles import ChooseTiles
from bhpe_compile.passes.lower.fuse_epilogue import FuseEpilogue
from bhpe_compile.passes.lower.narrow_storage import NarrowStorage
from bhpe_compile.passes.lower.pack_activations import PackActivations
from bhpe_compile.passes.lower.quantize_activations import QuantizeActivations
from bhpe_compile.passes.lower.select_conversions import SelectConversions
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from bhpe_compile.passes.lower.select_transposes import SelectTransposes
from bhpe_compile.passes.lower.slice_gathers import SliceGathers
from bhpe_compile.passes.lower.weights import put_weights, take_weights
from bhpe_compile.passes.lower.write_levels import WriteLevels
from bhpe_compile.passes.lower.write_out_operators import WriteOutOperators
from bhpe_compile.targets.tile import NO_TILES, Tiles

if TYPE_CHECKING:
    from bhpe_compile.targets import Target, VectorIsa

Tick = Callable[[str], None]

Job = tuple[Any, ...]
"""Name of a function of `tasks`, and its arguments."""

TOLD = 10
"""How often `generate` tells how far it is."""


def lower_passes(tiles: Tiles = NO_TILES, isa: VectorIsa | None = None) -> list[Pass[ir.Model]]:
    """The graph passes of this storey, in order; with the measured tiles of a target and its instruction set."""
    return [
        *(SliceGathers(), SelectKernels(), FuseEpilogue(), WriteOutOperators(), ChannelLast()),
        *(PackActivations(), QuantizeActivations(), WriteLevels(), NarrowStorage(), SelectTransposes()),
        *(SelectConversions(), ChooseTiles(tiles, isa)),
    ]


class Workers(Protocol):
    """Does jobs somewhere else, because TVM and LLVM are slow (`compiler/workers.py`)."""

    def run(self, jobs: Sequence[Job], done: Callable[[int], None] = ...) -> list[Any]:
        """The jobs' results, in order; `done` hears how many are finished."""


@dataclass(frozen=True)
class Lowered:
    """What code generation yields besides the program: figures for the report."""

    program: Program
    kernels: int  # different ones
    glue: int  # calls of functions that TVM generated
    tiles: Mapping[str, str] = field(
        default_factory=dict
    )  # register tiles by symbol, of kernels that have one
    notes: tuple[Note, ...] = ()  # what is left to TVM's default schedules although it is heavy


def generate(model: ir.Model, target: Target, workers: Workers, tick: Tick = lambda _: None) -> Lowered:
    """Kernel graph -> Program: the glue, and one kernel after the other, made in parallel.

    Who makes which kernel depends on time; what it becomes and its place do not, so the same model gives the same
    bytes.
    """
    tick("code generation")
    bare = take_weights(model, target.isa)
    proto = ir.to_proto(bare.model).SerializeToString(deterministic=True)
    llvm = dict(target.llvm)
    glue: Job = ("generate_glue", proto, bare.calls, tuple(bare.constants), llvm)  # the longest, so first
    jobs = [glue, *(("generate_kernel", kernel, llvm, target.isa) for kernel in bare.kernels)]

    told = 0

    def done(count: int) -> None:
        nonlocal told
        if count * TOLD // len(jobs) > told:
            told = count * TOLD // len(jobs)
            tick(f"code generation, {count} of {len(jobs)} parts")

    (program, layout, slow), *built = workers.run(jobs, done)
    program = replace(
        put_weights(program, layout, bare.constants),
        objects=(*program.objects, *(code for code, _ in built)),
        workspace_bytes=max((program.workspace_bytes, *(workspace for _, workspace in built))),
    )
    calls = sum(step.kind == "glue" for step in program.steps)
    tiles = {
        g.SYMBOL_PREFIX + one.symbol(): str(tile)
        for one in bare.kernels
        if (tile := one.chosen_tile(target.isa)) is not None
    }
    notes = tuple(Note("glue", site, False, reason) for site, reason in slow)
    return Lowered(program, len(bare.kernels), calls, tiles, notes)

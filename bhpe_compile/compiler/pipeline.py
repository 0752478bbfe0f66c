"""The whole compiler, top to bottom.

    checkpoint -> torch.fx graph --binarize--> trainable graph -> ONNX --fold--> integers made explicit
               --lower--> kernels for one target -> library, weights, manifest

Each storey is an ordered list of passes; `compile_model` runs them and writes the artefact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.plan import list_passes
from bhpe_compile.compiler.progress import Inspector, Observer, Progress
from bhpe_compile.compiler.record import describe, versions
from bhpe_compile.compiler.rounding import Rounding, choose_rounding
from bhpe_compile.compiler.tools import Tools
from bhpe_compile.errors import UsageError
from bhpe_compile.exchange import INPUT
from bhpe_compile.passes.base import Note, PassRecord

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray
    from torch import fx

    from bhpe_compile.compiler.workers import Workers
    from bhpe_compile.exchange.export import Run
    from bhpe_compile.exchange.simplify import Simplifier
    from bhpe_compile.frontends.checkpoint import LoadedModel
    from bhpe_compile.passes.base import Pass
    from bhpe_compile.passes.binarize import BinarizeOptions
    from bhpe_compile.passes.lower import Lowered
    from bhpe_compile.targets import Target


@dataclass
class CompileResult:
    """What one compilation did; `report` is the artefact's report.json."""

    output: Path
    report: dict[str, Any]
    notes: tuple[Note, ...]
    seconds: dict[str, float]


def compile_model(
    source: Path,
    output: Path,
    options: CompileOptions,
    *,
    force: bool = False,
    observer: Observer | None = None,
    inspector: Inspector | None = None,
) -> CompileResult:
    """Compile a checkpoint into an artefact folder and return the report.

    observer: hears where the work is; inspector: is shown every graph (see `inspection`). Raises UsageError (missing
    file, unknown target, output not ours), InputError (damaged or unsupported model) or ToolchainError. Nothing is
    written unless everything succeeded.
    """
    from bhpe_compile.artifact import check_output
    from bhpe_compile.targets import get_target

    target = get_target(options.target)
    if options.tiles is not None:
        target = replace(target, tiles=options.tiles)
        target.measured_tiles()  # a damaged table is refused before the work
    if not source.exists():
        raise UsageError(f"{source}: no such file")
    check_output(output, force)  # before the work, and once more after it
    progress = Progress(observer, inspector)
    with Tools.start() as tools:
        with progress.stage("load"):
            loaded = load(source)
        with progress.stage("binarize"):
            graph, notes = binarize(loaded, options, progress)
        with progress.stage("reference"):
            run = run_reference(graph, options.picture)
            rounding = choose_rounding(graph, options, run.arrays()[INPUT], progress, loaded.ranges)
        built = _build(run, rounding, target, tools, progress)
    notes += built.notes
    facts = describe(loaded, options, rounding.source)
    forms = {"static": options.static, "embed": options.embed_weights}
    report = _write(output, built, run, target, notes, facts, force, progress, **forms)
    return CompileResult(output, report, notes, progress.seconds)


def compile_graph(
    graph: fx.GraphModule,
    example: NDArray[np.float32],
    output: Path,
    target_name: str,
    *,
    dense: Literal["int8", "fp32"] = "int8",
    residual: Literal["fp16", "fp32"] = "fp16",
    force: bool = False,
    observer: Observer | None = None,
) -> CompileResult:
    """Compile a frozen graph of any network, for inputs of the shape of `example`, and return the report.

    `graph` takes one tensor and returns a dict of tensors; see `passes.binarize.binarize` and `freeze`. What it
    computes from `example` is recorded for `verify`, and 8-bit layers are calibrated on it. Raises as `compile_model`
    does.
    """
    from bhpe_compile.artifact import check_output
    from bhpe_compile.targets import get_target

    options = CompileOptions(target_name, dense=dense, residual=residual)
    target = get_target(target_name)
    check_output(output, force)
    progress = Progress(observer)
    with Tools.start() as tools:
        with progress.stage("reference"):
            run = run_graph(graph, example)
            rounding = choose_rounding(graph, options, example, progress)
        built = _build(run, rounding, target, tools, progress)
    facts: dict[str, Any] = {"options": {"target": target_name, "dense": dense, "residual": residual}}
    report = _write(output, built, run, target, built.notes, facts, force, progress)
    return CompileResult(output, report, built.notes, progress.seconds)


@dataclass(frozen=True)
class _Built:
    """A lowered network, ready to be written: `folded` is the graph the report counts."""

    folded: ir.Model
    onnx_bytes: bytes
    lowered: Lowered
    notes: tuple[Note, ...]


def _build(run: Run, rounding: Rounding, target: Target, tools: Tools, progress: Progress) -> _Built:
    """Export, fold and lower."""
    with progress.stage("export"):
        model, notes = export(run, progress, tools.simplifier)
    with progress.stage("fold"):
        records = fold(model, progress, rounding)
        onnx_bytes = serialise(model)
        folded = model.clone()
    with progress.stage("lower"):
        lowered, lower_records = lower(model, target, tools.workers, progress)
        records += lower_records
    notes += tuple(note for record in records for note in record.notes)
    return _Built(folded, onnx_bytes, lowered, notes)


def _write(
    output: Path,
    built: _Built,
    run: Run,
    target: Target,
    notes: tuple[Note, ...],
    facts: dict[str, Any],
    force: bool,
    progress: Progress,
    **forms: bool,
) -> dict[str, Any]:
    """Write the artefact; its report. `forms` as `write_artifact` has them."""
    from bhpe_compile.artifact import write_artifact
    from bhpe_compile.report.compiled import compile_report

    with progress.stage("write"):
        report = compile_report(built.folded, built.lowered.program, notes, facts, built.lowered.tiles)
        info = {
            **facts,
            "passes": [{"stage": one.stage, "name": one.name} for one in list_passes()],
            "versions": versions(),
        }
        write_artifact(
            output,
            built.lowered.program,
            target,
            built.onnx_bytes,
            report,
            run.arrays(),
            info,
            force,
            **forms,
        )
    return report


def load(source: Path) -> LoadedModel:
    """Read a checkpoint of any known layout."""
    from bhpe_compile.frontends.checkpoint import load_model

    return load_model(source)


def binarize(
    loaded: LoadedModel, options: CompileOptions, progress: Progress
) -> tuple[fx.GraphModule, tuple[Note, ...]]:
    """Trace, binarize as asked (or as the checkpoint was trained), freeze: weights as they will be stored."""
    from bhpe_compile.frontends.checkpoint import load_state
    from bhpe_compile.passes import binarize as stage

    notes: tuple[Note, ...] = ()
    if loaded.binarization is not None:
        if options.keep_float or options.binarize:
            raise UsageError(
                f"{loaded.source}: is binary already, its layers were chosen when it was made; "
                "leave out --keep-float and --binarize"
            )
        chosen = stage.BinarizeOptions.from_dict(loaded.binarization)
        graph, notes = stage.binarize(trace(loaded, progress), chosen, progress.passed)
        load_state(graph, loaded.state_dict, loaded.source)
    elif options.scheme is None:
        graph = trace(loaded, progress)
    else:
        graph, notes = stage.binarize(trace(loaded, progress), binarize_options(options), progress.passed)
    progress.step("freeze")
    frozen = stage.freeze(graph)
    progress.show("freeze", frozen)
    return frozen, notes


def trace(loaded: LoadedModel, progress: Progress) -> fx.GraphModule:
    """The network as a graph, before any decision."""
    from bhpe_compile.passes.binarize import trace

    graph = trace(loaded.model)
    progress.show("trace", graph)
    return graph


def binarize_options(options: CompileOptions) -> BinarizeOptions:
    """What the options say to the binarize passes; they must name a scheme."""
    from bhpe_compile.passes.binarize import BinarizeOptions, get_scheme

    return BinarizeOptions(
        scheme=get_scheme(options.scheme or ""),
        keep_float=options.keep_float,
        binarize=options.binarize,
        residual_tap="before" if options.residual_tap == "before" else "after",
    )


def run_reference(graph: fx.GraphModule, picture: Path | None) -> Run:
    """Run torch once on `picture` (None: the embedded photograph)."""
    from bhpe_compile.runtime import load_picture

    with as_file(files("bhpe_compile") / "data" / "person.png") as embedded:
        return run_graph(graph, load_picture(picture or embedded).network_input)


def run_graph(graph: fx.GraphModule, example: NDArray[np.float32]) -> Run:
    """Run torch once on `example`; what it computes, and how, is recorded."""
    import torch

    from bhpe_compile.exchange.export import run

    return run(graph, torch.from_numpy(example))


def export(
    run: Run, progress: Progress, simplifier: Simplifier | None = None
) -> tuple[ir.Model, tuple[Note, ...]]:
    """What ran -> ONNX with `bhpe` operators, simplified."""
    from bhpe_compile.exchange.export import to_onnx
    from bhpe_compile.exchange.simplify import simplify

    progress.step("ONNX")
    model = to_onnx(run)
    progress.show("onnx", model)
    progress.step("onnxsim")
    model, notes = simplify(model, simplifier)
    progress.show("onnxsim", model)
    return model, notes


def fold(model: ir.Model, progress: Progress, rounding: Rounding | None = None) -> list[PassRecord]:
    """Run the fold passes in place; without `rounding` all values stay float32."""
    from bhpe_compile.passes.fold import fold_passes

    rounding = rounding or Rounding()
    return _run(fold_passes(rounding.ranges, rounding.half), model, progress)


def serialise(model: ir.Model) -> bytes:
    """The model as an .onnx file; the same model gives the same bytes."""
    import onnx_ir

    return bytes(onnx_ir.to_proto(model).SerializeToString(deterministic=True))


def lower(
    model: ir.Model, target: Target, workers: Workers, progress: Progress
) -> tuple[Lowered, list[PassRecord]]:
    """Run the lower passes in place, then generate code for `target`."""
    from bhpe_compile.passes.lower import generate

    records = lower_graph(model, target, progress)
    lowered = generate(model, target, workers, progress.step)
    progress.show("program", lowered.program)
    return lowered, records


def lower_graph(model: ir.Model, target: Target, progress: Progress) -> list[PassRecord]:
    """Run the lower passes in place."""
    from bhpe_compile.passes.lower import lower_passes

    passes = lower_passes(target.measured_tiles(), target.isa)
    return _run(passes, model, progress, established=("packed weights", "explicit padding"))


def lowered_graph(
    source: Path, target: Target, options: CompileOptions, observer: Observer | None
) -> ir.Model:
    """The kernel graph of a checkpoint or of an artefact for `target`, without its code."""
    import onnx_ir

    progress = Progress(observer)
    if source.is_dir():
        from bhpe_compile.artifact.load import check_artifact

        check_artifact(source)
        model = onnx_ir.load(source / "model.onnx")
    else:
        with progress.stage("load"):
            loaded = load(source)
        with progress.stage("binarize"):
            graph, _ = binarize(loaded, options, progress)
        with progress.stage("reference"):
            run = run_reference(graph, options.picture)
            rounding = choose_rounding(graph, options, run.arrays()[INPUT], progress, loaded.ranges)
        with progress.stage("export"):
            model, _ = export(run, progress)
        with progress.stage("fold"):
            fold(model, progress, rounding)
    with progress.stage("lower"):
        lower_graph(model, target, progress)
    return model


def _run(
    passes: list[Pass[ir.Model]], model: ir.Model, progress: Progress, established: tuple[str, ...] = ()
) -> list[PassRecord]:
    from bhpe_compile.passes.base import PassManager

    manager = PassManager(passes, established)
    manager.run(model, progress.passed)
    return manager.records


def trace_original(source: Path) -> fx.GraphModule:
    """The full-precision network of a checkpoint, its weights rounded as they would be stored."""
    graph, _ = binarize(load(source), CompileOptions(target="", scheme=None), Progress(None))
    return graph


def original_onnx(source: Path) -> ir.Model:
    """The full-precision network of a checkpoint as plain ONNX: the peer to compare with."""
    return export_run(run_reference(trace_original(source), None))


def export_run(run: Run) -> ir.Model:
    """What ran as simplified ONNX."""
    model, _ = export(run, Progress(None))
    return model

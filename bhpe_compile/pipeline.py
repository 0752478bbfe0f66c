"""The whole compiler, top to bottom.

    checkpoint -> torch.fx graph --binarize--> trainable graph -> ONNX --fold--> integers made explicit
               --lower--> kernels for one target -> library, weights, manifest

Each storey is an ordered list of passes; `compile_model` runs them and writes the artefact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bhpe_compile import __version__
from bhpe_compile.errors import UsageError
from bhpe_compile.passes.base import Note, PassRecord

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import fx

    from bhpe_compile.exchange.export import Run
    from bhpe_compile.exchange.simplify import Simplifier
    from bhpe_compile.models.checkpoint import LoadedModel
    from bhpe_compile.passes.base import Pass
    from bhpe_compile.passes.binarize import BinarizeOptions
    from bhpe_compile.passes.lower import Lowered
    from bhpe_compile.passes.workers import Workers
    from bhpe_compile.targets import Target

Observer = Callable[[str, str, float], None]
"""(stage, pass or step, fraction of the whole work done)."""

STAGES = ("load", "binarize", "reference", "export", "fold", "lower", "write")
"""The stages in order, as progress bars and reports name them."""

_WEIGHT = {"load": 2, "binarize": 1, "reference": 2, "export": 8, "fold": 4, "lower": 10, "write": 3}

TOOL_PACKAGES = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxsim", "apache-tvm", "ziglang", "numpy")


@dataclass(frozen=True)
class CompileOptions:
    """What the user asked for. `scheme` None compiles the model as it is, in full precision.

    A checkpoint that is already binary keeps the options it was binarized with.
    """

    target: str
    scheme: str | None = "bidrn"
    keep_float: tuple[str, ...] = ()
    binarize: tuple[str, ...] = ()
    residual_tap: str = "after"
    picture: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """The options as the manifest records them (no paths: the same input gives the same bytes)."""
        return {
            "target": self.target,
            "scheme": self.scheme or "float",
            "keep_float": list(self.keep_float),
            "binarize": list(self.binarize),
            "residual_tap": self.residual_tap,
        }


@dataclass
class CompileResult:
    """What one compilation did; `report` is the artefact's report.json."""

    output: Path
    report: dict[str, Any]
    notes: tuple[Note, ...]
    seconds: dict[str, float]


@dataclass
class _Progress:
    """Tells the observer where the work is, and times the stages."""

    observer: Observer | None
    seconds: dict[str, float] = field(default_factory=dict)
    _stage: str = ""
    _done: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        self._stage = name
        self.step("")
        yield
        self.seconds[name] = time.perf_counter() - start
        self._done += _WEIGHT[name]

    def step(self, name: str) -> None:
        if self.observer is not None:
            self.observer(self._stage, name, self._done / sum(_WEIGHT.values()))


def compile_model(
    source: Path,
    output: Path,
    options: CompileOptions,
    *,
    force: bool = False,
    observer: Observer | None = None,
) -> CompileResult:
    """Compile a checkpoint into an artefact folder and return the report.

    Raises UsageError (missing file, unknown target, output not ours), InputError (damaged or unsupported
    model) or ToolchainError. Nothing is written unless everything succeeded.
    """
    from bhpe_compile.artifact import check_output, write_artifact
    from bhpe_compile.passes.workers import Workers
    from bhpe_compile.report.compiled import compile_report
    from bhpe_compile.targets import get_target

    target = get_target(options.target)
    if not source.exists():
        raise UsageError(f"{source}: no such file")
    check_output(output, force)  # before the work, and once more after it
    progress = _Progress(observer)
    # started now: TVM and onnxsim are imported while torch is
    with Workers() as workers, _simplifier() as simplifier, _one_thread():
        with progress.stage("load"):
            loaded = load(source)
        with progress.stage("binarize"):
            graph, notes = binarize(loaded, options, progress)
        with progress.stage("reference"):
            run = run_reference(graph, options.picture)
        with progress.stage("export"):
            model, more = export(run, progress, simplifier)
            notes += more
        with progress.stage("fold"):
            records = fold(model, progress)
            onnx_bytes = serialise(model)
            folded = model.clone()
        with progress.stage("lower"):
            lowered, lower_records = lower(model, target, workers, progress)
            records += lower_records
    notes += tuple(note for record in records for note in record.notes)
    with progress.stage("write"):
        facts = describe(loaded, options)
        report = compile_report(folded, lowered.program, notes, facts)
        info = {
            **facts,
            "passes": [{"stage": stage, "name": name} for stage, name, _ in list_passes()],
            "versions": versions(),
        }
        write_artifact(output, lowered.program, target, onnx_bytes, report, run.arrays(), info, force)
    return CompileResult(output, report, notes, progress.seconds)


def _simplifier() -> Simplifier:
    """Begun after the workers, which its module's imports would keep waiting."""
    from bhpe_compile.exchange.simplify import Simplifier

    return Simplifier()


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch's threads would spin against the workers, and on small tensors against each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def load(source: Path) -> LoadedModel:
    """Read a checkpoint of any known layout."""
    from bhpe_compile.models.checkpoint import load_model

    return load_model(source)


def binarize(
    loaded: LoadedModel, options: CompileOptions, progress: _Progress
) -> tuple[fx.GraphModule, tuple[Note, ...]]:
    """Trace, binarize as asked (or as the checkpoint was trained), freeze: weights as they will be stored."""
    from bhpe_compile.models.checkpoint import load_state
    from bhpe_compile.passes import binarize as stage

    def observe(name: str, _: object) -> None:
        progress.step(name)

    notes: tuple[Note, ...] = ()
    if loaded.binarization is not None:
        if options.keep_float or options.binarize:
            raise UsageError(
                f"{loaded.source}: is binary already, its layers were chosen when it was made; "
                "leave out --keep-float and --binarize"
            )
        chosen = stage.BinarizeOptions.from_dict(loaded.binarization)
        graph, notes = stage.binarize(loaded.model, chosen, observe)
        load_state(graph, loaded.state_dict, loaded.source)
    elif options.scheme is None:
        graph = stage.trace(loaded.model)
    else:
        graph, notes = stage.binarize(loaded.model, _binarize_options(options), observe)
    progress.step("freeze")
    return stage.freeze(graph), notes


def _binarize_options(options: CompileOptions) -> BinarizeOptions:
    from bhpe_compile.passes.binarize import BinarizeOptions, get_scheme

    return BinarizeOptions(
        scheme=get_scheme(options.scheme or ""),
        keep_float=options.keep_float,
        binarize=options.binarize,
        residual_tap="before" if options.residual_tap == "before" else "after",
    )


def run_reference(graph: fx.GraphModule, picture: Path | None) -> Run:
    """Run torch once on `picture` (None: the embedded photograph)."""
    import torch

    from bhpe_compile.exchange.export import run
    from bhpe_compile.runtime import load_picture

    with as_file(files("bhpe_compile") / "data" / "person.png") as embedded:
        image = load_picture(picture or embedded).network_input
    return run(graph, torch.from_numpy(image))


def export(
    run: Run, progress: _Progress, simplifier: Simplifier | None = None
) -> tuple[ir.Model, tuple[Note, ...]]:
    """What ran -> ONNX with `bhpe` operators, simplified."""
    from bhpe_compile.exchange.export import to_onnx
    from bhpe_compile.exchange.simplify import simplify

    progress.step("ONNX")
    model = to_onnx(run)
    progress.step("onnxsim")
    return simplify(model, simplifier)


def fold(model: ir.Model, progress: _Progress) -> list[PassRecord]:
    """Run the fold passes in place."""
    from bhpe_compile.passes.fold import fold_passes

    return _run(fold_passes(), model, progress)


def serialise(model: ir.Model) -> bytes:
    """The model as an .onnx file; the same model gives the same bytes."""
    import onnx_ir

    return bytes(onnx_ir.to_proto(model).SerializeToString(deterministic=True))


def lower(
    model: ir.Model, target: Target, workers: Workers, progress: _Progress
) -> tuple[Lowered, list[PassRecord]]:
    """Run the lower passes in place, then generate code for `target`."""
    from bhpe_compile.passes.lower import generate, lower_passes

    records = _run(lower_passes(), model, progress, established=("packed weights", "explicit padding"))
    return generate(model, target, workers, progress.step), records


def _run(
    passes: list[Pass[ir.Model]], model: ir.Model, progress: _Progress, established: tuple[str, ...] = ()
) -> list[PassRecord]:
    from bhpe_compile.passes.base import PassManager

    manager = PassManager(passes, established)
    manager.run(model, lambda name, _: progress.step(name))
    return manager.records


def describe(loaded: LoadedModel, options: CompileOptions) -> dict[str, Any]:
    """Facts about the model and the options for report and manifest; no paths, so that bytes repeat."""
    return {
        "model": {
            "preset": loaded.preset.name,
            "layout": loaded.layout,
            "binarization": loaded.binarization,
            "ignored_keys": list(loaded.ignored),
        },
        "options": options.to_dict(),
    }


def versions() -> dict[str, str]:
    """This program and the packages that shape its output."""
    return {"bhpe-compile": __version__, **{name: version(name) for name in TOOL_PACKAGES}}


def list_passes() -> list[tuple[str, str, str]]:
    """(stage, name, what it does) of every pass, in order."""
    from bhpe_compile.passes.binarize import BinarizeOptions, binarize_passes
    from bhpe_compile.passes.fold import fold_passes
    from bhpe_compile.passes.lower import lower_passes

    stages: tuple[tuple[str, Any], ...] = (
        ("binarize", binarize_passes(BinarizeOptions())),
        ("fold", fold_passes()),
        ("lower", lower_passes()),
    )
    return [(stage, one.name, one.summary) for stage, passes in stages for one in passes]


def trace_original(source: Path) -> fx.GraphModule:
    """The full-precision network of a checkpoint, its weights rounded as they would be stored."""
    graph, _ = binarize(load(source), CompileOptions(target="", scheme=None), _Progress(None))
    return graph


def original_onnx(source: Path) -> ir.Model:
    """The full-precision network of a checkpoint as plain ONNX: the peer to compare with."""
    graph = trace_original(source)
    model, _ = export(run_reference(graph, None), _Progress(None))
    return model

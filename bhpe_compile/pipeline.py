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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bhpe_compile import __version__
from bhpe_compile.errors import UsageError
from bhpe_compile.passes.base import Note, PassRecord

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch
    from torch import fx

Observer = Callable[[str, str, float], None]
"""(stage, pass or step, fraction of the whole work done)."""

STAGES = ("load", "binarize", "reference", "export", "fold", "lower", "write")
"""The stages in order, as progress bars and reports name them."""

_WEIGHT = {"load": 2, "binarize": 1, "reference": 2, "export": 8, "fold": 4, "lower": 10, "write": 3}

TOOL_PACKAGES = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxsim", "apache-tvm", "ziglang", "numpy")


@dataclass(frozen=True)
class CompileOptions:
    """What the user asked for. `scheme` None compiles the model as it is, in full precision."""

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
    from bhpe_compile.artifact.save import check_output
    from bhpe_compile.targets import get_target

    target = get_target(options.target)
    if not source.exists():
        raise UsageError(f"{source}: no such file")
    check_output(output, force)  # before minutes of work
    progress = _Progress(observer)
    with progress.stage("load"):
        loaded = load(source)
    with progress.stage("binarize"):
        graph, notes = binarize(loaded, options, progress)
    with progress.stage("reference"):
        reference = run_reference(graph, options.picture)
    with progress.stage("export"):
        model, more = export(graph, reference, progress)
    with progress.stage("fold"):
        records = fold(model, progress)
    folded = _onnx_bytes(model)
    with progress.stage("lower"):
        program, records_lower = lower(model, target, progress)
    notes = (*notes, *more, *(n for r in (*records, *records_lower) for n in r.notes))
    with progress.stage("write"):
        report = write(output, loaded, options, target, program, folded, reference, notes, force, progress)
    return CompileResult(output, report, notes, progress.seconds)


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

    if loaded.binarization is not None:
        chosen = stage.BinarizeOptions.from_dict(loaded.binarization)
        graph, notes = stage.binarize(loaded.model, chosen, observe)
        load_state(graph, loaded.state_dict, loaded.source)
    elif options.scheme is None:
        graph, notes = stage.trace(loaded.model), ()
    else:
        chosen = stage.BinarizeOptions(
            scheme=stage.get_scheme(options.scheme),
            keep_float=options.keep_float,
            binarize=options.binarize,
            residual_tap="after" if options.residual_tap == "after" else "before",
        )
        graph, notes = stage.binarize(loaded.model, chosen, observe)
    progress.step("freeze")
    return stage.freeze(graph), notes

"""From a path on the command line to the rows it stands for.

    an artefact              one row: compiled
    a checkpoint             one row: full precision, or binarized where it is binary already
    a checkpoint, stages     full precision -> binarized -> frozen -> compiled, each from the same weights; a binary
                             checkpoint has no full precision

Binarized: binary layers, the remainder in float32; what 8 bits and float16 cost is seen against it. Frozen: the network
as it ships, model.onnx in torch. Compiled: a real artefact, written to a temporary folder, run here or under emulation.
Frozen and compiled compute the same (docs/exactness.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bhpe_compile.compiler.progress import Observer
from bhpe_compile.errors import UsageError
from bhpe_compile.evaluate.people import require_body
from bhpe_compile.evaluate.subjects import (
    PUBLIC,
    CompiledSubject,
    FrozenSubject,
    Subject,
    TorchSubject,
    open_artifact,
)

if TYPE_CHECKING:
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.frontends.imported import Imported

FULL, BINARIZED, FROZEN, COMPILED = "full precision", "binarized", "frozen", "compiled"


@dataclass(frozen=True)
class Source:
    """One path and its rows, the last of which is what would be shipped."""

    path: Path
    subjects: tuple[Subject, ...]

    @property
    def last(self) -> Subject:
        """The row that a gate holds to its baseline."""
        return self.subjects[-1]

    @property
    def emulated(self) -> bool:
        """Whether a row runs under emulation."""
        return any(isinstance(one, CompiledSubject) and one.emulated for one in self.subjects)


@contextmanager
def open_sources(
    paths: Sequence[Path],
    options: CompileOptions | None,
    observer: Observer | None = None,
    network: str | None = None,
) -> Iterator[list[Source]]:
    """The rows of every path. `options` asks for the stages of checkpoints, compiled as they say; `network` names what
    checkpoints hold.

    Raises UsageError (no such file, or options for an artefact alone) and what loading and compiling raise.
    """
    with ExitStack() as stack:
        sources = []
        for path in paths:
            prefix = f"{path.name or path}: " if len(paths) > 1 else ""
            if path.is_dir():
                sources.append(Source(path, (stack.enter_context(open_artifact(path, prefix + COMPILED)),)))
            else:
                sources.append(_open_checkpoint(path, prefix, options, observer, stack, network))
        names = [subject.name for source in sources for subject in source.subjects]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise UsageError(f"two rows would be called {doubled[0]!r}; rename one of the files")
        yield sources


def _open_checkpoint(
    path: Path,
    prefix: str,
    options: CompileOptions | None,
    observer: Observer | None,
    stack: ExitStack,
    network: str | None,
) -> Source:
    from bhpe_compile.compiler.compile import finish
    from bhpe_compile.compiler.pipeline import Compilation
    from bhpe_compile.compiler.progress import Progress
    from bhpe_compile.frontends.checkpoint import load_model

    loaded = load_model(path, network)
    require_body(loaded.interface, str(path))
    relative = loaded.layout == PUBLIC
    subjects: list[Subject] = []
    if loaded.binarization is None:
        subjects.append(full_precision(loaded, prefix + FULL))
    if loaded.binarization is not None or options is not None:
        subjects.append(binarized(loaded, options, prefix + BINARIZED))
    if options is not None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bhpe-eval-")))
        compilation = Compilation.of_loaded(loaded, options, Progress(observer))
        finish(compilation, folder / "model")
        subjects.append(
            FrozenSubject(prefix + FROZEN, compilation.frozen_outputs, loaded.interface, relative)
        )
        subjects.append(stack.enter_context(open_artifact(folder / "model", prefix + COMPILED)))
    assert all(subject.relative_hands == relative for subject in subjects)
    return Source(path, tuple(subjects))


def full_precision(loaded: Imported, name: str = FULL) -> TorchSubject:
    """The network of a full-precision checkpoint, in float32."""
    return TorchSubject(name, loaded.model, loaded.interface, loaded.layout == PUBLIC)


def binarized(loaded: Imported, options: CompileOptions | None, name: str = BINARIZED) -> TorchSubject:
    """The network that a compilation starts from; `options` None: as a binary checkpoint was made."""
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.compiler.pipeline import Compilation

    compilation = Compilation.of_loaded(loaded, options or CompileOptions(target=""))
    return TorchSubject(name, compilation.graph, loaded.interface, loaded.layout == PUBLIC)

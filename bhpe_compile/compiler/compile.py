"""A file, or a graph in memory, to an artefact folder: `pipeline.py` with its processes started and ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.compiler.progress import Inspector, Observer, Progress
from bhpe_compile.compiler.result import CompileResult
from bhpe_compile.compiler.tools import Tools

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import fx

    from bhpe_compile.frontends.imported import Imported


def compile_model(
    source: Path,
    output: Path,
    options: CompileOptions,
    *,
    force: bool = False,
    observer: Observer | None = None,
    inspector: Inspector | None = None,
    teacher: Imported | None = None,
    watched: tuple[Path, ...] = (),
    kind: type[Compilation] = Compilation,
) -> CompileResult:
    """Compile a checkpoint into an artefact folder and return the report.

    observer: hears where the work is; inspector: is shown every graph (see `check.inspect`). teacher: the
    network in full precision that a student was distilled from, to compare with, on the pictures `watched`. kind: what
    compiles such a file (`doors.py` knows). Raises UsageError (missing file, unknown target, output not ours),
    InputError (damaged or unsupported model) or ToolchainError. Nothing is written unless everything succeeded.
    """
    compilation = kind(options, source, progress=Progress(observer, inspector))
    compilation.watched, compilation.teacher = watched, teacher
    return finish(compilation, output, force)


def compile_graph(
    graph: fx.GraphModule,
    inputs: Mapping[str, NDArray[np.float32]],
    output: Path,
    options: CompileOptions,
    *,
    force: bool = False,
    observer: Observer | None = None,
) -> CompileResult:
    """Compile a frozen graph of any network, for inputs like `inputs`, and return the report.

    `graph` takes the tensors of `inputs`, in their order, and returns a dict of tensors; see
    `passes.binarize.binarize` and `freeze`. What it computes from them is recorded for `verify`, and 8-bit layers are
    calibrated on it. Of the options, `dense`, `residual` and those of the target count. Raises as `compile_model` does.
    """
    compilation = Compilation.of_graph(graph, inputs, options, progress=Progress(observer))
    return finish(compilation, output, force)


def finish(compilation: Compilation, output: Path, force: bool = False) -> CompileResult:
    """Write the artefact of a compilation, with processes of its own for the slow work. Raises as `compile_model`."""
    compilation.check(output, force)
    cache, source = compilation.cache, compilation.source
    done_before = cache.key("compile", str(source.resolve()), repr(compilation.options)) if source else None
    with Tools.start(
        cache, code=not cache.get("compile", done_before), torch=compilation.uses_torch
    ) as tools:
        compilation.tools = tools
        result = compilation.write(output, force)
    cache.put(done_before, True)
    return result

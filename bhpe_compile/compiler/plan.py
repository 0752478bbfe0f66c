"""The passes and the points between them, by name and in order: what `passes` lists and `--dump-ir-after` accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bhpe_compile.errors import UsageError, near

if TYPE_CHECKING:
    from bhpe_compile.compiler.options import CompileOptions

POINTS: dict[str, str] = {
    "trace": "binarize",
    "freeze": "binarize",
    "onnx": "export",
    "onnxsim": "export",
    "program": "generate",
}
"""Places that are no passes, where a graph can be looked at as well, and their stages."""


@dataclass(frozen=True)
class PassInfo:
    """One pass: its stage, its name, what it does, and the properties it needs and establishes."""

    stage: str
    name: str
    summary: str
    requires: tuple[str, ...]
    ensures: tuple[str, ...]


def list_passes(options: CompileOptions | None = None, imported: bool = False) -> list[PassInfo]:
    """The passes that run with `options`, in order; None: every one. imported: of an ONNX file, not a checkpoint."""
    from bhpe_compile.passes.binarize import BinarizeOptions, binarize_passes
    from bhpe_compile.passes.fold import fold_passes
    from bhpe_compile.passes.imported import imported_passes
    from bhpe_compile.passes.lower import lower_passes

    binary, int8, half = (
        (True, True, True)
        if options is None
        else (options.is_binary, options.computes_int8, options.keeps_half)
    )
    stages: tuple[tuple[str, Any], ...] = (
        ("binarize", binarize_passes(BinarizeOptions()) if binary else ()),
        ("export", imported_passes(int8, binary) if imported else ()),
        ("fold", fold_passes({} if int8 else None, half, imported=imported)),
        ("lower", lower_passes()),
    )
    return [
        PassInfo(stage, one.name, one.summary, one.requires, one.ensures)
        for stage, passes in stages
        for one in passes
    ]


def check_points(names: tuple[str, ...], options: CompileOptions, imported: bool = False) -> None:
    """UsageError for a name that is no pass or point, with near ones, and for a pass that `options` leave out."""
    known = [*POINTS, *(one.name for one in list_passes(imported=True))]
    planned = {*POINTS, *(one.name for one in list_passes(options, imported))}
    for name in names:
        if name not in known:
            raise UsageError(
                f"no pass is called {name!r}; {near(name, known, '`bhpe-compile passes` lists them')}"
            )
        if name not in planned:
            said = options.to_dict()
            chosen = " ".join(f"--{option} {said[option]}" for option in ("scheme", "dense", "residual"))
            raise UsageError(f"pass {name} does not run with {chosen}")

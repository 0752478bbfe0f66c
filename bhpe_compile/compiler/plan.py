"""The passes and the points between them, by name and in order: what `passes` lists and `--dump-ir-after` accepts."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from bhpe_compile.errors import UsageError

if TYPE_CHECKING:
    from bhpe_compile.compiler.options import CompileOptions

POINTS: dict[str, str] = {
    "trace": "binarize",
    "freeze": "binarize",
    "onnx": "export",
    "onnxsim": "export",
    "program": "lower",
}
"""Places that are no passes, where a graph can be looked at as well, and their stages."""

OPTIONAL = {"quantize-dense": "--dense int8", "half-residuals": "--residual fp16 beside binary layers"}
"""Passes that run only with certain options."""


@dataclass(frozen=True)
class PassInfo:
    """One pass: its stage, its name, what it does, and the properties it needs and establishes."""

    stage: str
    name: str
    summary: str
    requires: tuple[str, ...]
    ensures: tuple[str, ...]


def list_passes() -> list[PassInfo]:
    """Every pass, in order."""
    from bhpe_compile.passes.binarize import BinarizeOptions, binarize_passes
    from bhpe_compile.passes.fold import fold_passes
    from bhpe_compile.passes.lower import lower_passes

    stages: tuple[tuple[str, Any], ...] = (
        ("binarize", binarize_passes(BinarizeOptions())),
        ("fold", fold_passes({}, half=True)),
        ("lower", lower_passes()),
    )
    return [
        PassInfo(stage, one.name, one.summary, one.requires, one.ensures)
        for stage, passes in stages
        for one in passes
    ]


def check_points(names: tuple[str, ...], options: CompileOptions) -> None:
    """UsageError for a name that is no pass or point, with near ones, and for a pass that `options` leave out."""
    known = [*POINTS, *(one.name for one in list_passes())]
    for name in names:
        if name not in known:
            raise UsageError(
                f"no pass is called {name!r}; {near(name, known, '`bhpe-compile passes` lists them')}"
            )
        if name in skipped(options):
            raise UsageError(f"pass {name} does not run with these options; it needs {OPTIONAL[name]}")


def skipped(options: CompileOptions) -> tuple[str, ...]:
    """The passes of `OPTIONAL` that do not run."""
    runs = {
        "quantize-dense": options.computes_int8,
        "half-residuals": options.is_binary and options.residual == "fp16",
    }
    return tuple(name for name in OPTIONAL if not runs[name])


def near(name: str, known: list[str], otherwise: str) -> str:
    """'did you mean ...?', or `otherwise` where nothing is near."""
    found = get_close_matches(name, known, 3, 0.5)
    return f"did you mean {' or '.join(found)}?" if found else otherwise

"""What is said of a network that was made binary without being trained so, or that 8 bits move too far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from bhpe_compile.cli.log import LOG

if TYPE_CHECKING:
    from bhpe_compile.compiler.agreement import Agreement
    from bhpe_compile.compiler.options import CompileOptions

UNTRAINED = "was not trained in its binary form"
"""Of a full-precision checkpoint whose layers became binary."""


def scheme_was_said() -> bool:
    """Whether the user named the scheme, on the command line or in a file: then binary layers are meant."""
    source = click.get_current_context().get_parameter_source("scheme")
    return source not in (None, ParameterSource.DEFAULT)


def warn_untrained(model: Path, options: CompileOptions, agreement: Agreement, *, meant: bool) -> None:
    """Tell that the network lost its accuracy, how much it moves, and what to do; one quiet line if `meant`."""
    from bhpe_compile.compiler.agreement import describe

    moves = f": against full precision it moves {describe(agreement)}" if agreement else ""
    if meant:
        LOG.message(f"{model.name} {UNTRAINED}{moves}")
        return
    stem = model.name.partition(".")[0]
    student = model.with_name(f"{stem}-{options.scheme}.pt")
    if student.exists():
        student = model.with_name(f"{stem}-student.pt")
    pictures = options.calibrate[0].parent if options.calibrate else "pictures/"
    lines = [
        (f"bhpe-compile distill {model} --images {pictures} -o {student}", "trains it, without labels"),
        (
            f"bhpe-compile {model} --target {options.target} --scheme int8",
            "8 bits: accurate without training",
        ),
        (f"--scheme {options.scheme}", "says that it is meant, and makes this one line"),
    ]
    width = max(len(command) for command, _ in lines)
    text = "\n".join(f"  {command.ljust(width)}  {what}" for command, what in lines)
    LOG.warning(f"warning: {model.name} {UNTRAINED}{moves}. Its accuracy is lost; instead:\n{text}")


def warn_imported(model: Path, against_file: Mapping[str, float]) -> None:
    """The same of an ONNX file, whose scheme the user named: `distill` trains it."""
    name = max(against_file, key=lambda one: against_file[one])
    LOG.warning(
        f"warning: {model.name} {UNTRAINED}: {name} is off by {against_file[name]:.2g} of its largest value. It is "
        f"useless until it is trained: bhpe-compile distill {model} --images pictures/; size and speed are real"
    )


def warn_moved(model: Path, options: CompileOptions, much: Agreement) -> None:
    """Tell that 8 bits cost too much, and what helps."""
    from bhpe_compile.compiler.agreement import describe

    shown = f"{len(options.calibrate)} so far" if options.calibrate else "none so far"
    LOG.warning(
        f"warning: {model.name}: 8 bits move {describe(much)}, which is a lot. What helps: more pictures or "
        f"arrays like those it will see (--calibrate, {shown}); layers in float (--keep-float NAME); --scheme float"
    )

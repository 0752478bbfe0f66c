"""`eval --against`: how far outputs are from those of the network that was compiled; no labels are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bhpe_compile.cli.console import Console
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import existing, existing_file
from bhpe_compile.cli.tables import print_json, render_markdown, render_table
from bhpe_compile.errors import UsageError
from bhpe_compile.files import find_pictures

if TYPE_CHECKING:
    from bhpe_compile.check.against import Moved

F = TypeVar("F", bound=Callable[..., object])

BESIDE = frozenset({"against", "images", "max_moved", "style", "quiet", "verbose", "models"})
"""Parameters of `eval` that count with --against."""


def against_options(command: F) -> F:
    """--against, --images, --max-moved."""
    options = (
        click.option(
            "--against",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Any network, without labels: how far the outputs of artefacts are from those of the checkpoint or "
            "ONNX file they were compiled from, on --images.",
        ),
        click.option(
            "--images",
            metavar="PICTURES",
            multiple=True,
            type=click.Path(path_type=Path),
            help="Pictures, folders of them, or .npz files of an ONNX file's inputs.  [with --against; repeatable]",
        ),
        click.option(
            "--max-moved",
            metavar="KIND=X",
            multiple=True,
            help="Fail where a kind of output moves further: joints=2px, values=5%.  [with --against; repeatable]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def evaluate_against(
    artefacts: Sequence[Path],
    against: Path,
    images: Sequence[Path],
    max_moved: Sequence[str],
    style: str,
    *,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure, print, and raise BudgetError where a limit is missed."""
    from bhpe_compile.check.against import measure_against, parse_limit, require_near, require_told

    _require_alone()
    existing_file(against, "model")
    for path in artefacts:
        existing(path, "artefact")
        if not path.is_dir():
            raise UsageError(f"{path}: is no artefact; --against compares compiled models with their network")
    if style == "junit":
        raise UsageError("--format junit is for the gate in millimetres; --against has table, json and md")
    if not images:
        raise UsageError("--against runs both on pictures of yours: name them with --images")
    limits = dict(parse_limit(text) for text in max_moved)
    shown = find_pictures(images, LOG.message)
    with Console([], quiet=quiet, verbose=verbose) as console:
        found = [
            measure_against(path, against, shown, lambda step: console("compare", step, None))
            for path in artefacts
        ]
    require_told(found, limits)
    _print(found, against, style)
    require_near(found, limits)


def _require_alone() -> None:
    """UsageError for options of `eval` that say nothing here."""
    from click.core import ParameterSource

    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        said = context.get_parameter_source(name) == ParameterSource.COMMANDLINE
        if said and name not in BESIDE and isinstance(parameter, click.Option) and parameter.expose_value:
            raise UsageError(f"{parameter.opts[0]} says nothing beside --against: leave one of them out")


def _print(found: Sequence[Moved], against: Path, style: str) -> None:
    from bhpe_compile.compiler.agreement import KINDS, to_json

    if style == "json":
        rows: list[dict[str, Any]] = [
            {"model": str(one.artefact), "executed": one.executed, "moved": to_json(one.movements)}
            for one in found
        ]
        print_json({"against": str(against), "rows": rows})
        return
    pictures = max(movement.pictures for one in found for movement in one.movements.values())
    kinds = [kind for kind in KINDS if any(kind in one.movements for one in found)]
    cells = [
        [kind, *(str(one.movements[kind]) if kind in one.movements else "-" for one in found)]
        for kind in kinds
    ]
    render = render_markdown if style == "md" else render_table
    head = [f"against {against.name}, {pictures} inputs", *(one.artefact.name for one in found)]
    click.echo(render(head, cells, range(1, len(head))))

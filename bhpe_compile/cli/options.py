"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from click.shell_completion import CompletionItem

from bhpe_compile.errors import UsageError

F = TypeVar("F", bound=Callable[..., object])

SCHEMES = ("bidrn", "bnn", "reactnet")


def format_option(command: F) -> F:
    """--format table|json: how the data on stdout look."""
    return click.option(
        "--format",
        "style",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How the result is printed on stdout.",
    )(command)


def complete_target(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of targets for the shell's completion."""
    from bhpe_compile.targets import PRESETS

    return [CompletionItem(name) for name in PRESETS if name.startswith(incomplete)]


def existing(path: Path, what: str) -> Path:
    """`path` if something is there; otherwise a UsageError that names it."""
    if not path.exists():
        raise UsageError(f"{path}: no such {what}")
    return path


def existing_file(path: Path, what: str) -> Path:
    """`path` if it is a file; otherwise a UsageError that names it."""
    if existing(path, what).is_dir():
        raise UsageError(f"{path}: is a folder, not a {what}")
    return path

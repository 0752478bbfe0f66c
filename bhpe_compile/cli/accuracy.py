"""What the commands that measure accuracy share: which people, which allowance, progress."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from bhpe_compile.cli.console import Console
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.tables import render_bytes, render_duration

if TYPE_CHECKING:
    from bhpe_compile.evaluate.evaluate import Data, Examples

F = TypeVar("F", bound=Callable[..., object])


def data_options(command: F) -> F:
    """--data, --count, --seed, --body."""
    options = (
        click.option(
            "--data",
            metavar="DIR|synth",
            default="synth",
            show_default=True,
            help="People with ground truth: a folder that `data synth` wrote, EHF or AGORA; synth draws the open set's "
            "test split once and keeps it in the cache folder.",
        ),
        click.option(
            "--count",
            metavar="N",
            type=click.IntRange(1, 1_000_000),
            help="How many people.  [default: 500 of the open set, all of a folder, 4 under emulation]",
        ),
        click.option(
            "--seed",
            metavar="S",
            type=click.IntRange(0, 2**63 - 1),
            default=0,
            show_default=True,
            help="Of the open set's people, and of the bootstrap's draws.",
        ),
        click.option(
            "--body",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="A body in the SMPL-X layout.  [default: the set's own, else an open one, built once]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def max_drop_option(default: str) -> Callable[[F], F]:
    """--max-drop, repeatable."""
    return click.option(
        "--max-drop",
        multiple=True,
        metavar="X",
        help=f"How much worse a metric may be: 2%, 3mm, or one metric's as mpvpe=2%.  [repeatable] {default}".rstrip(),
    )


def open_data(
    data: str, count: int | None, seed: int, body: Path | None, console: Console, *, at_most: bool = False
) -> Examples:
    """The people, with progress where they are drawn first; `at_most`: fewer where the set has fewer."""
    from bhpe_compile.evaluate.data import drawing_ahead, open_people

    ahead = drawing_ahead(data, count, seed)
    if ahead is not None:
        LOG.message(
            f"{ahead.count} people are drawn first: about {render_duration(ahead.seconds)} and "
            f"{render_bytes(ahead.nbytes)}, once; they stay in {ahead.folder} (`bhpe-compile cache`)"
        )
    if data == "synth":
        LOG.remains = "nothing was written but people of the open set, which stay in the cache folder"
    return open_people(
        data, count, seed, body, lambda step, done: console("data", step, done), at_most=at_most
    )


def tell_batches(console: Console, count: int) -> Callable[[int], None]:
    """What `evaluate` tells how many people are done."""
    return lambda done: console("evaluate", f"{done} of {count} people", done / count)


def describe_data(data: Data) -> str:
    """One line: what the figures were measured on."""
    return (
        f"{data.name}: {data.count} people ({data.sha256[:12]}), body {data.body} ({data.body_sha256[:12]})"
    )

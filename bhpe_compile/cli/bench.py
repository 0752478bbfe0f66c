"""`bhpe-compile bench ARTEFACT`: how long a compiled model takes on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import board_options, existing, rounds_option, threads_option
from bhpe_compile.cli.tables import print_json, render_markdown, render_pairs, render_table
from bhpe_compile.errors import UsageError

if TYPE_CHECKING:
    from bhpe_compile.runtime import Model
    from bhpe_compile.runtime.board import Board
    from bhpe_compile.runtime.timing import StepTime, Timing

K = TypeVar("K")
Rows = Sequence[Sequence[str]]

FEW = 10
"""Rows that are shown unless all are asked for."""

LONGEST_NAME = 60
"""Characters of a generated function's name that are shown."""


@click.command("bench", short_help="Measure how long a compiled model takes here.")
@click.argument("artifact", metavar="ARTEFACT", type=click.Path(path_type=Path))
@threads_option
@rounds_option
@board_options
@click.option("--per-layer", is_flag=True, help="Time every step as well, and list the ten slowest.")
@click.option("--all", "everything", is_flag=True, help="With --per-layer: list every step.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "md", "json"]),
    default="table",
    show_default=True,
    help="How the result is printed on stdout; md is a table for Markdown.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def bench_command(
    artifact: Path,
    threads: int,
    rounds: int,
    board: Board | None,
    per_layer: bool,
    everything: bool,
    style: str,
    quiet: bool,
) -> None:
    """Measure how long a compiled model takes on this machine.

    The model runs on the picture it was compiled with, three times to warm up and then N times. Told are the median,
    the fastest run and the 90th percentile: where they are far apart, something else was running. A model for another
    CPU is timed on a board (--ssh, --rpc), by its driver there; an emulator's time says nothing.
    """
    from bhpe_compile.artifact import load_manifest

    if everything and not per_layer:
        raise UsageError("--all is for --per-layer: add it")
    timing = measure(artifact, threads, rounds, board, per_layer, quiet)
    manifest = load_manifest(artifact)
    if style == "json":
        print_json(to_json(artifact, manifest, timing))
        return
    pairs = describe(artifact, manifest, timing)
    if style == "md":
        click.echo(render_markdown(("", ""), pairs))
    else:
        click.echo(render_pairs(pairs))
    for header, rows in tables(timing) if per_layer else ():
        render = render_markdown if style == "md" else render_table
        shown = rows if everything else rows[:FEW]
        click.echo("\n" + render(header, shown, (0, 1)))
        if len(shown) < len(rows):
            click.echo(f"\n{len(rows) - len(shown)} more, faster ones: --all lists them")


def measure(
    artifact: Path, threads: int, rounds: int, board: Board | None, per_layer: bool, quiet: bool
) -> Timing:
    """Time the artefact here or on a board."""
    from bhpe_compile.artifact import load_reference
    from bhpe_compile.runtime.timing import time_model, time_on_board

    if board is None:
        with open_timed(artifact, threads) as model, progress(rounds, quiet) as bar:
            return time_model(model, rounds, steps=per_layer, tick=bar)
    if per_layer:
        raise UsageError("--per-layer times on this machine only: leave it, or --ssh and --rpc, out")
    existing(artifact, "artefact")
    return time_on_board(artifact, board, load_reference(artifact).inputs, rounds, threads)


@contextmanager
def open_timed(artifact: Path, threads: int = 1) -> Iterator[Model]:
    """The model of an artefact with the picture it was compiled with as its input, ready to be timed.

    UsageError for one that does not run on this machine.
    """
    from bhpe_compile.artifact import load_reference
    from bhpe_compile.artifact.load import check_artifact
    from bhpe_compile.runtime import Model
    from bhpe_compile.targets.host import host_family, missing_features

    target = check_artifact(existing(artifact, "artefact"))["target"]
    if lacking := missing_features(target["family"], target["requires"]):
        foreign = lacking == (target["family"],)
        here = f"is {host_family()}" if foreign else f"has no {', '.join(lacking)}"
        raise UsageError(
            f"{artifact}: cannot be timed here: it is compiled for {target['name']}, and this machine {here}; "
            "time it on a board, with --ssh or --rpc"
        )
    with Model(artifact, threads=threads) as model:
        recorded = load_reference(artifact).inputs
        for index, port in enumerate(model.inputs):
            model.input(index)[...] = recorded[port.name]
        yield model


@contextmanager
def progress(rounds: int, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr, where that is a terminal; yields what to call with the number of every finished round."""
    if quiet or LOG.json or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=rounds, label="timing", file=sys.stderr) as bar:
        yield lambda number: bar.update(1)


def describe(artifact: Path, manifest: Mapping[str, Any], timing: Timing) -> list[tuple[str, str]]:
    """The figures of whole runs."""
    from bhpe_compile.artifact.manifest import products_of
    from bhpe_compile.targets.host import cpu_name

    whole, by = timing.whole, products_of(manifest)
    return [
        ("artefact", str(artifact)),
        ("target", manifest["target"]["name"]),
        *([("8-bit", f"by {by}")] if by else []),
        ("CPU", timing.place or cpu_name()),
        ("threads", str(timing.threads)),
        (
            "median",
            f"{whole.median:.3f} ms of {timing.rounds} runs, {1000 / whole.median:.1f} pictures a second",
        ),
        ("fastest", f"{whole.fastest:.3f} ms"),
        ("90 % within", f"{whole.p90:.3f} ms"),
    ]


def tables(timing: Timing) -> Iterator[tuple[Sequence[str], Rows]]:
    """Milliseconds by kind of kernel, then by step, slowest first; (header, rows) each."""
    total = sum(step.ms for step in timing.steps)
    kinds: dict[str, float] = {}
    for step in timing.steps:
        kinds[step.kind] = kinds.get(step.kind, 0.0) + step.ms

    def row(ms: float, *words: str) -> tuple[str, ...]:
        return (f"{ms:.3f}", f"{ms / total:.1%}", *words)

    yield ("ms", "share", "kernel"), [row(ms, kind) for kind, ms in _slowest(kinds.items())]
    steps = _slowest([((step.kind, _name(step)), step.ms) for step in timing.steps])
    yield ("ms", "share", "kernel", "layer"), [row(ms, *words) for words, ms in steps]


def _slowest(pairs: Iterable[tuple[K, float]]) -> list[tuple[K, float]]:
    return sorted(pairs, key=lambda pair: -pair[1])


def _name(step: StepTime) -> str:
    """The layer; generated code has none, only a function whose name lists what was fused into it."""
    if step.layer:
        return step.layer
    name = step.symbol.removeprefix("bhpe_")
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def to_json(artifact: Path, manifest: Mapping[str, Any], timing: Timing) -> dict[str, Any]:
    """Everything, for programs."""
    from bhpe_compile.artifact.manifest import products_of
    from bhpe_compile.targets.host import cpu_name

    return {
        "artefact": str(artifact),
        "target": manifest["target"]["name"],
        "products": products_of(manifest) or None,
        "cpu": timing.place or cpu_name(),
        **asdict(timing),
    }

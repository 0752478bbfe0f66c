"""`bhpe-compile compare A B [C...]`: checkpoints, ONNX files and artefacts beside each other, and a gate for CI."""

from __future__ import annotations

import re
import string
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bhpe_compile.cli.files import write_files
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import (
    existing,
    existing_file,
    existing_subject,
    network_option,
    page_output_option,
    rounds_option,
)
from bhpe_compile.cli.report import plain
from bhpe_compile.cli.tables import to_json_text
from bhpe_compile.errors import BudgetError, UsageError
from bhpe_compile.text import to_utf8

if TYPE_CHECKING:
    from bhpe_compile.report.compare import Comparison, Subject

FORMATS = ("table", "json", "md", "html")

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

LETTERS = string.ascii_uppercase


def parse_amount(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """`5MB`, `2.5G`, `800k`, `1000`: powers of 1000, with or without a B."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?)b?", value.strip(), re.IGNORECASE)
    if match is None:
        raise click.BadParameter(f"{value!r} is no amount like 5MB, 2.5G or 1000000")
    return float(match[1]) * UNITS[match[2].lower()]


@click.command("compare", short_help="Put models and artefacts beside each other; a gate for CI.")
@click.argument("sources", metavar="A B [C...]", nargs=-1, required=True, type=click.Path(path_type=Path))
@network_option()
@click.option("--max-size", metavar="SIZE", callback=parse_amount, help="Most bytes of B, C, ...: 5MB, 800k.")
@click.option(
    "--max-ops",
    metavar="OPS",
    callback=parse_amount,
    help="Most operations of B, C, ... by the paper's count: 2.6G.",
)
@click.option(
    "--max-latency-ratio",
    metavar="RATIO",
    type=click.FloatRange(0, min_open=True),
    help="Longest median of B, C, ... over that of A; needs --measure.",
)
@click.option("--measure", is_flag=True, help="Time the artefacts that run here, in turn in one run.")
@rounds_option
@click.option(
    "--accuracy",
    metavar="LETTER=FILE[:ROW]",
    multiple=True,
    help="Results of `eval` for A, B, ...  [default: accuracy.json in an artefact, "
    "<model>.accuracy.json beside a model]",
)
@click.option(
    "--all", "everything", is_flag=True, help="List every layer that differs (json and html always do)."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="html is one file that needs no network.",
)
@page_output_option
def compare_command(
    sources: tuple[Path, ...],
    network: str | None,
    max_size: float | None,
    max_ops: float | None,
    max_latency_ratio: float | None,
    measure: bool,
    rounds: int,
    accuracy: tuple[str, ...],
    everything: bool,
    style: str,
    output: Path | None,
) -> None:
    """Put checkpoints, ONNX files and artefacts beside each other; A is the reference of all ratios.

    A checkpoint or an ONNX file counts as the network it holds, an artefact as what its files hold. Shown are weights,
    operations, bytes, latency (measured, only of artefacts that run here), accuracy (read from results of `eval`), and
    what changed layer by layer.

    --max-size, --max-ops and --max-latency-ratio are limits for B, C, ...: where one is missed, a line on stderr
    says by how much, and the exit code is 5.
    """
    from bhpe_compile.report.compare import Limits, compare, read_subject

    if len(sources) < 2:
        raise UsageError("compare needs two or more models or artefacts: the reference A, then B, ...")
    if len(sources) > len(LETTERS):
        raise UsageError(f"compare takes at most {len(LETTERS)} models or artefacts")
    if max_latency_ratio is not None and not measure:
        raise UsageError("--max-latency-ratio needs --measure")
    results = parse_accuracy(accuracy, len(sources))
    for source in sources:
        if not is_onnx(existing(source, "model or artefact")):
            existing_subject(source)
    subjects = []
    for letter, source in zip(LETTERS, sources, strict=False):
        file, row = results.get(letter, (None, None))
        subjects.append(
            _onnx_subject(source, letter, file, row)
            if is_onnx(source)
            else read_subject(source, letter, file, row, network)
        )
    if measure:
        subjects = time_subjects(subjects, rounds)
    comparison = compare(subjects, Limits(max_size, max_ops, max_latency_ratio))
    text = render(comparison, style, everything=everything)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_files({output: to_utf8(text)})
    for line in comparison.missed:
        LOG.event("error", f"error: {line}", text=line, exit_code=BudgetError.exit_code)
    if comparison.missed:
        raise click.exceptions.Exit(BudgetError.exit_code)


def is_onnx(source: Path) -> bool:
    """Whether `source` is an ONNX file; a folder is an artefact. Raises as `door_of`."""
    from bhpe_compile.compiler.doors import door_of
    from bhpe_compile.frontends.kinds import ONNX

    return source.is_file() and door_of(source) == ONNX


def _onnx_subject(source: Path, letter: str, accuracy: Path | None, row: str | None) -> Subject:
    """An ONNX file: its layers as they would be compiled, in float32. Raises what compiling raises."""
    from bhpe_compile.compiler.imported import OnnxCompilation
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.report.compare import Subject, accuracy_of
    from bhpe_compile.report.compiled import layer_costs
    from bhpe_compile.report.cost import FLOAT32, Costs
    from bhpe_compile.report.places import NOWHERE

    graph = OnnxCompilation(CompileOptions("x86", scheme="float"), source).exported
    layers = tuple(
        replace(layer, precision=FLOAT32, nbytes=4 * layer.weights) for layer in layer_costs(graph, NOWHERE)
    )
    measured = accuracy_of(source, accuracy, row)
    return Subject(letter, source, "ONNX file", "", Costs(layers), source.stat().st_size, accuracy=measured)


def parse_accuracy(given: tuple[str, ...], count: int) -> dict[str, tuple[Path, str | None]]:
    """`B=file.json` or `B=file.json:row` by letter. UsageError for another letter or a file that is not there."""
    files: dict[str, tuple[Path, str | None]] = {}
    for word in given:
        letter, equals, name = word.partition("=")
        if not equals or letter not in LETTERS[:count] or not letter:
            raise UsageError(f"--accuracy {word}: must be {', '.join(LETTERS[:count])} followed by =FILE")
        file, colon, row = name.rpartition(":")
        plain = not colon or Path(name).exists()
        path = Path(name if plain else file)
        files[letter] = existing_file(path, "result file"), None if plain else row
    return files


def time_subjects(subjects: list[Subject], rounds: int) -> list[Subject]:
    """The same, those that run here with their latency; they are timed in turn in every round."""
    from bhpe_compile.cli.bench import open_timed
    from bhpe_compile.report.report import latency_of
    from bhpe_compile.runtime.timing import time_together

    timed: dict[str, Subject] = {}
    with ExitStack() as stack:
        models = {}
        for one in subjects:
            if one.source != "artefact":
                continue
            try:
                models[one.letter] = stack.enter_context(open_timed(one.path))
            except UsageError as error:  # for another CPU: it is shown without latency
                LOG.message(f"not measured: {error}")
        if not models:
            raise UsageError(
                "--measure: none of them runs on this machine; it needs an artefact for this CPU"
            )
        for letter, timing in zip(models, time_together(list(models.values()), rounds), strict=True):
            mine = next(one for one in subjects if one.letter == letter)
            timed[letter] = replace(mine, latency=latency_of(timing))
    return [timed.get(one.letter, one) for one in subjects]


def render(comparison: Comparison, style: str, *, everything: bool = False) -> str:
    """The comparison in one of FORMATS, with a final line feed. everything: every layer that differs."""
    from bhpe_compile.report.compare_tables import compare_tables
    from bhpe_compile.report.tables import join, markdown

    if style == "json":
        return to_json_text(comparison.to_json()) + "\n"
    if style == "html":
        from bhpe_compile.report.html import compare_page

        return compare_page(comparison)
    listed = compare_tables(comparison, everything=everything)
    return join(map(markdown if style == "md" else plain, listed)) + "\n"

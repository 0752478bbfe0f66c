"""`bhpe-compile report`: what a network costs before and after, from a preset, a checkpoint or an artefact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bhpe_compile.cli.compiling import compile_options
from bhpe_compile.cli.console import Console
from bhpe_compile.cli.files import write_files
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import (
    complete_target,
    existing_file,
    existing_subject,
    network_option,
    page_output_option,
    rounds_option,
)
from bhpe_compile.cli.tables import render_table, to_json_text
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.reading import MalformedError, read_json
from bhpe_compile.text import to_utf8

if TYPE_CHECKING:
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.report.advice import Twin
    from bhpe_compile.report.report import Report
    from bhpe_compile.report.tables import Table
    from bhpe_compile.runtime.timing import Timing

FORMATS = ("table", "json", "md", "html", "csv")


@click.command("report", short_help="Count parameters, operations and bytes, before and after.")
@click.argument("source", metavar="[MODEL|ARTEFACT]", required=False, type=click.Path(path_type=Path))
@network_option(preset=True)
@compile_options("scheme", "dense", "pair_safe")
@click.option(
    "--target",
    default="x86",
    show_default=True,
    shell_complete=complete_target,
    help="The CPU whose packed bytes are predicted; an artefact says so itself.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="csv lists the layers; html is one file that needs no network.",
)
@click.option(
    "--layers", "with_layers", is_flag=True, help="List every layer, too (json, csv, html always do)."
)
@page_output_option
@click.option(
    "--advice",
    type=click.Choice(["deploy", "all"]),
    default="deploy",
    show_default=True,
    help="deploy: what an option of `compile` follows. all: what concerns the network's design, too (json always).",
)
@click.option("--measure", is_flag=True, help="Time the artefact here, whole and layer by layer.")
@rounds_option
@click.option("--verify", "verify_too", is_flag=True, help="Verify the artefact and show the result.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    help="Run the artefact on this picture and show the pose on it (html).",
)
def report_command(
    source: Path | None,
    network: str | None,
    options: CompileOptions,
    style: str,
    with_layers: bool,
    output: Path | None,
    advice: str,
    measure: bool,
    rounds: int,
    verify_too: bool,
    picture: Path | None,
) -> None:
    """Count parameters, operations and bytes of a network, before and after.

    A checkpoint, or a network that --network names, is counted, and what compiling would make of it is predicted;
    nothing is compiled. Of an artefact every figure is what its files hold. Operations are told in three conventions:
    the BinaryHPE paper's (a binary parameter is 1/32 of a parameter, a binary multiplication 1/64 of an operation), bit
    operations, and multiplications by bits. None of them is a time: --measure is.

    With the report comes advice: layers that would be cheaper in 8 bits; with --advice all also those that waste
    lanes or move more bytes than they compute.
    """
    compiled = source is not None and existing_subject(source).is_dir()
    for flag, used in (("--measure", measure), ("--verify", verify_too), ("--picture", picture is not None)):
        if used and not compiled:
            raise UsageError(f"{flag} needs a compiled model, the folder that `compile` writes")
    if compiled:
        refuse_given("network", "preset_name", "scheme", "target", "dense", "pair_safe")
    if picture is not None and style != "html":
        raise UsageError("--picture is shown by --format html only")
    if compiled and source is not None:
        report, overlay = _of_artifact(source, measure, rounds, verify_too, picture)
    else:
        report, overlay = _counted(source, network, options), None
    text = render(report, style, with_layers, overlay, everything=advice == "all")
    if output is None:
        click.echo(text, nl=False)
    else:
        write_files({output: to_utf8(text)})


def refuse_given(*names: str) -> None:
    """UsageError where an option that an artefact answers itself stands on the command line."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = name.removesuffix("_name").replace("_", "-")
            raise UsageError(
                f"--{option} is for checkpoints and networks; an artefact says itself what it is"
            )


def _counted(source: Path | None, network: str | None, options: CompileOptions) -> Report:
    from bhpe_compile.networks.choice import choose
    from bhpe_compile.networks.registry import FIRST
    from bhpe_compile.report.report import report_checkpoint, report_network

    dense = "int8" if options.computes_int8 else "fp32"
    said = options.scheme, options.target, dense, options.pair_safe
    if source is None:
        return report_network(network or choose(FIRST).spec, *said)
    return report_checkpoint(source, *said, network)


def _of_artifact(
    source: Path, measure: bool, rounds: int, verify_too: bool, picture: Path | None
) -> tuple[Report, bytes | None]:
    from bhpe_compile.report.report import report_artifact

    timing, twins = (time_artifact(source, rounds), time_twins(source)) if measure else (None, None)
    verification: dict[str, Any] | None = None
    if verify_too:
        from bhpe_compile.cli.verify import run_verification

        verification = run_verification(source, quiet=LOG.quiet, verbose=False).to_json()
    overlay = draw(source, picture) if picture is not None else None
    if verification is None:
        verification = recorded(source, "verification.json")
    report = report_artifact(source, timing=timing, twins=twins, verification=verification)
    return report, overlay


def time_artifact(source: Path, rounds: int) -> Timing:
    """Whole runs and steps of an artefact that runs here; UsageError for another."""
    from bhpe_compile.cli.bench import open_timed
    from bhpe_compile.runtime.timing import time_model

    with Console([], quiet=LOG.quiet, verbose=False) as console, open_timed(source) as model:
        console("time", "", None)
        return time_model(model, rounds, steps=True)


def time_twins(source: Path) -> dict[str, Twin]:
    """Every binary convolution of an artefact beside its 8-bit form, both timed here."""
    from bhpe_compile.report.artifact import read_artifact
    from bhpe_compile.report.report import target_of
    from bhpe_compile.search.tiles.twins import measure_twins

    target = target_of(read_artifact(source))
    if target is None:
        return {}
    with Console([], quiet=LOG.quiet, verbose=False) as console:
        console("time 8-bit forms", "", None)
        return measure_twins(source, target)


def draw(source: Path, picture: Path) -> bytes:
    """The picture with the pose that the artefact finds on it, as PNG."""
    import io

    from bhpe_compile.runtime import draw_overlay, load_picture, make_feeds, open_session
    from bhpe_compile.runtime.results import check_finite

    loaded = load_picture(existing_file(picture, "picture"))
    with open_session(source, threads=1) as session:
        outputs = session.execute(make_feeds(session.interface, loaded)).outputs
        check_finite(outputs)
        interface = session.interface
    stream = io.BytesIO()
    draw_overlay(loaded, outputs, interface).save(stream, "PNG")
    return stream.getvalue()


def recorded(folder: Path, name: str) -> dict[str, Any] | None:
    """A JSON object that lies in an artefact's folder under `name`, or None. InputError where it is damaged."""
    file = folder / name
    if not file.is_file():
        return None
    try:
        content = read_json(file, finite=False)
    except (OSError, MalformedError):
        raise InputError(f"{file}: is not JSON; write it again or remove it") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: is not a JSON object; write it again or remove it")
    return content


def render(
    report: Report,
    style: str,
    with_layers: bool,
    overlay: bytes | None = None,
    *,
    everything: bool = False,
) -> str:
    """The report in one of FORMATS, with a final line feed. everything: all advice."""
    from bhpe_compile.report import tables

    if style == "json":
        return to_json_text(report.to_json()) + "\n"
    if style == "csv":
        return tables.layers_csv(report)
    if style == "html":
        from bhpe_compile.report.html import report_page

        return report_page(report, overlay, everything=everything)
    listed = tables.tables(report, with_layers=with_layers, everything=everything)
    if style == "md":
        return tables.join([f"## {report.name}", *map(tables.markdown, listed)]) + "\n"
    return tables.join(map(plain, listed)) + "\n"


def plain(table: Table) -> str:
    """A table for the terminal: its title, unless it is the first, its rows and its note."""
    lines = [] if table.title == "Summary" else [table.title.upper()]
    if table.rows:
        lines.append(render_table(table.header, table.rows, right=table.right))
    return "\n".join([*lines, *([table.note] if table.note else [])])

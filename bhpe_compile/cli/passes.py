"""`bhpe-compile passes`: what the compiler does, in order; and one pass on one ONNX file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from bhpe_compile.cli.files import write_files
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import complete_pass, complete_target, existing_file, format_option
from bhpe_compile.cli.tables import print_json, render_table
from bhpe_compile.errors import UsageError


@click.command("passes", short_help="List the passes of the compiler in order, or run one.")
@click.argument("files", metavar="[IN.onnx OUT.onnx]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--run",
    "name",
    metavar="NAME",
    shell_complete=complete_pass,
    help="Run this pass on IN.onnx and write OUT.onnx; passes of fold and lower work on ONNX.",
)
@click.option(
    "--target",
    "-t",
    shell_complete=complete_target,
    help="The CPU whose tiles choose-tiles takes.  [with --run]",
)
@click.option("--requires", is_flag=True, help="List what each pass needs and establishes as well.")
@format_option
def passes_command(
    files: tuple[Path, ...], name: str | None, target: str | None, requires: bool, style: str
) -> None:
    """List the passes in the order in which they run, with the stage each belongs to.

    A pass is one step that rewrites the network: `binarize` decides which layers compute with single bits,
    `fold` merges scales and shifts into them, `lower` chooses the machine code of one CPU.

    \b
    bhpe-compile passes
    bhpe-compile passes --run fold-batch-norm in.onnx out.onnx

    With --run, the decisions of the pass are printed, and OUT.onnx is written even when nothing changed.
    """
    if name is not None:
        if len(files) != 2:
            raise UsageError("--run needs two files: the model to read and the one to write")
        run_one(name, files[0], files[1], target, style)
    elif files or target is not None:
        raise UsageError("files and --target are for --run: say which pass to run")
    else:
        print_passes(style, requires)


def print_passes(style: str, requires: bool) -> None:
    """The passes in order."""
    from bhpe_compile.compiler.plan import list_passes

    passes = list_passes(imported=True)
    if style == "json":
        print_json([asdict(one) for one in passes])
        return
    header: tuple[str, ...] = ("stage", "pass", "what it does")
    rows: list[tuple[str, ...]] = [(one.stage, one.name, one.summary) for one in passes]
    if requires:
        header += ("requires", "ensures")
        rows = [
            (*row, ", ".join(p.requires), ", ".join(p.ensures)) for row, p in zip(rows, passes, strict=True)
        ]
    click.echo(render_table(header, rows))


def run_one(name: str, source: Path, output: Path, target: str | None, style: str) -> None:
    """Run one pass and write its result."""
    from bhpe_compile.check.inspect.run_pass import run_pass
    from bhpe_compile.targets import get_target

    chosen = get_target(target) if target is not None else None
    done = run_pass(name, existing_file(source, "model"), chosen)
    write_files({output: done.content})
    if style == "json":
        notes = [asdict(note) for note in done.notes]
        print_json({"pass": name, "modified": done.modified, "assumed": list(done.assumed), "notes": notes})
        return
    if done.assumed:
        LOG.message(f"assumed of {source}: {', '.join(done.assumed)}")
    rows = [(note.site, "applied" if note.applied else "refused", note.reason) for note in done.notes]
    if rows:
        click.echo(render_table(("where", "", "why"), rows))
    LOG.message(f"{'changed' if done.modified else 'nothing changed'}; wrote {output}")

"""`bhpe-compile tune MODEL... --target T`: measure the register tiles of a model's convolutions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bhpe_compile.cli.compiling import compile_options, for_door, given
from bhpe_compile.cli.console import Console
from bhpe_compile.cli.files import write_files
from bhpe_compile.cli.options import OutwardOption, complete_target, existing, format_option
from bhpe_compile.cli.tables import print_json, render_table
from bhpe_compile.errors import UsageError
from bhpe_compile.text import to_utf8

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.search.tiles import Measured, Workplace

LOWERING = 0.3
"""The part of the progress bar that reading and lowering the models takes."""


@click.command("tune", short_help="Measure which register tiles are fastest for a model.")
@click.argument(
    "models", metavar="MODEL_OR_ARTEFACT...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--target",
    "-t",
    required=True,
    shell_complete=complete_target,
    help="The CPU to tune for; `bhpe-compile targets` lists them.",
)
@compile_options(
    *("network", "scheme", "keep_float", "binarize", "residual_tap", "dense", "pair_safe", "residual"),
    *("calibrate", "shapes"),
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The table to write, for `compile --tiles`.  [default: tiles-<target>.json]",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="How often each tile is timed; more on a noisy machine.",
)
@click.option(
    "--rpc", cls=OutwardOption, metavar="HOST:PORT", help="Measure on a device that TVM's RPC tracker knows."
)
@click.option("--key", cls=OutwardOption, help="The name the device has at the tracker.  [with --rpc]")
@format_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def tune_command(
    models: tuple[Path, ...],
    options: CompileOptions,
    output: Path | None,
    rounds: int,
    rpc: str | None,
    key: str | None,
    style: str,
    quiet: bool,
) -> None:
    """Measure, for every convolution of MODEL, which register tile is fastest, and write a table of them.

    MODEL is a checkpoint or an ONNX file, lowered as `compile` would with the same options, or a folder that
    `compile` wrote. About ten tiles are tried for each shape; those more than 2 % faster than the built-in choice go
    into the table. Results do not depend on tiles, only speed does.

    \b
    bhpe-compile tune dist/model-native --target native -o tiles.json
    bhpe-compile model.pt --target native --tiles tiles.json

    Code for another CPU is measured on a device: run `python -P -m tvm.exec.rpc_tracker` here,
    `python -P -m tvm.exec.rpc_server --tracker HOST:PORT --key KEY` there, and give --rpc and --key.
    """
    for model in models:
        existing(model, "model or artefact")
    if (rpc is None) != (key is None):
        raise UsageError("--rpc and --key belong together: the tracker, and the device's name there")
    if (words := given()) and all(model.is_dir() for model in models):
        raise UsageError(f"{words[0]} is for checkpoints and ONNX files; an artefact says itself what it is")
    destination = output or Path(f"tiles-{options.target}.json")
    described = [("target", options.target), ("output", str(destination)), ("rounds", str(rounds))]
    with Console(described, quiet=quiet, verbose=True, first_stage="") as console:
        measured, text = measure(models, options, rounds, rpc, key, console)
    write_files({destination: to_utf8(text)})
    if style == "json":
        print_json([row(one) for one in measured])
    elif not quiet:
        click.echo(render(measured))
        click.echo(f"\n{sum(one.kept for one in measured)} of {len(measured)} shapes in {destination}")


def measure(
    models: Sequence[Path],
    options: CompileOptions,
    rounds: int,
    rpc: str | None,
    key: str | None,
    console: Console,
) -> tuple[list[Measured], str]:
    """Lower the models, measure their shapes; the results and the text of the table."""
    from bhpe_compile.compiler.doors import door_of, kind_of_compilation
    from bhpe_compile.compiler.pipeline import Compilation
    from bhpe_compile.compiler.progress import Progress
    from bhpe_compile.frontends.kinds import ONNX
    from bhpe_compile.search.tiles import Here, There, shapes_of, tune, winners
    from bhpe_compile.targets import get_target
    from bhpe_compile.targets.host import cpu_name
    from bhpe_compile.targets.tile import write_tiles

    target = get_target(options.target)
    workplace: Workplace = Here(target) if rpc is None or key is None else There(target, rpc, key)
    compilations = []
    for index, model in enumerate(models):

        def observe(stage: str, step: str, fraction: float, index: int = index) -> None:
            console(stage, step, LOWERING * (index + fraction) / len(models))

        progress = Progress(observe)
        if model.is_dir():
            compilation = Compilation.of_artifact(model, target, progress)
        else:
            said = for_door(options, door_of(model) == ONNX)
            compilation = kind_of_compilation(model)(said, model, progress=progress)
        compilations.append(compilation)
        compilation.until("lower")
    shapes = shapes_of(one.kernels for one in compilations)
    fitted = [one.fitted for one in compilations]
    # a shape is measured once: with bytes in pairs where every model has weights for them
    target = fitted[0] if all(one.isa == fitted[0].isa for one in fitted) else target

    def tick(shape: str, index: int) -> None:
        console("tune", shape, LOWERING + (1 - LOWERING) * index / len(shapes))

    measured = tune(shapes, target, workplace, rounds, tick)
    cpu = key or cpu_name()
    return measured, write_tiles(winners(measured), str(target.tiles or target.name), target.isa.name, cpu)


def row(one: Measured) -> dict[str, Any]:
    """One shape for programs."""
    return {
        "shape": one.shape.key,
        "calls": one.shape.calls,
        "tried": one.tried,
        "default": {"tile": str(one.default), "ns": round(one.default_ns)},
        "best": {"tile": str(one.best), "ns": round(one.best_ns)},
        "kept": one.kept,
    }


def render(measured: Sequence[Measured]) -> str:
    """The table for people, times in microseconds."""
    rows = [
        (
            one.shape.key,
            str(one.shape.calls),
            str(one.default),
            f"{one.default_ns / 1e3:.1f}",
            str(one.best) if one.kept else "the same",
            f"{one.best_ns / 1e3:.1f}" if one.kept else "",
            f"{one.default_ns / one.best_ns:.2f}" if one.kept else "",
        )
        for one in measured
    ]
    header = ("shape", "calls", "built in", "us", "best", "us", "times faster")
    return render_table(header, rows, right=(1, 3, 5, 6))

"""`bhpe-compile sensitivity MODEL`: which layers lose most by becoming binary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bhpe_compile.cli.accuracy import data_options, describe_data, open_data
from bhpe_compile.cli.compiling import BINARIZING, compile_options
from bhpe_compile.cli.console import Console
from bhpe_compile.cli.options import existing_checkpoint, format_option
from bhpe_compile.cli.tables import print_json, render_table
from bhpe_compile.errors import UsageError

if TYPE_CHECKING:
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.search.layers.sensitivity import Ranking

FEW = 64
"""People, unless --count asks for others: a ranking needs fewer than a figure."""


@click.command("sensitivity", short_help="Rank layers by what making each binary costs.")
@click.argument("model", type=click.Path(path_type=Path))
@data_options
@compile_options(*BINARIZING)
@click.option(
    "--by",
    type=click.Choice(["layer", "block"]),
    default="layer",
    show_default=True,
    help="Single layers, or residual blocks (with the box network as one): fewer, so faster.",
)
@click.option(
    "--recalibrate/--no-recalibrate",
    default=True,
    show_default=True,
    help="Measure the statistics of batch norms again on the same pictures, as training would; without it the figures "
    "are what `compile` would get from this checkpoint as it is.",
)
@format_option
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def sensitivity_command(
    model: Path,
    data: str,
    count: int | None,
    seed: int,
    body: Path | None,
    options: CompileOptions,
    by: Literal["layer", "block"],
    recalibrate: bool,
    style: str,
    quiet: bool,
) -> None:
    """Rank the layers of a full-precision MODEL by what making each one binary costs, in millimetres of MPVPE.

    Every layer is made binary alone, everything else stays in full precision, and the same people are evaluated
    again: one evaluation a layer (64 people unless --count says otherwise). Nothing is trained, so this tells where to
    look and what to give to `compile --keep-float` first, not what a trained binary network loses.
    """
    existing_checkpoint(model)
    from bhpe_compile.frontends.checkpoint import load_model
    from bhpe_compile.search.layers.sensitivity import rank, require_float

    if not options.is_binary:
        raise UsageError(f"--scheme {options.scheme} makes no layer binary: there is nothing to rank")
    with Console([], quiet=quiet, verbose=True) as console:
        console("load", "", None)
        loaded = load_model(model, options.network)
        require_float(loaded)
        examples = open_data(data, count or FEW, seed, body, console, at_most=count is None)
        batches = list(examples)
        ranking = rank(
            loaded,
            options.binarize_options(),
            batches,
            examples.bodies,
            by=by,
            recalibrated=recalibrate,
            seed=seed,
            told=lambda name, done, of: console("measure", f"{name} ({done} of {of})", done / of),
        )
    facts = examples.data()
    if style == "json":
        print_json({"data": vars(facts), "by": by, "scheme": options.scheme, **to_json(ranking)})
        return
    click.echo(describe_data(facts))
    click.echo(f"MPVPE in full precision: {ranking.reference:.1f} mm\n")
    click.echo(render_table(*ranking_table(ranking), right=(0, 1, 2)))


def ranking_table(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    """The dearest first."""
    rows = [
        [
            f"{cost.difference:+.2f}",
            "{:+.2f} .. {:+.2f}".format(*cost.interval),
            f"{cost.mpvpe:.1f}",
            cost.name if len(cost.layers) < 2 else f"{cost.name} ({len(cost.layers)} layers)",
        ]
        for cost in ranking.costs
    ]
    return ["cost, mm", "95 % interval", "MPVPE, mm", "binary alone"], rows


def to_json(ranking: Ranking) -> dict[str, object]:
    """For programs."""
    return {
        "reference": ranking.reference,
        "recalibrated": ranking.recalibrated,
        "costs": [
            {
                "name": cost.name,
                "layers": list(cost.layers),
                "mpvpe": cost.mpvpe,
                "difference": cost.difference,
                "interval": list(cost.interval),
            }
            for cost in ranking.costs
        ],
    }

"""`bhpe-compile train --data DIR -o model.pt`: a full-precision network from labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bhpe_compile.cli.options import checkpoint_option, format_option
from bhpe_compile.cli.training import (
    fingerprint,
    make_place,
    make_recipe,
    open_people,
    recipe_options,
    run_training,
)


@click.command("train", short_help="Train a full-precision network on labelled pictures.")
@click.option(
    "--data",
    default="synth",
    show_default=True,
    metavar="DIR|synth",
    help="A folder with labelled pictures, as `bhpe-compile data synth` makes one; synth draws people first.",
)
@checkpoint_option
@click.option(
    "--preset",
    type=click.Choice(["tiny", "full"]),
    default="tiny",
    show_default=True,
    help="The size of the network; full wants an accelerator.",
)
@recipe_options(samples=300_000, learning_rate=2e-3)
@format_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def train_command(data: str, output: Path, preset: str, style: str, quiet: bool, **values: Any) -> None:
    """Train a Hand4Whole network in full precision.

    \b
    bhpe-compile data synth --count 20000 --seed 1 -o people
    bhpe-compile train --data people -o model.pt

    Stop it whenever you like: the same command goes on from its last checkpoint and ends with the same weights.
    On several processes or machines: `torchrun --nproc-per-node 2 -m bhpe_compile.cli train ...` with
    --micro-batch at most half of --batch.
    """
    from bhpe_compile.distill.train import train
    from bhpe_compile.models.presets import get_preset

    recipe, place = make_recipe(values), make_place(values, output)
    people, body = open_people(data, values, quiet)
    facts = {"data": fingerprint(people), "people": len(people)}
    described = [
        ("data", f"{data} ({len(people)} people)"),
        ("output", str(output)),
        ("preset", preset),
        ("samples", f"{recipe.images} in {recipe.steps} steps of {recipe.batch}"),
        ("checkpoint", str(place.folder)),
    ]
    run_training(
        described,
        lambda tick: train(people, body, get_preset(preset), recipe, place, output, facts, tick),
        place,
        f"{output.name}: {preset}, full precision",
        style=style,
        quiet=quiet,
    )

"""`bhpe-compile train --data DIR -o model.pt`: a full-precision network from labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bhpe_compile.cli.options import format_option
from bhpe_compile.cli.training import make_place, make_recipe, recipe_options, run_training, seen


@click.command("train", short_help="Train a full-precision network on labelled pictures.")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="A folder with labelled pictures; `bhpe-compile data synth` makes one.",
)
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="The checkpoint to write."
)
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
def train_command(data: Path, output: Path, preset: str, style: str, quiet: bool, **values: Any) -> None:
    """Train a Hand4Whole network in full precision.

    \b
    bhpe-compile data synth --count 20000 --seed 1 -o people
    bhpe-compile train --data people -o model.pt

    Stop it whenever you like: the same command goes on from its last checkpoint and ends with the same weights.
    On several processes or machines: `torchrun --nproc-per-node 2 -m bhpe_compile.cli train ...` with
    --micro-batch at most half of --batch.
    """
    from bhpe_compile.distill.train import train
    from bhpe_compile.evaluate.body import BodyModel
    from bhpe_compile.evaluate.dataset import open_dataset
    from bhpe_compile.evaluate.default_body import resolve_body
    from bhpe_compile.models.presets import get_preset

    recipe, place = make_recipe(values), make_place(values, output)
    people = open_dataset(data)
    seen(people)
    body = BodyModel.load(resolve_body(values["body"]))
    facts = {"data": people.name, "people": len(people)}
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

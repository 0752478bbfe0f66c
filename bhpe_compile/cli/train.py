"""`bhpe-compile train --data DIR -o model.pt`: a full-precision network from labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bhpe_compile.cli.options import (
    checkpoint_option,
    existing_checkpoint,
    format_option,
    network_option,
)
from bhpe_compile.cli.training import (
    check_own_boxes,
    fingerprint,
    make_place,
    make_recipe,
    open_people,
    own_boxes_option,
    recipe_options,
    run_training,
    was_given,
)
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.files import sha256

if TYPE_CHECKING:
    from bhpe_compile.networks.network import Network

SMALL = "tiny"
"""The preset of examples and tests."""


@click.command("train", short_help="Train a full-precision network on labelled pictures.")
@click.option(
    "--data",
    default="synth",
    show_default=True,
    metavar="DIR|synth",
    help="A folder with labelled pictures, as `bhpe-compile data synth` makes one; synth draws people first.",
)
@checkpoint_option
@network_option(preset=True)
@click.option(
    "--from",
    "start",
    metavar="CHECKPOINT",
    type=click.Path(path_type=Path),
    help="Go on from this full-precision network instead of a random one; it says the preset.",
)
@click.option(
    "--freeze",
    metavar="GLOB",
    multiple=True,
    help="Layers that keep their weights, such as 'hand_*'.  [repeatable]",
)
@own_boxes_option
@recipe_options(samples=300_000, learning_rate=2e-3)
@format_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def train_command(
    data: str,
    output: Path,
    network: str | None,
    start: Path | None,
    freeze: tuple[str, ...],
    own_boxes: float,
    style: str,
    quiet: bool,
    **values: Any,
) -> None:
    """Train a network in full precision.

    \b
    bhpe-compile data synth --count 20000 --seed 1 -o people
    bhpe-compile train --data people -o model.pt
    bhpe-compile train --data people --from model.pt --lr 5e-4 -o better.pt

    A network that begins at random sees no boxes; with --from, --own-boxes says how many crops are where it looks.

    Stop it whenever you like: the same command goes on from its last checkpoint and ends with the same weights.
    On several processes or machines: `torchrun --nproc-per-node 2 -m bhpe_compile.cli train ...` with
    --micro-batch at most half of --batch.
    """
    from bhpe_compile.distill.described import lesson_of
    from bhpe_compile.distill.full_precision import train
    from bhpe_compile.distill.lesson import Run, TrainOptions
    from bhpe_compile.frontends.checkpoint import load_model
    from bhpe_compile.networks.choice import choose
    from bhpe_compile.networks.registry import FIRST

    if start is None and was_given("own_boxes"):
        raise UsageError("--own-boxes: a network that begins at random sees no boxes; name one with --from")
    place = make_place(values, output)
    loaded = None if start is None else load_model(existing_checkpoint(start, "checkpoint"), network)
    choice = choose(network or FIRST)
    kind = loaded.network if loaded else choice.network
    preset = loaded.preset if loaded else choice.preset or small_preset(kind)
    lesson = lesson_of(kind, preset, loaded.interface if loaded else choice.interface(preset))
    check_own_boxes(lesson)
    if kind.lesson is None and kind.targets is None:
        raise UsageError(
            f"{kind.name}: its description does not say what labels mean for its outputs (`targets`); `distill` makes "
            "its binary form without labels"
        )
    recipe = make_recipe(values, lesson.weights)
    people, body = open_people(data, values, quiet)
    facts: dict[str, Any] = {"data": fingerprint(people), "people": len(people)}
    if loaded is not None and start is not None:
        if loaded.binarization is not None:
            raise InputError(f"{start}: is binary already; `distill` trains binary networks")
        facts["from"] = sha256(start)
    if freeze:
        facts["freeze"] = list(freeze)
    options = TrainOptions(loaded.model if loaded else None, freeze, own_boxes)
    described = [
        ("data", f"{data} ({len(people)} people)"),
        ("output", str(output)),
        ("network", f"{kind.name}:{preset}"),
        *([("from", str(start))] if start else []),
        *([("own boxes", f"{own_boxes:.0%} of the crops")] if start and lesson.looks else []),
        *([("frozen", ", ".join(freeze))] if freeze else []),
        ("samples", f"{recipe.images} in {recipe.steps} steps of {recipe.batch}"),
        ("checkpoint", str(place.folder)),
    ]
    run_training(
        described,
        lambda tick, looking: train(
            lesson, people, body, Run(recipe, place, output, facts, tick, looking), options
        ),
        place,
        f"{output.name}: {kind.name}:{preset}, full precision",
        style=style,
        quiet=quiet,
    )


def small_preset(network: Network) -> str:
    """What is trained where no preset is named: the small one, if there is one."""
    return SMALL if SMALL in network.presets else network.presets[0]

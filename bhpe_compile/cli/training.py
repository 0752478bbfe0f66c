"""What `train` and `distill` have in common: options, progress, what is printed at the end."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from bhpe_compile.cli.console import Console
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.tables import print_json, render_duration, render_pairs
from bhpe_compile.errors import InputError, UsageError

if TYPE_CHECKING:
    from bhpe_compile.distill.lesson import Lesson, Trained
    from bhpe_compile.distill.recipe import Recipe
    from bhpe_compile.distill.record import Place
    from bhpe_compile.evaluate.body import BodyModel

F = TypeVar("F", bound=Callable[..., Any])

CURVE = "curve.png"
SECONDS_BETWEEN_LINES = 30
"""Of progress in a log file."""


own_boxes_option = click.option(
    "--own-boxes",
    type=click.FloatRange(0, 1),
    default=0.75,
    show_default=True,
    metavar="PART",
    help="Part of the samples in which hands and face are cropped where the network itself sees them, with its errors; "
    "in the others, where the labels say.",
)


def was_given(name: str) -> bool:
    """Whether the user wrote the option of parameter `name`, so that ignoring it would deceive."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def recipe_options(samples: int, learning_rate: float) -> Callable[[F], F]:
    """The options of a recipe and of its place, with this task's defaults."""
    options = (
        click.option(
            "--samples",
            type=int,
            default=samples,
            show_default=True,
            help="How many pictures are seen in all; every one comes again and again, a little changed.",
        ),
        click.option("--batch", type=int, default=64, show_default=True, help="Pictures in one step."),
        click.option(
            "--micro-batch",
            type=int,
            default=64,
            show_default=True,
            help="Pictures computed at once; processes share a batch in pieces of this size.",
        ),
        click.option(
            "--lr", type=float, default=learning_rate, show_default=True, help="The highest learning rate."
        ),
        click.option(
            "--loss-weight",
            "loss_weights",
            multiple=True,
            metavar="TERM=W",
            help="Weight of a term of the loss: fingers=60 if hands matter most.  [repeatable]",
        ),
        click.option(
            "--average",
            type=click.IntRange(min=0),
            default=0,
            metavar="STEPS",
            help="Write the mean of the weights of about so many last steps, in place of the last ones: a tenth of "
            "all, say. Signs are those of the mean.",
        ),
        click.option(
            "--seed",
            type=int,
            default=0,
            show_default=True,
            help="Decides the start and every random choice.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["auto", "bf16", "fp32"]),
            default="auto",
            show_default=True,
            help="auto: bf16 where the hardware multiplies it.",
        ),
        click.option(
            "--body",
            type=click.Path(path_type=Path),
            help="A body file in the SMPL-X layout.  [default: the open one]",
        ),
        click.option(
            "--people",
            type=click.IntRange(min=1),
            default=20_000,
            show_default=True,
            help="How many are drawn for synth, which keeps them in the cache folder.",
        ),
        click.option(
            "--work",
            type=click.Path(path_type=Path),
            help="The folder for checkpoint, log and curve.  [default: <output>.training]",
        ),
        click.option("--restart", is_flag=True, help="Begin anew, although there is a checkpoint."),
        click.option(
            "--workers", type=int, default=1, show_default=True, help="Processes that read pictures."
        ),
    )

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def make_recipe(values: dict[str, Any], weights: Mapping[str, float]) -> Recipe:
    """A recipe from the values of `recipe_options`; `weights` are the network's terms of the loss."""
    from bhpe_compile.distill.recipe import Recipe

    return Recipe(
        images=values["samples"],
        batch=values["batch"],
        micro_batch=min(values["micro_batch"], values["batch"]),
        learning_rate=values["lr"],
        seed=values["seed"],
        precision=values["precision"],
        loss_weights=parse_loss_weights(values["loss_weights"], weights),
        average=values["average"],
    )


def check_own_boxes(lesson: Lesson) -> None:
    """UsageError where --own-boxes is given for a network that does not crop for itself."""
    if was_given("own_boxes") and not lesson.looks:
        raise UsageError(f"--own-boxes: {lesson.spec} crops nothing for itself; leave it out")


def parse_loss_weights(texts: Sequence[str], known: Mapping[str, float]) -> dict[str, float]:
    """What --loss-weight says. UsageError for another term than the `known`, or a weight that is none."""
    weights = {}
    for text in texts:
        term, _, number = text.partition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if term not in known or not 0 <= weight < math.inf:
            terms = ", ".join(f"{name} ({value:g})" for name, value in known.items())
            raise UsageError(
                f"--loss-weight {text}: wants TERM=W, W at least 0; the terms and their weights are {terms}"
            )
        weights[term] = weight
    return weights


def make_place(values: dict[str, Any], output: Path) -> Place:
    """Where checkpoints go. UsageError when the output cannot be written there."""
    from bhpe_compile.distill.record import Place

    if not output.parent.is_dir():
        raise UsageError(f"{output.parent}: no such folder for the output")
    if output.suffix not in (".pt", ".safetensors"):
        raise UsageError(f"{output}: the output must end in .pt or .safetensors")
    folder = values["work"] or output.with_name(output.name + ".training")
    return Place(folder, values["workers"], values["restart"])


def run_training(
    described: list[tuple[str, str]],
    run: Callable[[Callable[[int, int, float], None], Callable[[float], None]], Trained],
    place: Place,
    title: str,
    *,
    style: str,
    quiet: bool,
) -> None:
    """Call `run` with what shows steps and looking, draw the curve, print the result."""
    from bhpe_compile.distill.curve import draw
    from bhpe_compile.distill.engine import is_main

    quiet = quiet or not is_main()
    LOG.remains = f"the same command goes on from the last checkpoint in {place.folder}"
    start, first = 0.0, -1
    interval = 1 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
    with Console(described, quiet=quiet, verbose=False, first_stage="") as console:
        last = -math.inf

        def looking(part: float) -> None:
            console("boxes", "where the network sees hands and face", part)

        def tick(done: int, steps: int, loss: float) -> None:
            nonlocal start, first, last
            now = time.monotonic()
            if now - last < interval and done < steps:
                return
            last = now
            left = ""
            if first < 0:  # the first step waits for the first pictures: time is counted from its end
                start, first = now, done
            elif done < steps:
                left = f", {render_duration((now - start) / (done - first) * (steps - done))} left"
            console(f"{done}/{steps}", f"loss {loss:.3f}{left}", done / steps)

        trained = run(tick, looking)
    if not is_main():
        return
    curve = place.folder / CURVE
    draw(trained.log, curve, title)
    end = trained.log[-1]
    if style == "json":
        told = {"activations": trained.replaced} if trained.replaced else {}
        print_json({"output": str(trained.output), "curve": str(curve), **told, **end})
    elif not quiet and style == "table":
        pairs = [("output", str(trained.output)), ("curve", str(curve)), ("loss", f"{end['loss']:.4f}")]
        if trained.replaced:
            pairs.append(("activations", trained.replaced))
        click.echo(render_pairs(pairs))


def open_people(spec: str, values: dict[str, Any], quiet: bool) -> tuple[Any, BodyModel]:
    """The people that `spec` names (a folder, or "synth"), labelled for the body that is returned.

    Raises UsageError (no such folder; several processes cannot draw), InputError (nobody in it, another body).
    """
    from bhpe_compile.evaluate.body import BodyModel
    from bhpe_compile.evaluate.data import SYNTH, require_own_body, synthetic
    from bhpe_compile.evaluate.default_body import resolve_body
    from bhpe_compile.evaluate.open import open_dataset

    body = resolve_body(values["body"])
    if spec == SYNTH:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError(
                "several processes cannot draw people: run `data synth` before, and name its folder"
            )
        with Console([], quiet=quiet, verbose=False, first_stage="") as console:
            people = synthetic(
                "train",
                values["people"],
                values["seed"],
                body,
                lambda what, done: console("data", what, done),
                values["workers"],
            )
    else:
        people = open_dataset(Path(spec), body=values["body"])
        require_own_body(people, body)
    if not len(people):
        raise InputError(f"{spec}: nobody in it")
    return people, BodyModel.load(body)


def fingerprint(people: Any) -> str:
    """What tells one set of pictures from another: a checkpoint belongs to one."""
    import hashlib
    import json

    manifest = getattr(people, "manifest", None)
    if manifest is None:
        return str(getattr(people, "fingerprint", people.name))
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()

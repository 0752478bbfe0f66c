"""`compile MODEL --target T --distill PICTURES`: train the binary form, then compile it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bhpe_compile.cli.console import Console
from bhpe_compile.cli.distill import distill_command, open_pictures
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.tables import render_table
from bhpe_compile.cli.training import fingerprint, make_recipe, run_training
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.files import find_pictures, sha256

if TYPE_CHECKING:
    from bhpe_compile.compiler.agreement import Agreement
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.frontends.imported import Imported


@dataclass(frozen=True)
class Distilled:
    """The student's file and its teacher, how far the binary form was from it before training, on which pictures."""

    student: Path
    teacher: Imported
    before: Agreement
    pictures: tuple[Path, ...]


def check_distill(pictures: str, minutes: float | None, options: CompileOptions, max_drop: bool) -> None:
    """UsageError for what --distill cannot go with."""
    if not options.is_binary:
        raise UsageError(f"--distill trains binary layers, --scheme {options.scheme} has none: leave one out")
    if options.binarize:
        raise UsageError("--distill trains what the scheme makes binary: leave --binarize out")
    if max_drop:
        raise UsageError("--distill trains the network, --max-drop takes it as it is: leave one out")
    if minutes is not None and minutes <= 0:
        raise UsageError(f"--minutes {minutes:g}: must be above 0")
    if pictures != "synth" and not Path(pictures).is_dir():
        raise UsageError(f"{pictures}: no such folder of pictures")


def distill_first(
    model: Path,
    destination: Path,
    options: CompileOptions,
    pictures: str,
    minutes: float | None,
    *,
    quiet: bool,
) -> Distilled:
    """Train the binary form of `model` into <destination>-student.pt, or go on with it; a finished one is taken as it
    is."""
    from bhpe_compile.compiler.pipeline import Compilation
    from bhpe_compile.distill.budget import TIMED, plan_samples
    from bhpe_compile.distill.described import lesson_of
    from bhpe_compile.distill.lesson import DistillOptions, Run
    from bhpe_compile.distill.record import Place
    from bhpe_compile.distill.student import distill
    from bhpe_compile.frontends.load import load_network
    from bhpe_compile.passes.binarize import BinarizeOptions, get_scheme

    loaded = load_network(model, options.network, dict(options.shapes))
    if loaded.binarization is not None:
        raise InputError(f"{model}: is binary already; compile it without --distill")
    lesson = lesson_of(loaded.network, loaded.preset, loaded.interface)
    student = destination.with_name(f"{destination.name}-student.pt")
    place = Place(student.with_name(f"{student.name}.training"))
    words = [str(model), "--images", pictures, "-o", str(student), *(["-q"] if LOG.quiet else [])]
    values: dict[str, Any] = distill_command.make_context("distill", words).params
    shown = () if pictures == "synth" else find_pictures([Path(pictures)], LOG.message)
    watched = options.calibrate or shown
    before = Compilation.of_loaded(loaded, options, watched=watched).agreement
    if student.is_file():
        LOG.message(f"{student}: was distilled before; remove it to train again")
        return Distilled(student, loaded, before, watched)
    people, body = open_pictures(lesson, pictures, values, quiet)
    binarization = BinarizeOptions(
        get_scheme(options.scheme),
        options.keep_float,
        residual_tap="before" if options.residual_tap == "before" else "after",
    )
    facts = {"data": fingerprint(people), "people": len(people), "teacher": sha256(model)}
    form = DistillOptions(binarization, own_boxes=values["own_boxes"])
    student.parent.mkdir(parents=True, exist_ok=True)

    def train(recipe: Any, tick: Any, looking: Any) -> Any:
        teacher = load_network(model, options.network, dict(options.shapes)).model
        run = Run(recipe, place, student, facts, tick, looking)
        return distill(lesson, teacher, people, body, run, form)

    recipe = make_recipe(values, lesson.weights)
    if minutes is not None:
        with Console([], quiet=quiet, verbose=False, first_stage="") as console:
            console("distill", "timing the first steps", None)
            timed = replace(recipe, images=TIMED.images)
            samples = plan_samples(
                place.folder,
                minutes,
                recipe.batch,
                lambda tick: train(timed, tick, lambda part: console("boxes", "", part)),
            )
        recipe = replace(recipe, images=samples)
    described = [
        ("teacher", str(model)),
        ("pictures", f"{pictures} ({len(people)})"),
        ("student", str(student)),
        ("samples", f"{recipe.images} in {recipe.steps} steps of {recipe.batch}"),
        ("checkpoint", str(place.folder)),
    ]
    run_training(
        described,
        lambda tick, looking: train(recipe, tick, looking),
        place,
        f"{student.name}: {options.scheme}, taught by {model.name}",
        style="none",
        quiet=quiet,
    )
    return Distilled(student, loaded, before, watched)


def render_before_after(before: Agreement, after: Agreement) -> str:
    """How far each kind of output is from full precision, untrained and distilled."""
    rows = [(kind, str(movement), str(after.get(kind, "-"))) for kind, movement in before.items()]
    return render_table(("against full precision", "untrained", "distilled"), rows, right=(1, 2))


def distilled_json(distilled: Distilled) -> dict[str, Any]:
    """For programs."""
    from bhpe_compile.compiler.agreement import to_json

    return {"student": str(distilled.student), "agreement_before": to_json(distilled.before)}

"""`bhpe-compile distill MODEL --images DIR -o student.pt`: the binary form learns from the full-precision network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bhpe_compile.cli.compiling import OPTIONS
from bhpe_compile.cli.options import (
    checkpoint_option,
    existing_file,
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
from bhpe_compile.compiler.options import BINARY_SCHEMES
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.files import sha256

if TYPE_CHECKING:
    from bhpe_compile.distill.lesson import Lesson, Start
    from bhpe_compile.evaluate.body import BodyModel
    from bhpe_compile.frontends.imported import Imported
    from bhpe_compile.passes.binarize import ResidualTap


@click.command("distill", short_help="Train the binary form of a network, with the network as teacher.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--images",
    "pictures",
    required=True,
    metavar="DIR|synth|NPZ",
    help="A folder of pictures, each of one person, or what `bhpe-compile data synth` wrote; synth draws people first. "
    "An .npz of its inputs, for a network that takes no pictures.",
)
@network_option()
@OPTIONS["shapes"]
@checkpoint_option
@click.option(
    "--scheme",
    type=click.Choice(BINARY_SCHEMES),
    default="bidrn",
    show_default=True,
    help="Which layers compute with single bits, and how.",
)
@click.option(
    "--keep-float",
    multiple=True,
    metavar="GLOB",
    help="Layers that do not become binary; compiled, they are 8-bit.  [repeatable]",
)
@OPTIONS["residual_tap"]
@click.option(
    "--label-weight",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Weight of labels beside the teacher, where the pictures have some.",
)
@click.option(
    "--rounding/--no-rounding",
    default=True,
    show_default=True,
    help="Train with what compiling rounds: 8-bit layers where they are not binary, float16 residuals.",
)
@click.option(
    "--from",
    "start",
    metavar="STUDENT|FOLDER",
    type=click.Path(path_type=Path),
    help="Go on from this binary network, or from the folder of its training, which still has the weights behind the "
    "signs. It says --scheme and --residual-tap; --keep-float adds layers, which begin with MODEL's weights.",
)
@click.option(
    "--consistency",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="W",
    help="Weight of how far the answers to two views of a picture are apart, which differ by noise that nobody sees. A "
    "picture then counts as two samples.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="W",
    help="Weight of how near values are to the thresholds of their signs, where noise turns them over.",
)
@own_boxes_option
@recipe_options(samples=120_000, learning_rate=2.5e-3)
@format_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def distill_command(
    model: Path,
    network: str | None,
    shapes: tuple[str, ...],
    pictures: str,
    output: Path,
    scheme: str,
    keep_float: tuple[str, ...],
    residual_tap: ResidualTap,
    label_weight: float,
    own_boxes: float,
    rounding: bool,
    start: Path | None,
    consistency: float,
    margin: float,
    style: str,
    quiet: bool,
    **values: Any,
) -> None:
    """Train the binary form of MODEL, a full-precision checkpoint or an ONNX file, which is its teacher.

    \b
    bhpe-compile distill model.pt --images pictures/ -o student.pt
    bhpe-compile distill face.onnx --network face.toml --images pictures/ -o student.pt
    bhpe-compile student.pt --target arm

    The pictures need no labels. Use the ones the network will meet; a few thousand are a start. Stop it
    whenever you like: the same command goes on from its last checkpoint and ends with the same weights.
    """
    existing_teacher(model)
    from bhpe_compile.distill.lesson import DistillOptions, Run
    from bhpe_compile.distill.record import CHECKPOINT
    from bhpe_compile.distill.student import distill
    from bhpe_compile.frontends.load import load_network
    from bhpe_compile.frontends.shapes import parse_shape
    from bhpe_compile.passes.binarize import BinarizeOptions, get_scheme

    place = make_place(values, output)
    loaded = load_network(model, network, dict(parse_shape(text) for text in shapes))
    lesson = lesson_for(loaded, pictures)
    check_own_boxes(lesson)
    recipe = make_recipe(values, lesson.weights)
    if loaded.binarization is not None:
        raise InputError(f"{model}: is binary already; the teacher must be the full-precision network")
    people, body = open_pictures(lesson, pictures, values, quiet)
    if label_weight and not hasattr(people, "labels"):
        raise UsageError(f"{pictures}: has no labels; leave out --label-weight")
    if consistency and not hasattr(people, "image"):
        raise UsageError(
            f"--consistency: {pictures} holds arrays, and only of pictures it is known what nobody sees; leave it out"
        )
    if not label_weight and was_given("own_boxes"):
        raise UsageError(
            "--own-boxes: without --label-weight all crops are where a network sees them; leave it out"
        )
    form, begun = BinarizeOptions(get_scheme(scheme), keep_float, residual_tap=residual_tap), None
    facts = {"data": fingerprint(people), "people": len(people), "teacher": sha256(model)}
    if start is not None:
        refuse_beside_from("scheme", "residual_tap")
        begun = open_start(start)
        kept = tuple(dict.fromkeys((*begun.options.keep_float, *keep_float)))
        form = replace(begun.options, keep_float=kept)
        facts["from"] = sha256(start / CHECKPOINT if start.is_dir() else start)
    options = DistillOptions(form, label_weight, own_boxes, rounding, begun, consistency, margin)
    described = [
        ("teacher", str(model)),
        ("pictures", f"{pictures} ({len(people)})"),
        ("output", str(output)),
        ("scheme", form.scheme.name),
        *([("keep float", ", ".join(form.keep_float))] if form.keep_float else []),
        *([("own boxes", f"{own_boxes:.0%} of the crops")] if label_weight and lesson.looks else []),
        *([("from", str(start))] if start else []),
        ("samples", f"{recipe.images} in {recipe.steps} steps of {recipe.batch}"),
        ("checkpoint", str(place.folder)),
    ]
    run_training(
        described,
        lambda tick, looking: distill(
            lesson, loaded.model, people, body, Run(recipe, place, output, facts, tick, looking), options
        ),
        place,
        f"{output.name}: {form.scheme.name}, taught by {model.name}",
        style=style,
        quiet=quiet,
    )


def existing_teacher(path: Path) -> None:
    """UsageError or InputError where `path` is neither a checkpoint nor an ONNX file."""
    from bhpe_compile.frontends.kinds import CHECKPOINT, ONNX, require_door

    require_door(existing_file(path, "model"), CHECKPOINT, ONNX)


def lesson_for(loaded: Imported, pictures: str) -> Lesson:
    """How a network learns from what --images names. UsageError where that says nothing of its inputs."""
    from bhpe_compile.distill.arrays import SUFFIX, ArraysLesson
    from bhpe_compile.distill.described import lesson_of

    if not pictures.endswith(SUFFIX):
        return lesson_of(loaded.network, loaded.preset, loaded.interface)
    if loaded.network.lesson is not None:
        raise UsageError(f"--images {pictures}: {loaded.spec} learns from pictures; name a folder of them")
    return ArraysLesson(loaded.network, loaded.preset, loaded.interface)


def refuse_beside_from(*names: str) -> None:
    """UsageError where one of these options is given beside --from, which says them."""
    for name in filter(was_given, names):
        option = name.replace("_", "-")
        raise UsageError(f"--{option} and --from: the network it goes on from says that; leave one out")


def open_start(path: Path) -> Start:
    """A student to go on from, from its file or the folder of its training.

    Raises UsageError (no such file, no checkpoint in the folder), InputError for what is damaged or no binary network.
    """
    from bhpe_compile.distill.lesson import Start
    from bhpe_compile.distill.record import read_checkpoint
    from bhpe_compile.frontends.checkpoint import load_model
    from bhpe_compile.passes.binarize import BinarizeOptions

    if path.is_dir():
        run = read_checkpoint(path)
        binarization, state, source = run["facts"].get("binarization"), run["network"], str(path)
    else:
        loaded = load_model(existing_file(path, "student"))
        binarization, state, source = loaded.binarization, loaded.state_dict, loaded.source
    if binarization is None:
        raise InputError(f"{path}: is in full precision; --from takes a binary network")
    return Start(state, source, BinarizeOptions.from_dict(binarization))


def open_pictures(
    lesson: Lesson, spec: str, values: dict[str, Any], quiet: bool
) -> tuple[Any, BodyModel | None]:
    """People with labels, a folder of any pictures, or arrays; and the body, where losses are computed with one."""
    from bhpe_compile.distill.arrays import ArraySet, ArraysLesson
    from bhpe_compile.distill.folder import Folder
    from bhpe_compile.evaluate.body import BodyModel
    from bhpe_compile.evaluate.data import SYNTH
    from bhpe_compile.evaluate.default_body import resolve_body

    if isinstance(lesson, ArraysLesson):
        return ArraySet(Path(spec), lesson.interface), None
    if spec == SYNTH or (Path(spec) / "manifest.json").is_file():
        return open_people(spec, values, quiet)
    return Folder(Path(spec)), BodyModel.load(resolve_body(values["body"])) if lesson.poses else None

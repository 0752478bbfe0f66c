"""What distillation brings networks that only their descriptions tell: tiny presets of SPIN and CLIFF, from nothing.

    python benchmarks/students.py --folder training/students [--networks spin cliff-r50] [--count 500] [--seed 0]
    python benchmarks/students.py --folder training/students --onnx hand.onnx --description hand.toml --part hands

For each network: people are drawn, a teacher is trained on them, its binary student is distilled on the same pictures
without their labels, compiled for this machine and verified. Then everybody answers for held-out pictures, and
`to_teacher` says how far, on average, each is from the teacher:

    untrained     the teacher as `--scheme bidrn` makes it binary, compiled without training
    mean          always answers the mean of the teacher's answers to these pictures
    distilled     the student

`to_labels` says the same of the labels (for `mean`, those of the teacher's answers). Teacher and student take about a
quarter of an hour of one core for both networks; every step can be stopped and goes on where it was.

An ONNX file (`--onnx`) is a teacher that somebody else trained. It and its student are shown hands or faces of the
drawn people (`--part`), cut out where the labels say, 1.9 times as wide as they are; `to_labels` is left out, because
the labels do not say what it answers.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Progress
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from bhpe_compile.cli.main import main as bhpe
from bhpe_compile.compiler.agreement import Movement, measure_agreement, to_json
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.distill.folder import Folder
from bhpe_compile.distill.views import person_box
from bhpe_compile.evaluate.data import SYNTH, open_people
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.files import write_atomically
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.frontends.imported import Imported
from bhpe_compile.frontends.load import load_network
from bhpe_compile.passes.binarize import RoundStorage
from bhpe_compile.runtime.picture import Picture, make_feeds

HERE = Path(__file__).parent
NETWORKS = ("spin", "cliff-r50")
PEOPLE, TEACHER, STUDENT = 3000, 64_000, 24_000
"""People who are drawn, and samples of each training."""

PARTS = {"hands": (0, 1), "faces": (2,)}
"""Which of a person's boxes show a part."""

AROUND, LEAST, CUT = 1.9, 24.0, (150, 200)
"""How many times as wide as its box a part is cut out, how many pixels of the drawing that are at least, and columns
and rows of the result."""

SIZES = ("--batch", "32", "--micro-batch", "32", "--workers", "0")
NEAR = 0.5
"""The part of the untrained student's distance from the teacher that a student has to be nearer than."""

Inputs = dict[str, NDArray[np.float32]]
Answers = Mapping[str, Movement]


class Always(nn.Module):
    """Answers the same, whatever it sees."""

    def __init__(self, answer: dict[str, Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *_: Tensor) -> dict[str, Tensor]:
        return self.answer


class InOrder(nn.Module):
    """Answers that are known, one after the other."""

    def __init__(self, answers: Sequence[dict[str, Tensor]]) -> None:
        super().__init__()
        self._answers = iter(answers)

    def forward(self, *_: Tensor) -> dict[str, Tensor]:
        return next(self._answers)


def as_compiled(loaded: Imported) -> nn.Module:
    """A network in torch, binary and rounded as its compiled library computes."""
    compilation = Compilation.of_loaded(loaded, CompileOptions(target="", scheme="bidrn"))
    rounding = compilation.rounding
    storage = RoundStorage(
        rounding.ranges, dense=rounding.ranges is not None, half=rounding.half, wide=rounding.wide
    )
    return storage(copy.deepcopy(compilation.graph)).graph.eval()


def answers(network: nn.Module, feeds: Sequence[Inputs]) -> list[dict[str, Tensor]]:
    """What a network says to each of `feeds`."""
    with torch.no_grad():
        return [network(*(torch.from_numpy(array) for array in feed.values())) for feed in feeds]


def mean_of(said: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of answers; of rotations, the rotation nearest to it."""
    means = {name: torch.stack([one[name] for one in said]).mean(0) for name in said[0]}
    for name, value in means.items():
        if value.shape[-2:] == (3, 3):
            left, _, right = torch.linalg.svd(value)
            turn = torch.det(left @ right)[..., None]
            means[name] = torch.cat((left[..., :2], left[..., 2:] * turn[..., None]), -1) @ right
    return means


def measure(loaded: Imported, student: Path, untrained: Path, people: Dataset, count: int) -> dict[str, Any]:
    """`to_teacher` and `to_labels`, for each who answers."""
    tell = Progress()
    port = loaded.interface.picture
    assert port is not None
    assert loaded.network.targets is not None
    pictures = [Picture(people.image(i), person_box()) for i in range(count)]
    feeds = [make_feeds(loaded.interface, picture) for picture in pictures]
    targets = [
        loaded.network.targets(people.labels(i), picture.seen_by(port)) for i, picture in enumerate(pictures)
    ]
    right = [{name: torch.from_numpy(value)[None] for name, value in one.items()} for one in targets]
    taught = answers(loaded.model, feeds)
    tell("teacher", 1.0)
    who: dict[str, list[dict[str, Tensor]]] = {
        "untrained": answers(as_compiled(load_model(untrained)), feeds),
        "mean": [mean_of(taught)] * count,
        "distilled": answers(as_compiled(load_model(student)), feeds),
    }
    tell("students", 1.0)

    def apart(first: Sequence[dict[str, Tensor]], second: Sequence[dict[str, Tensor]]) -> dict[str, Any]:
        found = measure_agreement(
            InOrder(first), InOrder(second), loaded.interface, iter(feeds), at_most=count
        )
        return to_json(found)

    return {
        "to_teacher": {name: apart(taught, said) for name, said in who.items()},
        "to_labels": {name: apart(right, said) for name, said in {**who, "teacher": taught}.items()},
    }


def learn(folder: Path, name: str, people: int, teacher: int, student: int) -> tuple[Path, Path]:
    """The teacher's file and the student's; what is finished is not done again."""
    data, model, binary = folder / "people", folder / f"{name}.pt", folder / f"{name}-student.pt"
    run("data", "synth", "--count", people, "--seed", 1, "--split", "train", "-o", data)
    if not model.exists():
        words = ("--network", f"{name}:tiny", "--data", data, "--samples", teacher, "--lr", 1.5e-3)
        run("train", *words, *SIZES, "-o", model)
    if not binary.exists():
        run("distill", model, "--images", data, "--samples", student, "--lr", 1.5e-3, *SIZES, "-o", binary)
    library = folder / f"{name}-student"
    run("compile", binary, "--target", "native", "-o", library, "--force")
    run("verify", library, "--model", binary)
    return model, binary


def cut(people: Dataset, part: str, folder: Path, count: int) -> Path:
    """Hands or faces of `people` as pictures in a folder, `count` of them; what is finished is not done again."""
    if folder.is_dir():
        return folder
    made = folder.with_name(f"{folder.name}.part")
    made.mkdir(parents=True, exist_ok=True)
    wanted = ((i, place) for i in range(len(people)) for place in PARTS[part])
    pictures = (picture for i, place in wanted if (picture := _cut(people, i, place)) is not None)
    for index, picture in enumerate(islice(pictures, count)):
        picture.save(made / f"{index:06}.png")
    return made.rename(folder)


def _cut(people: Dataset, index: int, place: int) -> Image.Image | None:
    """A part of a person, 3:4; None where it is too small or outside."""
    labels = people.labels(index)
    x0, y0, x1, y1 = labels.boxes[place].tolist()
    side, x, y = AROUND * max(x1 - x0, y1 - y0), (x0 + x1) / 2, (y0 + y1) / 2
    picture = Image.fromarray(people.image(index))
    if side < LEAST or not (0 < x < picture.width and 0 < y < picture.height):
        return None
    scale = side / CUT[0]
    affine = (scale, 0.0, x - scale * CUT[0] / 2, 0.0, scale, y - scale * CUT[1] / 2)
    return picture.transform(CUT, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)


def follow(file: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A student of an ONNX file, and `to_teacher` for each who answers."""
    folder: Path = options.folder
    run("data", "synth", "--count", options.people, "--seed", 1, "--split", "train", "-o", folder / "people")
    people = open_people(str(folder / "people"), options.people, 1, None).dataset
    pictures = cut(people, options.part, folder / options.part, 2 * len(people))
    binary = folder / f"{file.stem}-student.pt"
    words = (
        "--network",
        options.description,
        "--images",
        pictures,
        "--samples",
        options.student,
        "--lr",
        1.5e-3,
    )
    if not binary.exists():
        run("distill", file, *words, *SIZES, "-o", binary)
    library = folder / f"{file.stem}-student"
    run("compile", binary, "--target", "native", "-o", library, "--force")
    run("verify", library, "--model", binary)
    held_out = open_people(SYNTH, options.count, options.seed, None).dataset
    seen = Folder(cut(held_out, options.part, folder / f"{options.part}-{options.seed}", options.count))
    return {
        "pictures": len(seen),
        "seed": options.seed,
        "part": options.part,
        "samples": {"student": options.student},
        "to_teacher": from_teacher(file, options.description, binary, seen),
    }


def from_teacher(file: Path, description: Path, student: Path, seen: Folder) -> dict[str, Any]:
    """How far everybody is from an ONNX file on pictures, by kind of output."""
    loaded = load_network(file, str(description))
    feeds = [make_feeds(loaded.interface, Picture(seen.image(i), person_box())) for i in range(len(seen))]
    taught = answers(loaded.model, feeds)
    who = {
        "untrained": answers(as_compiled(load_network(file, str(description))), feeds),
        "mean": [mean_of(taught)] * len(feeds),
        "distilled": answers(as_compiled(load_model(student)), feeds),
    }

    def apart(said: Sequence[dict[str, Tensor]]) -> dict[str, Any]:
        at_most = len(feeds)
        return to_json(
            measure_agreement(InOrder(taught), InOrder(said), loaded.interface, iter(feeds), at_most=at_most)
        )

    return {name: apart(said) for name, said in who.items()}


def run(*words: object) -> None:
    """`bhpe-compile` with these words; SystemExit where it fails."""
    try:
        code = bhpe([str(word) for word in words])
    except SystemExit as error:
        code = error.code
    if code:
        raise SystemExit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--teacher", type=int, default=TEACHER, help="samples of its training")
    parser.add_argument("--student", type=int, default=STUDENT, help="samples of its distillation")
    parser.add_argument("--onnx", type=Path, help="an ONNX file, in place of --networks")
    parser.add_argument("--description", type=Path, help="its description, for --onnx")
    parser.add_argument("--part", choices=PARTS, default="hands", help="what --onnx is shown")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "students.json")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    before = json.loads(options.output.read_text()) if options.output.is_file() else {}
    found: dict[str, Any] = {}
    if options.onnx is not None:
        found[options.onnx.stem] = follow(options.onnx, options)
        print(table(options.onnx.stem, found[options.onnx.stem]))
    for name in options.networks if options.onnx is None else ():
        model, student = learn(options.folder, name, options.people, options.teacher, options.student)
        people = open_people(SYNTH, options.count, options.seed, None).dataset
        found[name] = {
            "pictures": options.count,
            "seed": options.seed,
            "people": options.people,
            "samples": {"teacher": options.teacher, "student": options.student},
            **measure(load_model(model), student, model, people, options.count),
        }
        print(table(name, found[name]))
    text = json.dumps({**before, **found}, indent=1, sort_keys=True)
    write_atomically(options.output, f"{text}\n".encode())
    far = [f"{name}: {kind}" for name, one in found.items() for kind in too_far(one)]
    if far:
        raise SystemExit(f"not nearer than {NEAR:g} of the untrained student's distance: {', '.join(far)}")


def too_far(one: Mapping[str, Any]) -> Iterator[str]:
    """Kinds of output in which the student is not near enough to its teacher."""
    untrained, distilled = one["to_teacher"]["untrained"], one["to_teacher"]["distilled"]
    yield from (kind for kind in untrained if distilled[kind]["value"] >= NEAR * untrained[kind]["value"])


def table(name: str, one: Mapping[str, Any]) -> str:
    """The figures of a network as Markdown."""
    lines = []
    for title, rows in (("teacher", one["to_teacher"]), ("labels", one.get("to_labels"))):
        if rows is None:
            continue
        kinds = list(next(iter(rows.values())))
        lines += [
            f"| {name}: distance from the {title} | {' | '.join(kinds)} |",
            "|---" * (len(kinds) + 1) + "|",
        ]
        for row, values in rows.items():
            cells = (f"{values[kind]['value']:.3g}" for kind in kinds)
            lines.append(f"| {row} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

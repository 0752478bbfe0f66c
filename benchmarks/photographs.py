"""Real photographs: how many joints of the shipped models lie where an independent network sees them.

    python benchmarks/photographs.py PHOTOGRAPHS --judge PYTHON [--models DIR] [--overlays DIR] [-o FILE]

PHOTOGRAPHS is a folder with the files of `PEOPLE`, which packages bring: messi5.jpg, basketball1.png, basketball2.png
and vtest.avi of Debian's opencv-doc, astronaut.png of scikit-image, bus.jpg of ultralytics. None of them is in this
repository, and none trained a model. PYTHON is the interpreter of an environment with mediapipe==0.10.21.

PCK@0.1: the share of joints that are at most a tenth of the body's size away from the judge's; the size is the larger
side of the box around the judge's joints. Twelve joints count (shoulders, elbows, wrists, hips, knees, ankles), those
of which the judge says that they are visible (over 0.5) and that lie in the photograph. The row `mean_pose` always
answers with the mean of drawn people's joints in their boxes: what a network must beat.

The people of `SMALL` are about a hundred pixels tall; they have a figure of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import facts, report
from numpy.typing import NDArray
from PIL import Image

import bhpe_compile
from bhpe_compile.compiler.compile import compile_model
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.evaluate.data import SYNTH, open_people
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.film import open_film
from bhpe_compile.runtime.model import Model
from bhpe_compile.runtime.overlay import draw_overlay
from bhpe_compile.runtime.picture import load_picture

HERE = Path(__file__).parent
DATA = Path(bhpe_compile.__file__).parent / "data"
JOINTS = tuple(
    f"{side}_{joint}"
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
)
VISIBLE = 0.5
NEAR = 0.1
LABEL_SIZE = (384, 512)
"""Width and height of the picture in whose pixels labels are told."""
ROWS = ("mean_pose", "full_precision", "bidrn")

Points = Mapping[str, Sequence[float]]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Person:
    """Somebody in a photograph; `frame` of a film. The box in pixels: x, y, width, height."""

    file: str
    box: tuple[int, int, int, int]
    frame: int | None = None

    @property
    def picture(self) -> str:
        """The name of the file that shows the person."""
        return self.file if self.frame is None else f"{Path(self.file).stem}-{self.frame}.png"


PEOPLE = (
    Person("messi5.jpg", (85, 60, 345, 300)),
    Person("basketball1.png", (30, 80, 175, 400)),
    Person("basketball2.png", (30, 80, 175, 400)),
    Person("astronaut.png", (15, 10, 440, 500)),
    Person("bus.jpg", (20, 390, 230, 520)),
    Person("bus.jpg", (215, 400, 135, 465)),
    Person("bus.jpg", (665, 390, 145, 490)),
    Person("vtest.avi", (250, 216, 34, 94), 0),
    Person("vtest.avi", (497, 154, 36, 80), 0),
    Person("vtest.avi", (636, 237, 50, 88), 0),
    Person("vtest.avi", (452, 300, 56, 121), 600),
    Person("vtest.avi", (640, 302, 33, 112), 600),
    Person("vtest.avi", (565, 197, 34, 93), 600),
    Person("vtest.avi", (283, 430, 50, 146), 600),
    Person("vtest.avi", (668, 205, 36, 95), 600),
    Person("vtest.avi", (187, 143, 30, 73), 600),
)
SMALL = "vtest.avi"


def lay_out(photographs: Path, folder: Path) -> list[Path]:
    """The picture of every person, frames of films as PNG in `folder`."""
    wanted = {person.frame for person in PEOPLE if person.frame is not None}
    with open_film(photographs / SMALL) as film:
        for frame in film:
            if frame.number in wanted:
                Image.fromarray(frame.rgb).save(folder / f"{Path(SMALL).stem}-{frame.number}.png")
            if frame.number >= max(wanted):
                break
    return [(photographs if person.frame is None else folder) / person.picture for person in PEOPLE]


def judged(python: Path, people: Sequence[tuple[Path, Sequence[float]]]) -> list[Points | None]:
    """What the judge sees of every person: a picture and a box in it."""
    done = subprocess.run(
        [python, HERE / "photographs_judge.py"],
        input=json.dumps([[str(path.absolute()), list(box)] for path, box in people]),
        env={
            name: value for name, value in os.environ.items() if name != "PYTHONPATH"
        },  # it has packages of its own
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"the judge failed:\n{done.stderr}")
    return list(json.loads(done.stdout))


def mean_joints(interface: Interface, count: int = 1000) -> Array:
    """[12, 2]: where the joints of drawn test people are in the network's picture on average, in shares of it."""
    assert interface.keypoints is not None  # the models of `ROWS` have them
    names = list(interface.keypoints.names)
    dataset = open_people(SYNTH, count, 0, None, lambda *_: None).dataset
    labels = np.stack([dataset.labels(index).keypoints[:, :2] for index in range(len(dataset))])
    mean = labels.mean(axis=0)[[names.index(joint) for joint in JOINTS]]
    return np.asarray((mean + 0.5) / LABEL_SIZE)


def distances(found: Array, seen: Points, rgb: NDArray[np.uint8]) -> Array:
    """How far joints [12, 2] are from the judge's, in sizes of the body; of those the judge sees in the picture."""
    places = np.array([seen[joint] for joint in JOINTS])
    height, width = rgb.shape[:2]
    inside = (places[:, :2] >= 0).all(axis=1) & (places[:, 0] < width) & (places[:, 1] < height)
    visible = inside & (places[:, 2] > VISIBLE)
    if not visible.any():
        return np.empty(0)
    size = np.ptp(places[visible, :2], axis=0).max()
    return np.asarray(np.linalg.norm(found - places[:, :2], axis=1)[visible] / size)


def figures(found: Sequence[Array]) -> dict[str, Any]:
    """PCK@0.1, and the median distance, over the joints of all people in `found`."""
    every = np.concatenate(found)
    return {
        "people": len(found),
        "joints": len(every),
        "pck": round(float((every <= NEAR).mean()), 3),
        "median": round(float(np.median(every)), 3),
    }


def compiled(models: Path, folder: Path) -> dict[str, Model]:
    """The rows' networks for this machine."""
    full, student = folder / "full", folder / "student"
    compile_model(models / "model.pt", full, CompileOptions("native", scheme="float"))
    compile_model(models / "model-bidrn.pt", student, CompileOptions("native"))
    return {"full_precision": Model(full), "bidrn": Model(student)}


def measure(photographs: Path, python: Path, models: Path, overlays: Path | None) -> dict[str, Any]:
    """Every person by every row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = lay_out(photographs, folder)
        seen = judged(python, [(path, one.box) for path, one in zip(pictures, PEOPLE, strict=True)])
        networks = compiled(models, folder)
        interface = networks["bidrn"].interface
        assert interface.picture is not None  # the models of `ROWS` take one
        mean = mean_joints(interface)
        rows, columns = interface.picture.size
        people: list[dict[str, Any]] = []
        apart: dict[str, list[Array]] = {row: [] for row in ROWS}
        judged_people = [one for one in zip(PEOPLE, pictures, seen, strict=True) if one[2] is not None]
        for index, (person, path, points) in enumerate(judged_people):
            assert points is not None  # left out above
            picture = load_picture(path, person.box)
            answers = {
                "mean_pose": picture.seen_by(interface.picture).to_picture(mean * (columns, rows) - 0.5)
            }
            for row, network in networks.items():
                outputs = network.run(picture.rgb, box=person.box)
                joints = network.joints()
                answers[row] = np.array([joints[joint] for joint in JOINTS])
                if overlays is not None:
                    overlays.mkdir(parents=True, exist_ok=True)
                    drawn = draw_overlay(picture, outputs, interface)
                    drawn.save(overlays / f"{index:02}-{path.stem}-{row}.png")
            found = {row: distances(answers[row], points, picture.rgb) for row in ROWS}
            for row in ROWS:
                apart[row].append(found[row])
            people.append(
                {
                    "photograph": person.picture,
                    "box": person.box,
                    "joints": len(found["bidrn"]),
                    **{row: round(float((found[row] <= NEAR).mean()), 3) for row in ROWS},
                }
            )
        for network in networks.values():
            network.close()
    small = [one[0].file == SMALL for one in judged_people]
    return {
        "judge": "MediaPipe 0.10.21, pose network of medium size",
        "pck_at": NEAR,
        "not_found_by_the_judge": [p.picture for p, s in zip(PEOPLE, seen, strict=True) if s is None],
        "rows": {row: figures(apart[row]) for row in ROWS},
        "large": {row: figures([d for d, s in zip(apart[row], small, strict=True) if not s]) for row in ROWS},
        "small": {row: figures([d for d, s in zip(apart[row], small, strict=True) if s]) for row in ROWS},
        "people": people,
        **facts(),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--judge", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--models", type=Path, default=DATA, metavar="DIR")
    parser.add_argument("--overlays", type=Path, metavar="DIR", help="draw what was found there")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "photographs.json")
    arguments = parser.parse_args()
    missing = sorted({p.file for p in PEOPLE if not (arguments.photographs / p.file).exists()})
    if missing:
        parser.error(
            f"{arguments.photographs} has no {', '.join(missing)}; see --help for where they come from"
        )
    found = measure(arguments.photographs, arguments.judge, arguments.models, arguments.overlays)
    report(found, arguments.output)


if __name__ == "__main__":
    main()

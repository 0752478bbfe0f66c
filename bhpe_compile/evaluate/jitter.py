"""How much a network's answer moves where the person does not.

A picture is changed by what nobody sees, and the answers before and after are compared, person by person:

    one_level    every value of every pixel by -1, 0 or 1 of 255, equally likely
    sigma3       by normal noise of deviation 3, rounded
    shift1       everything a pixel to the right and a pixel down
    jpeg90       stored as JPEG of quality 90
    film         the next frame of a film, in which the person moves a little

    mesh_mm      mean over the vertices of |v' - v|, both aligned at the pelvis; of a film |(v' - v) - (t' - t)|, t the
                 true ones: what the answer moves beyond the person
    joints_mm    the same of the joints that MPJPE compares
    box_px       mean over the corners of the boxes of |c' - c|, in pixels of 384x512, less what the picture moved

The noise of person i depends on (seed, i) alone: every row of a table sees the same.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bhpe_compile.errors import UsageError
from bhpe_compile.evaluate.dataset import Dataset, SynthDataset
from bhpe_compile.evaluate.evaluate import Batch, Examples, Tick
from bhpe_compile.evaluate.frame import network_inputs
from bhpe_compile.evaluate.metrics import BODY_JOINTS, PELVIS, Array, People, point_error
from bhpe_compile.evaluate.people import Bodies
from bhpe_compile.evaluate.subjects import Subject

Pictures = NDArray[np.uint8]

UNITS = {"mesh_mm": "mesh, mm", "joints_mm": "joints, mm", "box_px": "boxes, px"}
"""Quantity -> what it is, with its unit."""

FILM = "film"

MEANING = {
    "one_level": "noise of one level",
    "sigma3": "noise, deviation 3",
    "shift1": "a shift by a pixel",
    "jpeg90": "JPEG, quality 90",
    FILM: "the next frame",
}

STATISTICS: dict[str, Callable[[Array], float]] = {
    "median": lambda values: float(np.median(values)),
    "mean": lambda values: float(values.mean()),
    "p90": lambda values: float(np.percentile(values, 90)),
}

SHIFT = 1.0


def _one_level(picture: Pictures, rng: np.random.Generator) -> Pictures:
    return _added(picture, rng.integers(-1, 2, picture.shape))


def _sigma3(picture: Pictures, rng: np.random.Generator) -> Pictures:
    return _added(picture, np.rint(rng.normal(0, 3, picture.shape)))


def _added(picture: Pictures, noise: NDArray[Any]) -> Pictures:
    return np.asarray((picture + noise).clip(0, 255), np.uint8)


def _shift1(picture: Pictures, _: np.random.Generator) -> Pictures:
    """Rows and columns that come in repeat the border."""
    return np.pad(picture, ((1, 0), (1, 0), (0, 0)), "edge")[:-1, :-1]


def _jpeg90(picture: Pictures, _: np.random.Generator) -> Pictures:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=90)
    return np.asarray(Image.open(stream))


PERTURBATIONS: dict[str, Callable[[Pictures, np.random.Generator], Pictures]] = {
    "one_level": _one_level,
    "sigma3": _sigma3,
    "shift1": _shift1,
    "jpeg90": _jpeg90,
}

Moved = dict[str, dict[str, Array]]
"""Perturbation -> quantity -> one value a person, or a pair of frames."""


@dataclass(frozen=True)
class Jitter:
    """One subject's movements."""

    name: str
    moved: Moved

    @property
    def figure(self) -> float:
        """The median movement of the mesh under one level of noise, in millimetres."""
        return float(np.median(self.moved["one_level"]["mesh_mm"]))

    def figures(self) -> dict[str, dict[str, dict[str, float]]]:
        """Perturbation -> quantity -> median, mean and 90 %; a quantity that nobody has is left out."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for perturbation, quantities in self.moved.items():
            found[perturbation] = {}
            for name, values in quantities.items():
                known = values[np.isfinite(values)]
                if known.size:
                    found[perturbation][name] = {key: of(known) for key, of in STATISTICS.items()}
        return found


def perturbed(pictures: Pictures, first: int, name: str, seed: int) -> Pictures:
    """The pictures [N, H, W, 3] of people `first`, `first` + 1, ..., changed."""
    change, number = PERTURBATIONS[name], list(PERTURBATIONS).index(name)
    return np.stack(
        [
            change(picture, np.random.default_rng((seed, first + k, number)))
            for k, picture in enumerate(pictures)
        ]
    )


def jitter(
    subjects: Sequence[Subject],
    examples: Examples,
    films: Examples | None = None,
    seed: int = 0,
    tick: Tick = lambda _: None,
) -> list[Jitter]:
    """Every subject's movements: on changed pictures of `examples`, and between neighbouring frames of `films` (a set
    drawn with `--film`). Raises InputError where a network returns values that are no numbers."""
    parts: list[dict[str, list[dict[str, Array]]]] = [{} for _ in subjects]
    done = 0
    for batch in examples:
        for subject, mine in zip(subjects, parts, strict=True):
            still = _answer(subject, batch.pictures, examples.bodies)
            for name in PERTURBATIONS:
                changed = perturbed(batch.pictures, done, name, seed)
                answer = _answer(subject, changed, examples.bodies)
                by = SHIFT if name == "shift1" else 0.0
                mine.setdefault(name, []).append(_movement(still, answer, by=by))
        done += len(batch.pictures)
        tick(done)
    for film in _films(films):
        truth = film.truth
        for subject, mine in zip(subjects, parts, strict=True):
            assert films is not None
            answer = _answer(subject, film.pictures, films.bodies)
            mine.setdefault(FILM, []).append(_beyond(answer, truth))
        done += len(film.pictures)
        tick(done)
    return [
        Jitter(
            subject.name,
            {
                name: {key: np.concatenate([one[key] for one in found]) for key in UNITS}
                for name, found in mine.items()
            },
        )
        for subject, mine in zip(subjects, parts, strict=True)
    ]


def film_length(dataset: Dataset) -> int:
    """How many pictures of a set are one person's film; 1: it has no films."""
    return int(dataset.manifest.get(FILM, 1)) if isinstance(dataset, SynthDataset) else 1


def _films(films: Examples | None) -> Iterator[Batch]:
    """One batch a film. UsageError where the set holds none."""
    if films is None:
        return
    length = film_length(films.dataset)
    if length < 2 or films.size != length:
        raise UsageError(f"{films.dataset.name}: has no films; draw some with `data synth --film`")
    yield from (film for film in films if len(film.pictures) > 1)


def _answer(subject: Subject, pictures: Pictures, bodies: Bodies) -> People:
    outputs = subject.predict(network_inputs(subject.interface, pictures))
    return bodies.predicted(outputs, subject.interface, relative_hands=subject.relative_hands)


def _aligned(people: People) -> tuple[Array, Array]:
    """Vertices and joints [N, ..., 3] in float64, the pelvis at the origin."""
    joints = np.asarray(people.joints, np.float64)
    pelvis = joints[:, [PELVIS]]
    return np.asarray(people.vertices, np.float64) - pelvis, joints[:, BODY_JOINTS] - pelvis


def _movement(before: People, after: People, by: float = 0.0) -> dict[str, Array]:
    """From one answer to the other; the picture moved `by` pixels to the right and down."""
    (vertices, joints), (vertices_after, joints_after) = _aligned(before), _aligned(after)
    boxes = np.abs(np.asarray(after.boxes) - by - before.boxes).mean((1, 2))
    return {
        "mesh_mm": point_error(vertices_after, vertices),
        "joints_mm": point_error(joints_after, joints),
        "box_px": np.asarray(boxes, np.float64),
    }


def _beyond(answer: People, truth: People) -> dict[str, Array]:
    """From frame to frame, beyond what the person moved."""
    found, true = _aligned(answer), _aligned(truth)
    (mesh, joints) = (
        point_error(np.diff(one, axis=0), np.diff(other, axis=0))
        for one, other in zip(found, true, strict=True)
    )
    boxes = np.diff(np.asarray(answer.boxes, np.float64), axis=0) - np.diff(truth.boxes, axis=0)
    return {"mesh_mm": mesh, "joints_mm": joints, "box_px": np.abs(boxes).mean((1, 2))}

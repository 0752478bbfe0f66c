"""Subjects over a data set -> figures with intervals. Pictures pass in batches, all subjects looking at the same ones.

Memory is that of one batch: about 3 MB a person. What was measured is named by a hash of the very pixels and labels,
and by a hash of the body's file: figures of other data are never compared.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.dataset import LABEL_FIELDS, Dataset
from bhpe_compile.evaluate.frame import network_inputs
from bhpe_compile.evaluate.metrics import JITTER, METRICS, Errors, People, interval, mean, measure
from bhpe_compile.evaluate.people import Bodies
from bhpe_compile.evaluate.subjects import Subject
from bhpe_compile.files import sha256

BATCH = 8

Tick = Callable[[int], None]
"""Hears how many people are done."""


@dataclass(frozen=True)
class Batch:
    """Some people: pictures uint8 [N, 512, 384, 3] and the truth about them."""

    pictures: NDArray[np.uint8]
    truth: People


@dataclass(frozen=True)
class Row:
    """One subject's errors, person by person; `jitter` is the figure of that name, None where it was not measured."""

    name: str
    executed: str
    errors: Errors
    jitter: float | None = None

    def figures(self) -> dict[str, float]:
        """The mean of every metric that has one."""
        means = {name: mean(self.errors[name]) for name in METRICS}
        found = {name: value for name, value in means.items() if not math.isnan(value)}
        return found if self.jitter is None else {**found, JITTER.name: self.jitter}

    def interval(self, metric: str, seed: int) -> tuple[float, float]:
        """The bootstrap's 95 % interval of one mean."""
        return interval(self.errors[metric], seed)


@dataclass(frozen=True)
class Data:
    """What was measured on. `sha256` covers the pixels and labels, `body_sha256` the body's file."""

    name: str
    count: int
    sha256: str
    body: str
    body_sha256: str


@dataclass(frozen=True)
class Evaluation:
    """Rows over the same people."""

    data: Data
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of this name."""
        return next(row for row in self.rows if row.name == name)

    def to_json(self, seed: int = 0) -> dict[str, Any]:
        """Plain data: means and intervals by row."""
        rows = {}
        for row in self.rows:
            figures = row.figures()
            rows[row.name] = {
                "executed": row.executed,
                "figures": figures,
                "interval": {name: list(row.interval(name, seed)) for name in figures if name in METRICS},
            }
        return {"data": vars(self.data).copy(), "rows": rows, "order": [row.name for row in self.rows]}


@dataclass
class Examples:
    """The first `count` people of a set, batch by batch; `fingerprint` is complete after the last one."""

    dataset: Dataset
    bodies: Bodies
    count: int
    size: int = BATCH
    fingerprint: Any = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= len(self.dataset):
            raise UsageError(
                f"{self.dataset.name}: holds {len(self.dataset)} people, --count asks for {self.count}"
            )

    def __iter__(self) -> Iterator[Batch]:
        self.fingerprint = hashlib.sha256()
        for start in range(0, self.count, self.size):
            numbers = range(start, min(start + self.size, self.count))
            yield self._batch(numbers)

    def _batch(self, numbers: range) -> Batch:
        pictures = np.stack([self.dataset.image(i) for i in numbers])
        labels = [self.dataset.labels(i) for i in numbers]
        meshes = [self.dataset.vertices(i) for i in numbers]
        for picture, one, mesh in zip(pictures, labels, meshes, strict=True):
            self.fingerprint.update(picture.tobytes())
            for name in LABEL_FIELDS:
                self.fingerprint.update(np.ascontiguousarray(getattr(one, name)).tobytes())
            self.fingerprint.update(b"" if mesh is None else mesh.tobytes())
        return Batch(pictures, self.bodies.labelled(labels, meshes))

    def data(self) -> Data:
        """What these people are, once they have all been seen."""
        source = self.bodies.body.source
        return Data(self.dataset.name, self.count, self.fingerprint.hexdigest(), source.name, sha256(source))


def open_body(path: Path) -> Bodies:
    """The body to pose; InputError or UsageError where the file is none."""
    return Bodies(BodyModel.load(path))


def evaluate(subjects: Sequence[Subject], examples: Examples, tick: Tick = lambda _: None) -> Evaluation:
    """Every subject on every example. Raises InputError where a network returns values that are no numbers."""
    parts: list[list[Errors]] = [[] for _ in subjects]
    done = 0
    for batch in examples:
        for subject, errors in zip(subjects, parts, strict=True):
            errors.append(score(subject, batch, examples.bodies))
        done += len(batch.pictures)
        tick(done)
    rows = (
        Row(subject.name, subject.executed, join(errors))
        for subject, errors in zip(subjects, parts, strict=True)
    )
    return Evaluation(examples.data(), tuple(rows))


def score(subject: Subject, batch: Batch, bodies: Bodies) -> Errors:
    """One subject's errors on a few people."""
    outputs = subject.predict(network_inputs(subject.interface, batch.pictures))
    try:
        found = bodies.predicted(outputs, subject.interface, relative_hands=subject.relative_hands)
    except InputError as error:
        error.add_note(f"evaluating {subject.name}")
        raise
    return measure(found, batch.truth, bodies.regions)


def score_all(subject: Subject, batches: Iterable[Batch], bodies: Bodies) -> Errors:
    """One subject's errors on all batches."""
    return join([score(subject, batch, bodies) for batch in batches])


def join(parts: Sequence[Errors]) -> Errors:
    """Errors of several batches, one behind the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}

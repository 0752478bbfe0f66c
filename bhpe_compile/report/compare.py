"""Two or more networks beside each other: checkpoints and artefacts, in any mixture; the first is the reference.

A checkpoint is the network it holds (its file's bytes, 4 a weight); an artefact is what it holds (the bytes a board
needs). Operations follow the paper's count. Latency is measured in one run, all artefacts in turn in every round;
ratios are ratios of medians. Accuracy is read from results that lie beside them, never computed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.reading import read_json
from bhpe_compile.report.artifact import read_artifact
from bhpe_compile.report.cost import BINARY, Costs, Layer
from bhpe_compile.report.figures import render_bytes, render_count

ACCURACY = "accuracy.json"


@dataclass(frozen=True)
class Subject:
    """One side. `letter` is A, B, C, ...; `nbytes` the checkpoint's file, or model.so and weights.bin.

    `target` is "" for a checkpoint, `products` how 8-bit weights are multiplied, in words ("" without any); `latency`
    {median_ms, fastest_ms, p90_ms} or None; `accuracy` values by metric.
    """

    letter: str
    path: Path
    source: str
    target: str
    costs: Costs
    nbytes: int
    latency: Mapping[str, Any] | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)
    products: str = ""

    @property
    def name(self) -> str:
        """Its letter and the last part of its path."""
        return f"{self.letter} {self.path.resolve().name}"

    @property
    def operations(self) -> float:
        """The paper's count."""
        return self.costs.operations().paper

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "letter": self.letter,
            "path": str(self.path),
            "source": self.source,
            "target": self.target or None,
            "products": self.products or None,
            "scheme": self.costs.scheme,
            "weights": self.costs.weights(),
            "macs": self.costs.macs(),
            "operations": self.costs.operations().to_json(),
            "bytes": self.nbytes,
            "layer_bytes": self.costs.layer_bytes,
            "latency": None if self.latency is None else dict(self.latency),
            "accuracy": dict(self.accuracy),
        }


@dataclass(frozen=True)
class Change:
    """A layer that is not the same in every subject; None where a subject has no such layer."""

    name: str
    layers: tuple[Layer | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Precision, bytes and kernels of each side."""
        sides = [
            None
            if layer is None
            else {"precision": layer.precision, "bytes": layer.nbytes, "kernels": list(layer.kernels)}
            for layer in self.layers
        ]
        return {"layer": self.name, "sides": sides}


@dataclass(frozen=True)
class Limits:
    """What a candidate may cost: bytes, operations by the paper's count, median over the reference's median."""

    nbytes: float | None = None
    operations: float | None = None
    latency_ratio: float | None = None


@dataclass(frozen=True)
class Comparison:
    """The subjects, the layers that differ, and the limits that were missed, a line each."""

    subjects: tuple[Subject, ...]
    changes: tuple[Change, ...]
    same: int
    missed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data; ratios are to the first subject."""
        first = self.subjects[0]
        return {
            "subjects": [subject.to_json() for subject in self.subjects],
            "ratios": [ratios(subject, first) for subject in self.subjects[1:]],
            "changes": [change.to_json() for change in self.changes],
            "unchanged_layers": self.same,
            "missed": list(self.missed),
        }


def read_subject(
    path: Path,
    letter: str,
    accuracy: Path | None = None,
    row: str | None = None,
    network: str | None = None,
) -> Subject:
    """Read a checkpoint or an artefact; `accuracy` is a result file of `eval`, by default the one beside it.

    row: which row of that file. network: what the checkpoint holds. Raises what `load_model` and `read_artifact` raise,
    and InputError for a damaged result file.
    """
    measured = accuracy_of(path, accuracy, row)
    if path.is_dir():
        artifact = read_artifact(path)
        return Subject(
            letter,
            path,
            "artefact",
            artifact.target,
            artifact.costs,
            artifact.device_bytes,
            accuracy=measured,
            products=artifact.products,
        )
    from bhpe_compile.frontends.checkpoint import load_model
    from bhpe_compile.report.count import count
    from bhpe_compile.report.predict import trained_binary

    loaded = load_model(path, network)
    counted = count(loaded.network, loaded.preset, loaded.interface)
    costs = counted.costs
    if loaded.binarization is not None:
        scheme, binary = trained_binary(counted, loaded.binarization)
        layers = (replace(one, precision=BINARY) if one.name in binary else one for one in costs.layers)
        costs = replace(costs, layers=tuple(layers), scheme=scheme)
    return Subject(letter, path, "checkpoint", "", costs, path.stat().st_size, accuracy=measured)


def accuracy_of(path: Path, accuracy: Path | None, row: str | None) -> dict[str, float]:
    """Values by metric of the result file `accuracy`, by default the one beside `path`. Raises as `read_accuracy`."""
    return read_accuracy(accuracy or _beside(path), row)


def _beside(path: Path) -> Path | None:
    """The result file of `eval` where it is looked for: in an artefact, or named after a checkpoint."""
    places = (
        [path / ACCURACY]
        if path.is_dir()
        else [path.with_name(f"{path.name}.{ACCURACY}"), path.with_suffix(f".{ACCURACY}")]
    )
    return next((place for place in places if place.is_file()), None)


def read_accuracy(file: Path | None, row: str | None = None) -> dict[str, float]:
    """Values by metric of a result file; {} without a file, UsageError or InputError for a useless one.

    Read are {"metrics": {name: {"value": number}}}, and {"rows": {row: {"figures": {name: number}}}} of one row,
    or of the row that is named.
    """
    if file is None:
        return {}
    try:
        content = read_json(file, finite=False)
        if "metrics" in content:
            values = {str(name): float(entry["value"]) for name, entry in content["metrics"].items()}
        else:
            figures = _row(file, content["rows"], row)["figures"]
            values = {str(name): float(value) for name, value in figures.items() if value is not None}
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f'{file}: is no result of eval ({{"metrics": {{name: {{"value": number}}}}}}); run eval again'
        ) from None
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _row(file: Path, rows: Mapping[str, Any], row: str | None) -> Any:
    if row is None and len(rows) > 1:
        raise InputError(f"{file}: holds several rows: {', '.join(rows)}; name one, LETTER=FILE:ROW")
    if row is not None and row not in rows:
        raise InputError(f"{file}: has no row {row}; there are {', '.join(rows)}")
    return rows[row] if row is not None else next(iter(rows.values()))


def compare(subjects: Sequence[Subject], limits: Limits | None = None) -> Comparison:
    """Compare subjects, and check every one but the first against `limits`."""
    names = dict.fromkeys(layer.name for subject in subjects for layer in subject.costs.layers)
    tables = [{layer.name: layer for layer in subject.costs.layers} for subject in subjects]
    rows = [Change(name, tuple(table.get(name) for table in tables)) for name in names]
    changes = tuple(row for row in rows if len({_state(layer) for layer in row.layers}) > 1)
    missed = check(subjects, limits or Limits())
    return Comparison(tuple(subjects), changes, len(rows) - len(changes), missed)


def _state(layer: Layer | None) -> tuple[object, ...] | None:
    return None if layer is None else (layer.precision, layer.nbytes, layer.kernels)


def ratios(subject: Subject, reference: Subject) -> dict[str, Any]:
    """What `subject` is of `reference`; None where one of them has no such figure."""

    def over(value: float | None, other: float | None) -> float | None:
        return value / other if value is not None and other else None

    return {
        "letter": subject.letter,
        "weights": over(sum(subject.costs.weights().values()), sum(reference.costs.weights().values())),
        "operations": over(subject.operations, reference.operations),
        "bytes": over(subject.nbytes, reference.nbytes),
        "latency": over(median(subject), median(reference)),
        "accuracy": {
            name: over(value, reference.accuracy.get(name)) for name, value in subject.accuracy.items()
        },
    }


def median(subject: Subject) -> float | None:
    """Its measured median in milliseconds, if there is one."""
    return None if subject.latency is None else float(subject.latency["median_ms"])


def check(subjects: Sequence[Subject], limits: Limits) -> tuple[str, ...]:
    """A line for every limit that a subject misses, with its value, the limit and the reference's value.

    UsageError when a ratio of latencies is limited and one of them was not measured.
    """
    first, *others = subjects
    missed = []
    for one in others:
        if limits.nbytes is not None and one.nbytes > limits.nbytes:
            missed.append(_line(one, first, "--max-size", limits.nbytes, "nbytes", render_bytes))
        if limits.operations is not None and one.operations > limits.operations:
            missed.append(_line(one, first, "--max-ops", limits.operations, "operations", render_count))
        if limits.latency_ratio is not None:
            mine, reference = median(one), median(first)
            if mine is None or not reference:
                raise UsageError(
                    f"--max-latency-ratio: {(one if mine is None else first).name} was not measured; it needs "
                    "--measure and artefacts that run here"
                )
            if mine / reference > limits.latency_ratio:
                missed.append(
                    f"{one.name}: takes {mine / reference:.3f} times as long as {first.name} "
                    f"({mine:.3f} ms, {reference:.3f} ms), more than --max-latency-ratio {limits.latency_ratio:g}"
                )
    return tuple(missed)


def _line(one: Subject, first: Subject, flag: str, limit: float, what: str, show: Any) -> str:
    value, reference = getattr(one, what), getattr(first, what)
    noun = "bytes" if what == "nbytes" else "operations by the paper's count"
    return (
        f"{one.name}: {show(value)} ({value:.0f} {noun}) is more than {flag} {show(limit)} ({limit:.0f}); "
        f"{first.name} has {show(reference)}"
    )

"""A comparison as tables."""

from __future__ import annotations

from collections.abc import Callable

from bhpe_compile.report.compare import Change, Comparison, Subject, median
from bhpe_compile.report.cost import BINARY, FLOAT16, FLOAT32, INT8, Layer
from bhpe_compile.report.figures import SIZES, TIMES, render_bytes, render_count, render_ratio
from bhpe_compile.report.tables import NO_SPEED, PRECISION_NAMES, Table

FEW = 10
"""Rows of a table that are shown unless all are asked for."""


def compare_summary(comparison: Comparison) -> Table:
    """A column for each subject, with its ratio to the first behind it."""
    subjects = comparison.subjects
    first = subjects[0]
    header = ["", first.name]
    for one in subjects[1:]:
        header += [one.name, f"{one.letter} beside {first.letter}"]
    rows: list[tuple[str, ...]] = []

    def add(
        label: str,
        value: Callable[[Subject], float | None],
        show: Callable[[float], str],
        is_called: tuple[str, str] = SIZES,
    ) -> None:
        values = [value(one) for one in subjects]
        if all(found is None for found in values):
            return
        cells = [label, _shown(values[0], show)]
        for found in values[1:]:
            both = found is not None and values[0]
            ratio = render_ratio(found or 0, values[0] or 0, is_called) if both else "-"
            cells += [_shown(found, show), ratio]
        rows.append(tuple(cells))

    def words(label: str, value: Callable[[Subject], str]) -> None:
        cells = [label, value(first)]
        for one in subjects[1:]:
            cells += [value(one), ""]
        rows.append(tuple(cells))

    words("what", lambda one: one.source)
    words("target", lambda one: one.target or "-")
    words("scheme", lambda one: one.costs.scheme)
    if any(one.products for one in subjects):
        words("8-bit products by", lambda one: one.products or "-")
    add("weights", lambda one: sum(one.costs.weights().values()), render_count)
    for precision in (BINARY, INT8, FLOAT16, FLOAT32):
        add(f"  {PRECISION_NAMES[precision]}", _weights_of(precision), render_count)
    add("operations, paper", lambda one: one.operations, render_count)
    add("bit operations", lambda one: one.costs.operations().bit_operations, render_count)
    add("bytes", lambda one: one.nbytes, render_bytes)
    add("latency, median", median, lambda ms: f"{ms:.3f} ms", TIMES)
    for metric in dict.fromkeys(name for one in subjects for name in one.accuracy):
        add(f"accuracy: {metric}", _metric_of(metric), lambda value: f"{value:.4g}")
    note = f"Bytes: the model's file, or model.so and weights.bin. {NO_SPEED}"
    return Table("Summary", tuple(header), tuple(rows), tuple(range(1, len(header))), note)


def _weights_of(precision: str) -> Callable[[Subject], float | None]:
    return lambda one: one.costs.weights()[precision] or None


def _metric_of(metric: str) -> Callable[[Subject], float | None]:
    return lambda one: one.accuracy.get(metric)


def _shown(value: float | None, show: Callable[[float], str]) -> str:
    return "-" if value is None else show(value)


def changes(comparison: Comparison, most: int | None = FEW) -> Table:
    """The layers that differ, with what each side makes of them; the `most` whose bytes differ most (None: all, in the
    network's order)."""
    header = ["layer"]
    for one in comparison.subjects:
        header += [f"{one.letter} precision", f"{one.letter} bytes"]
        header += [f"{one.letter} computed by"] if one.source == "artefact" else []
    listed = list(comparison.changes)
    if most is not None and len(listed) > most:
        listed = sorted(listed, key=_spread, reverse=True)[:most]
    rows = []
    for change in listed:
        cells = [change.name]
        for layer, one in zip(change.layers, comparison.subjects, strict=True):
            cells += _side(layer, one)
        rows.append(tuple(cells))
    right = tuple(index for index, title in enumerate(header) if title.endswith(" bytes"))
    note = f"{comparison.same} layers are the same."
    if len(listed) < len(comparison.changes):
        note = (
            f"The {len(listed)} of {len(comparison.changes)} layers that differ whose bytes differ most; --all lists "
            f"the others, too. {note}"
        )
    return Table("Layer by layer", tuple(header), tuple(rows), right, note)


def _spread(change: Change) -> int:
    sizes = [0 if layer is None else layer.nbytes for layer in change.layers]
    return max(sizes) - min(sizes)


def _side(layer: Layer | None, subject: Subject) -> list[str]:
    """A checkpoint has no kernels to name."""
    cells = ["-", "-"] if layer is None else [PRECISION_NAMES[layer.precision], render_bytes(layer.nbytes)]
    kernels = () if layer is None else layer.kernels
    return [*cells, " + ".join(kernels) or "-"] if subject.source == "artefact" else cells


def compare_tables(comparison: Comparison, *, everything: bool = False) -> list[Table]:
    """The tables in the order they are read; `everything`: with every layer that differs."""
    return [compare_summary(comparison), changes(comparison, None if everything else FEW)]

"""Reports as one HTML file: no network, no fonts, no libraries; a policy in the page allows our script, nothing else.

Names in a model are not trusted: the templates escape everything, and the drawings are built from escaped parts.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

from bhpe_compile import __version__
from bhpe_compile.report import tables
from bhpe_compile.report.chart import Series, bars
from bhpe_compile.report.compare import Change, Comparison, Subject
from bhpe_compile.report.compare_tables import compare_summary
from bhpe_compile.report.cost import BINARY, Layer
from bhpe_compile.report.figures import TIMES, render_bytes, render_count, render_ratio, render_share
from bhpe_compile.report.report import Report
from bhpe_compile.report.tables import PRECISION_NAMES, Table, stage_operations
from bhpe_compile.text import to_utf8

MOST_BYTES = 2_000_000
"""A page stays below this; an overlay that would make it larger is left out."""

TEMPLATES = files("bhpe_compile.report") / "templates"


@dataclass(frozen=True)
class Cell:
    """Text, and what it sorts by."""

    text: str
    key: float | str


@dataclass(frozen=True)
class Column:
    """A heading; `number` columns are aligned right and sort by size, largest first."""

    title: str
    number: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table that sorts and filters; `facets` are the values of the page's choosers."""

    cells: tuple[Cell, ...]
    facets: Mapping[str, str]


@dataclass(frozen=True)
class Card:
    """One figure of the summary, what it is, and what it was."""

    label: str
    value: str
    detail: str
    tone: str = ""


@cache
def _environment() -> jinja2.Environment:
    def load(name: str) -> str:
        return (TEMPLATES / name).read_text(encoding="utf-8")

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _page(template: str, **facts: Any) -> str:
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            script=script,
            style=style,
            script_hash=digest,
            version=__version__,
            no_speed=tables.NO_SPEED,
            **facts,
        )
    )


def report_page(report: Report, overlay: bytes | None = None, *, everything: bool = False) -> str:
    """The page of one report; `overlay` is a PNG of the pose on a picture. everything: with all advice."""

    def render(picture: bytes | None) -> str:
        encoded = base64.b64encode(picture).decode() if picture else ""
        return _page(
            "report.html.j2",
            title=report.name,
            subtitle=_subtitle(report),
            cards=_cards(report),
            summary=tables.summary(report),
            published=tables.published(report),
            agreement=tables.agreement(report),
            stages=tables.stages(report),
            charts=_charts(report),
            series=("original, float32", tables.after_word(report)),
            advice=tables.advice(report, longest=None, everything=everything),
            columns=_layer_columns(report),
            rows=[_layer_row(layer, _measured(report)) for layer in report.after.layers],
            facets=_facets([layer.to_json() for layer in report.after.layers], ("stage", "precision")),
            files=tables.files(report),
            passes=_passes(report.notes),
            verification=_verification(report.verification),
            overlay=encoded,
            overlay_left_out=overlay is not None and picture is None,
        )

    page = render(overlay)
    return page if overlay is None or len(to_utf8(page)) <= MOST_BYTES else render(None)


def _subtitle(report: Report) -> str:
    words = [report.source]
    words += [f"preset {report.preset}"] if report.preset and report.source != "preset" else []
    words += [f"scheme {report.after.scheme}", f"target {report.target}"]
    return ", ".join(words)


def _cards(report: Report) -> list[Card]:
    after, before = report.after, report.before
    weights, macs = after.weights(), after.macs()
    size = report.after.layer_bytes if report.device_bytes is None else report.device_bytes
    label = "bytes of weights, predicted" if report.predicted else "bytes on the device"
    new, old = after.operations(), before.operations()
    cards = [
        Card(label, render_bytes(size), f"{render_bytes(report.before_bytes)} in float32"),
        Card(
            "operations, paper's count",
            render_count(new.paper),
            f"{render_count(old.paper)} before; a count, not a speed",
        ),
        Card(
            "binary weights",
            render_share(weights[BINARY], sum(weights.values())),
            f"of {render_count(sum(weights.values()))}; {render_share(macs[BINARY], sum(macs.values()))} of the MACs",
        ),
    ]
    if report.untrained:
        moved = report.agreement.get("joints")
        detail = (
            f"joints move by {moved['value']:.3g} {moved['unit']}" if moved else "see Against full precision"
        )
        cards.append(Card("accuracy", "lost", f"not trained in its binary form; {detail}", "bad"))
    if report.memory:
        working = report.memory.get("arena", 0) + report.memory.get("workspace", 0)
        cards.append(Card("activation memory", render_bytes(working), "arena and workspace, planned"))
    if report.latency is not None:
        threads = report.latency["threads"]
        detail = f"median of {report.latency['rounds']} runs, {threads} thread{'s' if threads > 1 else ''}"
        cards.append(
            Card(
                "measured latency",
                f"{report.latency['median_ms']:.2f} ms",
                f"{detail}; {report.latency['cpu']}",
            )
        )
    if report.verification is not None:
        ok = bool(report.verification.get("ok"))
        cards.append(
            Card("verified", "yes" if ok else "NO", _executed(report.verification), "good" if ok else "bad")
        )
    return cards


def _executed(verification: Mapping[str, Any]) -> str:
    return f"executed {verification.get('executed', '?')}"


def _charts(report: Report) -> list[tuple[str, Any]]:
    labels = ("original", tables.after_word(report))
    old, new = report.before, report.after
    charts: list[tuple[str, Any]] = []
    for title, before, after, show in (
        (
            "Bytes of weights",
            old.by_stage(lambda x: x.nbytes),
            new.by_stage(lambda x: x.nbytes),
            render_bytes,
        ),
        ("Operations, paper's count", stage_operations(old), stage_operations(new), render_count),
    ):
        series = [Series(labels[0], before), Series(labels[1], after)]
        charts.append((title, bars(title, series, show)))
    if _measured(report):
        series = [Series("original", {}), Series("compiled", new.by_stage(lambda x: x.ms or 0.0))]
        title = "Measured milliseconds, compiled"
        charts.append((title, bars(title, series, lambda ms: f"{ms:.2f} ms")))
    return charts


def _measured(report: Report) -> bool:
    return any(layer.ms is not None for layer in report.after.layers)


def _layer_columns(report: Report) -> list[Column]:
    words = [Column("layer"), Column("stage"), Column("precision"), Column("computed by")]
    numbers = ["weights", "MACs", "bytes", "activations", *(["ms"] if _measured(report) else [])]
    return [*words, *(Column(title, number=True) for title in numbers)]


def _layer_row(layer: Layer, measured: bool) -> Row:
    precision = PRECISION_NAMES[layer.precision]
    words = [layer.name, layer.stage, precision, " + ".join(layer.kernels) or layer.kind]
    cells = [Cell(word, word.lower()) for word in words]
    for value, show in (
        (layer.weights, render_count),
        (layer.macs, render_count),
        (layer.nbytes, render_bytes),
        (layer.traffic, render_bytes),
    ):
        cells.append(Cell(show(value), value))
    if measured:
        cells.append(Cell("-", -1) if layer.ms is None else Cell(f"{layer.ms:.3f}", layer.ms))
    return Row(tuple(cells), {"stage": layer.stage, "precision": layer.precision})


def _facets(facts: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """(value, shown) of each chooser, in order of first use."""
    return {
        name: [(v, PRECISION_NAMES.get(v, v)) for v in dict.fromkeys(str(one[name]) for one in facts)]
        for name in names
    }


def _passes(notes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Decisions by pass, in the order in which passes ran."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for note in notes:
        groups.setdefault(str(note.get("pass_name", "?")), []).append(note)
    return [
        {
            "name": name,
            "applied": sum(bool(note.get("applied")) for note in found),
            "refused": sum(not note.get("applied") for note in found),
            "notes": [
                (str(n.get("site", "")), bool(n.get("applied")), str(n.get("reason", ""))) for n in found
            ],
        }
        for name, found in groups.items()
    ]


def _verification(result: Mapping[str, Any] | None) -> Table | None:
    """The lines of `verify`, from what it prints as JSON; unknown fields are left out."""
    if result is None:
        return None
    labels = {
        "executed": "executed",
        "binary_layers": "binary layers",
        "binary_exact": "binary layers exact",
        "int8_layers": "8-bit layers",
        "int8_exact": "8-bit layers exact",
        "equal": "equal to the bit",
        "differing": "signs and levels that differ",
        "values": "of signs and levels",
        "max_abs_error": "largest difference of an output",
        "first_difference": "first difference",
    }
    rows = [
        (label, _plain(result[field])) for field, label in labels.items() if result.get(field) is not None
    ]
    title = "Verified" if result.get("ok") else "NOT verified"
    return Table(title, ("", "found"), tuple(rows), (1,), "Compared with model.onnx in ONNX Runtime.")


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.2e}" if isinstance(value, float) else str(value)


def compare_page(comparison: Comparison) -> str:
    """The page of a comparison."""
    subjects = comparison.subjects
    names = [one.path.resolve().name for one in subjects]
    return _page(
        "compare.html.j2",
        title=f"{names[0]} against {', '.join(names[1:])}",
        subtitle="; ".join(_who(one) for one in subjects),
        cards=[card for one in subjects[1:] for card in _ratio_cards(one, subjects[0])],
        summary=compare_summary(comparison),
        charts=_compare_charts(subjects),
        series=[one.name for one in subjects],
        columns=_change_columns(subjects),
        rows=[_change_row(change, subjects) for change in comparison.changes],
        facets=_facets([_change_facets(change) for change in comparison.changes], ("stage", "precision")),
        same=comparison.same,
        missed=comparison.missed,
    )


def _who(subject: Subject) -> str:
    return f"{subject.name}: {subject.source}{f' for {subject.target}' if subject.target else ''}"


def _ratio_cards(one: Subject, first: Subject) -> list[Card]:
    pair = f"{one.letter} beside {first.letter}"
    cards = [
        Card(
            f"bytes, {pair}",
            render_ratio(one.nbytes, first.nbytes),
            f"{render_bytes(one.nbytes)} and {render_bytes(first.nbytes)}",
        ),
        Card(
            f"operations, {pair}",
            render_ratio(one.operations, first.operations),
            f"{render_count(one.operations)} and {render_count(first.operations)}; counts, not speed",
        ),
    ]
    if one.latency and first.latency:
        mine, other = one.latency["median_ms"], first.latency["median_ms"]
        detail = f"{mine:.2f} ms and {other:.2f} ms, medians in one run"
        cards.append(Card(f"latency, {pair}", render_ratio(mine, other, TIMES), detail))
    return cards


def _compare_charts(subjects: Sequence[Subject]) -> list[tuple[str, Any]]:
    sizes = [Series(one.name, one.costs.by_stage(lambda x: x.nbytes)) for one in subjects]
    counts = [Series(one.name, stage_operations(one.costs)) for one in subjects]
    return [
        ("Bytes of weights", bars("Bytes of weights", sizes, render_bytes)),
        ("Operations, paper's count", bars("Operations, paper's count", counts, render_count)),
    ]


def _change_columns(subjects: Sequence[Subject]) -> list[Column]:
    columns = [Column("layer")]
    for one in subjects:
        columns += [Column(f"{one.letter} precision"), Column(f"{one.letter} bytes", number=True)]
        columns += [Column(f"{one.letter} computed by")] if one.source == "artefact" else []
    return columns


def _change_row(change: Change, subjects: Sequence[Subject]) -> Row:
    cells = [Cell(change.name, change.name.lower())]
    for layer, one in zip(change.layers, subjects, strict=True):
        precision = "-" if layer is None else PRECISION_NAMES[layer.precision]
        kernels = (" + ".join(layer.kernels) if layer is not None else "") or "-"
        size = Cell("-", -1) if layer is None else Cell(render_bytes(layer.nbytes), layer.nbytes)
        cells += [Cell(precision, precision), size]
        cells += [Cell(kernels, kernels.lower())] if one.source == "artefact" else []
    return Row(tuple(cells), _change_facets(change))


def _change_facets(change: Change) -> dict[str, str]:
    last = next(layer for layer in reversed(change.layers) if layer is not None)
    return {"stage": last.stage, "precision": last.precision}

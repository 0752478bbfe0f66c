"""A report as tables: what the terminal, Markdown and HTML show, made once. CSV has the layers as plain numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from bhpe_compile.report.advice import CHEAPER
from bhpe_compile.report.cost import BINARY, FLOAT16, FLOAT32, INT8, Costs, paper_operations
from bhpe_compile.report.figures import (
    escape_markdown,
    render_bytes,
    render_count,
    render_markdown,
    render_ratio,
    render_share,
)
from bhpe_compile.report.report import Report

NO_SPEED = "Operations are counts by convention, not a time; only latency is measured."

LONGEST_ADVICE = 8
"""Lines of one kind of advice that a table shows; JSON has all."""

FOR_DEPLOYERS = frozenset({CHEAPER})
"""Kinds of advice that an option of `compile` follows; the others are for those who design the network."""

PRECISION_NAMES = {BINARY: "binary", INT8: "8-bit", FLOAT16: "float16", FLOAT32: "float32"}


@dataclass(frozen=True)
class Table:
    """Cells as text; `right` are the columns of numbers; `note` is a sentence below."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()
    note: str = ""


def markdown(table: Table) -> str:
    """The table for Markdown, its title above and its note below."""
    parts = [
        f"### {escape_markdown(table.title)}" if table.title else "",
        render_markdown(table.header, table.rows, table.right) if table.rows else "",
        table.note,
    ]
    return "\n\n".join(part for part in parts if part)


def summary(report: Report) -> Table:
    """The network before and after, side by side."""
    before, after = report.before, report.after
    old, new = before.operations(), after.operations()
    rows: list[tuple[str, ...]] = []

    def add(label: str, first: float | None, second: float | None, show: str = "count") -> None:
        render = render_bytes if show == "bytes" else render_count
        cells = ["-" if value is None else render(value) for value in (first, second)]
        ratio = render_ratio(second, first) if first and second is not None else "-"
        rows.append((label, *cells, ratio))

    if report.paper is not None:
        one, two = report.paper.original, report.paper.compiled
        add("parameters", one.params_total, two.params_total)
        if report.paper.unused:
            add("  never used", sum(report.paper.unused.values()), None)
    else:
        add("weights", sum(before.weights().values()), sum(after.weights().values()))
    weights, old_weights = after.weights(), before.weights()
    for precision in (BINARY, INT8, FLOAT16, FLOAT32):
        if weights[precision] or old_weights[precision]:
            label = f"  {PRECISION_NAMES[precision]} weights"
            add(label, old_weights[precision] or None, weights[precision] or None)
    add("multiply-accumulates", sum(before.macs().values()), sum(after.macs().values()))
    add("  1-bit", old.macs_1bit or None, new.macs_1bit or None)
    add("  8-bit", old.macs_8bit or None, new.macs_8bit or None)
    if report.products:
        rows.append(("  8-bit products by", "-", report.products, "-"))
    add("  float", old.macs_float or None, new.macs_float or None)
    add("bit operations", old.bit_operations, new.bit_operations)
    if report.paper is not None:
        rows.append(_paper("parameters, paper", one.params_paper_m, two.params_paper_m, "M"))
        rows.append(_paper("operations, paper", one.ops_paper_g, two.ops_paper_g, "G"))
    else:
        add("operations, paper", old.paper, new.paper)
    if report.predicted:
        add("bytes, predicted", report.before_bytes, after.layer_bytes, "bytes")
    else:
        add("bytes on the device", report.before_bytes, report.device_bytes, "bytes")
        for name, size in report.memory.items():
            add(f"memory: {name}", None, size, "bytes")
    if report.latency is not None:
        rows.append(("latency, median", "-", f"{report.latency['median_ms']:.3f} ms", "-"))
        rows.append(("latency, fastest", "-", f"{report.latency['fastest_ms']:.3f} ms", "-"))
    note = NO_SPEED
    if report.predicted:
        note += " Bytes after are predicted for weights.bin; model.so comes on top."
    if report.paper is not None and report.paper.unused:
        note += f" Layers that are in the file and never called: {', '.join(report.paper.unused)}."
    return Table("Summary", ("", "original", after_word(report), "ratio"), tuple(rows), (1, 2, 3), note)


def after_word(report: Report) -> str:
    """What the second column is."""
    return "predicted" if report.predicted else "compiled"


def _paper(label: str, first: float, second: float, unit: str) -> tuple[str, ...]:
    return (label, f"{first:.2f} {unit}", f"{second:.2f} {unit}", render_ratio(second, first))


def published(report: Report) -> Table | None:
    """The paper's row beside ours, where it has one."""
    if report.paper is None or report.paper.published is None:
        return None
    ours, printed = report.paper.compiled, report.paper.published
    rows = (
        (
            "parameters, M",
            f"{printed.paper_m:.2f}",
            f"{ours.params_paper_m:.4f}",
            f"{-printed.unexplained_m:+.4f}",
        ),
        (
            "operations, G",
            f"{printed.paper_g:.2f}",
            f"{ours.ops_paper_g:.4f}",
            f"{-printed.unexplained_g:+.4f}",
        ),
    )
    title = f"Published ({report.after.scheme})"
    return Table(
        title, ("", "paper", "ours", "ours - paper"), rows, (1, 2, 3), "docs/reports.md explains it."
    )


FIRST = ("joints",)
"""What people ask for first."""

UNTRAINED = (
    "The network was not trained in its binary form: its accuracy is lost. Train it (a checkpoint: with "
    "distill), or compile with --scheme int8."
)


def agreement(report: Report) -> Table | None:
    """How far the compiled network is from the one in full precision; and what that means where it was not trained."""
    if not report.agreement and not report.untrained:
        return None
    told = sorted(report.agreement.items(), key=lambda pair: (pair[0] not in FIRST, pair[0]))
    rows = tuple((kind, f"{one['value']:.3g}", one["unit"]) for kind, one in told)
    pictures = max((one["pictures"] for one in report.agreement.values()), default=0)
    means = f"Means of {pictures} calibration pictures. " if pictures else ""
    note = means + (UNTRAINED if report.untrained else "")
    return Table("Against full precision", ("output", "moves by", "unit"), rows, (1,), note.strip())


SLOW = "computed slowly"
"""How the reason of a decision begins that leaves a step to TVM's default schedule."""


def slow(report: Report) -> Table | None:
    """What is left to TVM's default schedules, and why."""
    found = {(str(note["site"]), str(note["reason"])) for note in report.notes}
    rows = tuple(sorted(pair for pair in found if pair[1].startswith(SLOW)))
    return Table("Computed slowly", ("layer", "why"), rows) if rows else None


def stages(report: Report) -> Table:
    """Cost by part of the network."""
    measured = any(layer.ms is not None for layer in report.after.layers)
    header = ["stage", "layers", "weights", "MACs", "bytes before", "bytes after", "ratio"]
    rows = []
    old, new = report.before.by_stage(lambda x: x.nbytes), report.after.by_stage(lambda x: x.nbytes)
    weights, macs = report.after.by_stage(lambda x: x.weights), report.after.by_stage(lambda x: x.macs)
    times = report.after.by_stage(lambda x: x.ms or 0.0)
    counts = report.after.by_stage(lambda x: 1)
    for stage, size in new.items():
        row = [stage, f"{counts[stage]:.0f}", render_count(weights[stage]), render_count(macs[stage])]
        row += [render_bytes(old.get(stage, 0)), render_bytes(size), render_ratio(size, old.get(stage, 0))]
        rows.append((*row, f"{times[stage]:.3f}") if measured else tuple(row))
    if measured:
        header.append("ms")
    note = "ms: these layers only; generated code and other kernels come on top." if measured else ""
    return Table("By stage", tuple(header), tuple(rows), tuple(range(1, len(header))), note)


def stage_operations(costs: Costs) -> dict[str, float]:
    """The paper's operations by stage."""
    names = costs.by_stage(lambda layer: 0)
    return {
        stage: paper_operations((one for one in costs.layers if one.stage == stage), costs.scheme)
        for stage in names
    }


def files(report: Report) -> Table | None:
    """Every byte of an artefact, by file and part; layers of weights.bin together."""
    if not report.parts:
        return None
    sums: dict[tuple[str, str], int] = {}
    for part in report.parts:
        key = part.file, "layers, all together" if part.layer else part.part
        sums[key] = sums.get(key, 0) + part.nbytes
    whole = sum(sums.values())
    rows = [(file, part, f"{n:,}", render_share(n, whole)) for (file, part), n in sums.items()]
    rows.append(("all", "", f"{whole:,}", render_share(whole, whole)))
    return Table("Every byte", ("file", "part", "bytes", "share"), tuple(rows), (2, 3))


def layers(report: Report) -> Table:
    """All layers in the network's order."""
    measured = any(layer.ms is not None for layer in report.after.layers)
    header = ["layer", "stage", "precision", "computed by", "weights", "MACs", "bytes", "activations"]
    rows = []
    for one in report.after.layers:
        row = [one.name, one.stage, PRECISION_NAMES[one.precision], " + ".join(one.kernels) or one.kind]
        row += [render_count(one.weights), render_count(one.macs)]
        row += [render_bytes(one.nbytes), render_bytes(one.traffic)]
        rows.append((*row, "-" if one.ms is None else f"{one.ms:.3f}") if measured else tuple(row))
    if measured:
        header.append("ms")
    right = tuple(range(4, len(header)))
    return Table("Layers", tuple(header), tuple(rows), right, "Activations: bytes a layer reads and writes.")


def advice(report: Report, longest: int | None = LONGEST_ADVICE, *, everything: bool = False) -> list[Table]:
    """What could be cheaper: a table for each thing to do, on each ground, of at most `longest` lines (None: all).

    everything: what only those who design the network can follow, too; else a line says how much of that there is.
    """
    groups: dict[tuple[str, str, str], list[tuple[str, ...]]] = {}
    shown = [one for one in report.advice if everything or one.kind in FOR_DEPLOYERS]
    for one in shown:
        groups.setdefault((one.kind, one.todo, one.basis), []).append((one.layer, one.what))
    listed = []
    for (kind, todo, basis), rows in groups.items():
        more = 0 if longest is None else len(rows) - longest
        tail = f" {more} more with --format json." if more > 0 else ""
        note = f"To do: {todo}. Basis: {basis}.{tail}"
        listed.append(Table(f"Advice: {kind}", ("layer", "what"), tuple(rows[:longest]), (), note))
    hidden = len(report.advice) - len(shown)
    if hidden:
        lines = "line" if hidden == 1 else "lines"
        note = f"{hidden} {lines} for those who design the network (lanes, memory): --advice all"
        listed.append(Table("Advice: for designers", ("layer", "what"), (), (), note))
    return listed


def tables(report: Report, *, with_layers: bool, everything: bool = False) -> list[Table]:
    """The tables in the order they are read; `everything`: all advice."""
    listed = [summary(report), agreement(report), published(report), stages(report), files(report)]
    listed.append(slow(report))
    listed += [layers(report)] if with_layers else []
    listed += advice(report, everything=everything)
    return [table for table in listed if table is not None]


CSV_COLUMNS = (
    *("name", "stage", "role", "kind", "precision", "weights", "macs", "bit_operations"),
    *("in_channels", "out_channels", "inputs", "outputs", "bytes", "activation_bytes", "ms"),
)

FORMULA = ("=", "+", "-", "@")
"""How a cell begins that a spreadsheet would compute."""


def layers_csv(report: Report) -> str:
    """One row a layer, numbers without units; an empty cell is what was not measured."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for layer in report.after.layers:
        facts = layer.to_json()
        writer.writerow([_csv(facts[name]) for name in CSV_COLUMNS])
    return stream.getvalue()


def _csv(value: object) -> object:
    text = isinstance(value, str) and value.startswith(FORMULA)
    return "" if value is None else f"'{value}" if text else value


def join(parts: Iterable[str]) -> str:
    """Blocks with an empty line between."""
    return "\n\n".join(parts)

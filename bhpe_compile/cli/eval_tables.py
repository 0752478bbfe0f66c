"""What `eval` prints: the figures of every row, what stages cost, how far rows move, and the gate's verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from bhpe_compile.cli.accuracy import describe_data
from bhpe_compile.cli.tables import print_json, render_markdown, render_table

if TYPE_CHECKING:
    from bhpe_compile.evaluate.evaluate import Evaluation
    from bhpe_compile.evaluate.gate import Verdict
    from bhpe_compile.evaluate.jitter import Jitter
    from bhpe_compile.search.layers.stages import Source


def print_evaluation(
    result: Evaluation,
    sources: Sequence[Source],
    verdicts: Sequence[Verdict],
    jitters: Sequence[Jitter],
    seed: int,
    style: str,
    note: str,
) -> None:
    """On stdout, as a table, Markdown, JSON or JUnit's XML. note: what has to be said of how it was measured."""
    from bhpe_compile.evaluate.junit import junit

    if style == "json":
        document = result.to_json(seed) | {"verdicts": [verdict.to_json() for verdict in verdicts]}
        document["differences"] = differences(result, sources, seed)
        if jitters:
            document["jitter"] = {one.name: one.figures() for one in jitters}
        print_json(document)
        return
    if style == "junit":
        judged = {(verdict.row, verdict.metric.name) for verdict in verdicts}
        figures = [
            (row.name, name, f"{value:g}")
            for row in result.rows
            for name, value in row.figures().items()
            if (row.name, name) not in judged
        ]
        click.echo(junit(verdicts, figures))
        return
    render = render_markdown if style == "md" else render_table
    header, rows = figure_table(result, seed)
    blocks = [describe_data(result.data), render(header, rows, range(1, len(header)))]
    if style == "md" and note:
        blocks.insert(1, note)
    if gaps := differences(result, sources, seed):
        blocks.append(render(*difference_table(gaps), (2, 3)))
    if jitters:
        blocks.append(render(*jitter_table(jitters), range(2, 2 + len(jitters))))
    if verdicts:
        blocks.append(render(*verdict_table(verdicts), range(2, 6)))
    click.echo("\n\n".join(blocks))


def figure_table(result: Evaluation, seed: int) -> tuple[list[str], list[list[str]]]:
    """A line a metric, a column a row of the evaluation; MPVPE with its interval."""
    from bhpe_compile.evaluate.metrics import FIGURES, METRICS

    header = ["metric", *(row.name for row in result.rows)]
    rows = []
    for name, metric in FIGURES.items():
        if name not in METRICS and not any(name in row.figures() for row in result.rows):
            continue
        cells = [row.figures().get(name) for row in result.rows]
        digits = 1 if metric.unit else 3
        label = f"{metric.title}, mm" if metric.unit else metric.title
        rows.append([label, *("-" if value is None else f"{value:.{digits}f}" for value in cells)])
        if name == "mpvpe":
            spans = [row.interval(name, seed) for row in result.rows]
            rows.append(["  95 % interval", *(f"{low:.1f} .. {high:.1f}" for low, high in spans)])
    return header, rows


def jitter_table(jitters: Sequence[Jitter]) -> tuple[list[str], list[list[str]]]:
    """Median movements and, behind the stroke, what nine of ten stay below: a line a perturbation and quantity."""
    from bhpe_compile.evaluate.jitter import MEANING, UNITS

    figures = [one.figures() for one in jitters]
    rows = []
    for perturbation in figures[0]:
        for quantity, unit in UNITS.items():
            cells = [one[perturbation].get(quantity) for one in figures]
            if any(cells):
                told = [f"{cell['median']:.1f} / {cell['p90']:.1f}" if cell else "-" for cell in cells]
                rows.append([MEANING[perturbation], unit, *told])
    return ["movement under", "median / 90 %", *(one.name for one in jitters)], rows


def difference_table(gaps: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """What each stage costs."""
    rows = [
        [
            gap["row"],
            gap["against"],
            f"{gap['difference']:+.2f}",
            "{:+.2f} .. {:+.2f}".format(*gap["interval"]),
        ]
        for gap in gaps
    ]
    return ["stage", "against", "MPVPE, mm", "95 % interval"], rows


def differences(result: Evaluation, sources: Sequence[Source], seed: int) -> list[dict[str, Any]]:
    """What each stage adds to the MPVPE of the stage before, person by person, with the interval of that difference."""
    from bhpe_compile.evaluate.metrics import interval, mean

    lines = []
    for source in sources:
        for before, after in zip(source.subjects, source.subjects[1:], strict=False):
            gap = result.row(after.name).errors["mpvpe"] - result.row(before.name).errors["mpvpe"]
            lines.append(
                {
                    "row": after.name,
                    "against": before.name,
                    "difference": mean(gap),
                    "interval": list(interval(gap, seed)),
                }
            )
    return lines


def verdict_table(verdicts: Sequence[Verdict]) -> tuple[list[str], list[list[str]]]:
    """The gate, a line a metric; where it failed, those that failed and how many did not."""
    header = ["row", "metric", "baseline", "value", "allowed", "limit", ""]
    failed = [verdict for verdict in verdicts if not verdict.passed]
    passed = len(verdicts) - len(failed)
    last = [["", f"{passed} others", "", "", "", "", "ok"]] if failed and passed else []
    return header, [*_verdict_rows(failed or verdicts), *last]


def _verdict_rows(verdicts: Sequence[Verdict]) -> list[list[str]]:
    from bhpe_compile.evaluate.gate import format_value

    return [
        [
            v.row,
            v.metric.title,
            format_value(v.metric, v.reference),
            format_value(v.metric, v.value),
            str(v.allowance),
            format_value(v.metric, v.limit),
            "ok" if v.passed else "WORSE",
        ]
        for v in verdicts
    ]

"""The gate: no metric may be worse than a baseline by more than an allowance.

    --max-drop 2%          every metric, in per cent of its baseline value
    --max-drop 3mm         every metric in millimetres
    --max-drop mpvpe=2%    this metric; stands above the allowance for all

A baseline is a JSON file of one row's figures with the hash of the people they were measured on. Other people, another
number of them or another body: no comparison.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bhpe_compile.artifact.manifest import dump_json
from bhpe_compile.errors import BudgetError, InputError, UsageError
from bhpe_compile.evaluate.metrics import FIGURES, Metric
from bhpe_compile.reading import MalformedError, read_json

if TYPE_CHECKING:
    from bhpe_compile.evaluate.jitter import Jitter

FORMAT, VERSION = "bhpe-accuracy", 1

DECIMALS = 4
"""Of figures in a baseline: a tenth of a micrometre."""

NOTHING = 1e-4
"""In a metric's unit: a worsening that a rounded baseline cannot tell from none."""

TOLD = 3
"""Failures that an error line names: the first of `FIGURES` are those people know."""

DATA_KEYS = ("name", "count", "sha256", "body", "body_sha256")

_ALLOWANCE = re.compile(r"(?:(?P<metric>[a-z_]+)\s*=\s*)?(?P<amount>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>%|mm|)")


@dataclass(frozen=True)
class Allowance:
    """How much worse one metric (None: every one that has the unit) may be."""

    metric: str | None
    amount: float
    unit: Literal["%", "mm", ""]

    @classmethod
    def parse(cls, text: str) -> Allowance:
        """Read "2%", "3mm", "mpvpe=2%" or "face_iou=0.05"; UsageError for anything else."""
        match = _ALLOWANCE.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"allowance {text!r}: write 2%, 3mm, or one metric's as mpvpe=2%")
        name, unit = match["metric"], match["unit"]
        if name is not None and name not in FIGURES:
            raise UsageError(f"allowance {text!r}: no metric {name!r}; metrics are {', '.join(FIGURES)}")
        if unit == "" and (name is None or FIGURES[name].unit):
            raise UsageError(
                f"allowance {text!r}: has no unit; write {match['amount']}% or {match['amount']}mm"
            )
        if unit == "mm" and name is not None and not FIGURES[name].unit:
            raise UsageError(f"allowance {text!r}: {name} is no length; write {name}=0.05 or {name}=5%")
        return cls(name, float(match["amount"]), unit)  # type: ignore[arg-type]  # the pattern has no other units

    def covers(self, metric: Metric) -> bool:
        """Whether it speaks of this metric."""
        if self.metric is not None:
            return self.metric == metric.name
        return self.unit == "%" or self.unit == metric.unit

    def drop(self, reference: float) -> float:
        """The largest worsening allowed, in the metric's unit."""
        return self.amount / 100 * abs(reference) if self.unit == "%" else self.amount

    def __str__(self) -> str:
        return f"{self.amount:g}{'' if self.unit == '%' or not self.unit else ' '}{self.unit}"


@dataclass(frozen=True)
class Verdict:
    """One metric of one row against its baseline."""

    row: str
    metric: Metric
    reference: float
    value: float
    allowance: Allowance

    @property
    def limit(self) -> float:
        """The worst value that passes."""
        drop = self.allowance.drop(self.reference)
        return self.reference + (drop if self.metric.better == "lower" else -drop)

    @property
    def passed(self) -> bool:
        """Whether the value is within the limit; a value that is no number is not."""
        return self.metric.worsening(self.value, self.limit) <= NOTHING

    def __str__(self) -> str:
        return (
            f"{self.row}: {self.metric.title} is {format_value(self.metric, self.value)}, the baseline "
            f"{format_value(self.metric, self.reference)}, allowed {self.allowance} worse "
            f"(to {format_value(self.metric, self.limit)})"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "row": self.row,
            "metric": self.metric.name,
            "baseline": self.reference,
            "value": self.value,
            "allowance": str(self.allowance),
            "limit": self.limit,
            "passed": self.passed,
        }


def judge(
    row: str,
    figures: Mapping[str, float],
    reference: Mapping[str, float],
    allowances: Sequence[Allowance],
) -> list[Verdict]:
    """A verdict for every metric of `reference` that an allowance covers.

    A metric that the baseline has and the row has not is a failure, not an omission.
    """
    verdicts = []
    for name, metric in FIGURES.items():
        allowance = _for(metric, allowances)
        if allowance is not None and name in reference:
            verdicts.append(Verdict(row, metric, reference[name], figures.get(name, math.nan), allowance))
    return verdicts


def _for(metric: Metric, allowances: Sequence[Allowance]) -> Allowance | None:
    """The last that names the metric, else the last that covers it."""
    covering = [one for one in allowances if one.covers(metric)]
    named = [one for one in covering if one.metric is not None]
    return next(iter(reversed(named or covering)), None)


def require(verdicts: Iterable[Verdict]) -> None:
    """Raise BudgetError unless all passed; it tells the first `TOLD` verdicts that failed, and how many there are."""
    listed = list(verdicts)
    failed = [str(verdict) for verdict in listed if not verdict.passed]
    if failed:
        more = f"; {len(failed) - TOLD} more of {len(listed)} metrics failed" if len(failed) > TOLD else ""
        raise BudgetError("accuracy dropped by more than allowed: " + "; ".join(failed[:TOLD]) + more)


def require_still(jitters: Iterable[Jitter], limit: float) -> None:
    """BudgetError where a mesh moves by more than `limit` millimetres under one level of noise."""
    for one in jitters:
        if one.figure > limit:
            raise BudgetError(
                f"{one.name}: the mesh moves by {one.figure:.2f} mm where each value of a picture changes by one level "
                f"at most, allowed are {limit:g} mm"
            )


def format_value(metric: Metric, value: float) -> str:
    """A figure with its unit, as messages show it."""
    return f"{value:.2f} mm" if metric.unit else f"{value:.4f}"


def baseline_bytes(data: Mapping[str, Any], row: str, figures: Mapping[str, float]) -> bytes:
    """A baseline file: sorted keys, figures rounded to a tenth of a micrometre; the same figures, the same bytes."""
    return dump_json(
        {
            "format": FORMAT,
            "version": VERSION,
            "data": dict(data),
            "row": row,
            "figures": {name: round(value, DECIMALS) for name, value in figures.items()},
        }
    )


def read_baseline(path: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """(what it was measured on, figures) of a baseline. UsageError where there is none, InputError for another file."""
    try:
        document = read_json(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such baseline; --save-baseline writes one") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except MalformedError:
        raise InputError(f"{path}: is not JSON, so no baseline") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"{path}: is no baseline; `bhpe-compile eval --save-baseline` writes one")
    if document.get("version") != VERSION:
        raise InputError(f"{path}: has version {document.get('version')!r}, this program reads {VERSION}")
    data, figures = document.get("data"), document.get("figures")
    if not isinstance(data, dict) or any(key not in data for key in DATA_KEYS):
        raise InputError(f"{path}: damaged: does not say what it was measured on")
    if not isinstance(figures, dict) or not figures or not all(map(_is_figure, figures.items())):
        raise InputError(f"{path}: damaged: figures are no numbers by metric")
    return data, figures


def _is_figure(item: tuple[str, Any]) -> bool:
    name, value = item
    return name in FIGURES and type(value) in (int, float) and math.isfinite(value)


def require_same_data(path: Path, baseline: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """InputError that names the first thing in which the people of a baseline differ from these."""
    words = {"count": "number of people", "sha256": "pictures or labels", "body_sha256": "body"}
    for key, what in words.items():
        if baseline[key] != data[key]:
            found, wanted = baseline[key], data[key]
            if isinstance(found, str):
                found, wanted = found[:12], str(wanted)[:12]
            raise InputError(
                f"{path}: was measured on other data: {what} {found}, here {wanted}; figures of different data cannot "
                "be compared: use the same --data, --count, --seed and --body, or save a new baseline"
            )

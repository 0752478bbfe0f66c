"""Bars by stage as inline SVG: one small drawing for each quantity, narrow enough for a phone.

Each stage has its name, and one bar for each series with its value behind it. Scales are linear and start at 0. Colours
are classes (`s0`, `s1`, ...) of the page's style sheet, so that light, dark and print each have their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 340
VALUE_WIDTH = 76
"""Room for the text behind the longest bar."""

NAME_HEIGHT, BAR_HEIGHT, BAR_STEP, GAP = 20, 11, 15, 9
LEAST_DRAWN = 0.001
"""A stage below this part of the largest bar is left to the tables."""

BASELINE = 9.5
"""From a bar's top to the baseline of its value."""


@dataclass(frozen=True)
class Series:
    """A label and its values by stage; stages without a value have no bar."""

    label: str
    values: Mapping[str, float]


def bars(title: str, series: Sequence[Series], show: Callable[[float], str]) -> Markup:
    """The drawing; `show` renders a value with its unit. Everything is escaped."""
    stages = list(dict.fromkeys(stage for one in series for stage in one.values))
    most = max((value for one in series for value in one.values.values()), default=0) or 1
    stages = [s for s in stages if any(one.values.get(s, 0) >= LEAST_DRAWN * most for one in series)]
    scale = (WIDTH - VALUE_WIDTH) / most
    parts: list[Markup] = []
    y = 0.0
    for stage in stages:
        parts.append(Markup('<text class="stage" x="0" y="{:g}">{}</text>').format(y + 13, stage))
        y += NAME_HEIGHT
        for index, one in enumerate(series):
            if stage not in one.values:
                continue
            value = one.values[stage]
            width = max(1.0, round(value * scale, 1))
            parts.append(
                Markup(
                    '<rect class="s{}" x="0" y="{:g}" width="{:g}" height="{}" rx="2"></rect>'
                    '<text class="value" x="{:g}" y="{:g}">{}</text>'
                ).format(index, y, width, BAR_HEIGHT, width + 6, y + BASELINE, show(value))
            )
            y += BAR_STEP
        y += GAP
    described = "; ".join(
        f"{stage}: " + ", ".join(f"{s.label} {show(s.values[stage])}" for s in series if stage in s.values)
        for stage in stages
    )
    head = Markup('<svg role="img" viewBox="0 0 {} {:g}" aria-label="{}">').format(
        WIDTH, y, f"{title}. {described}"
    )
    return head + Markup("").join(parts) + Markup("</svg>")

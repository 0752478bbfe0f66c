"""Numbers as people read them, the same in every format, and tables for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SIZES = ("smaller", "larger")
TIMES = ("faster", "slower")
"""What a ratio below and above 1 is called."""

CLOSE = 1.25
"""Nearer than this, a ratio is told in per cent."""


def render_bytes(count: float) -> str:
    """A size in powers of 1000: 950 B, 12.3 kB, 4.56 MB."""
    for unit, divisor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= divisor:
            return f"{count / divisor:.3g} {unit}"
    return f"{count:g} B"


def render_count(count: float) -> str:
    """A number of parameters or operations: 950, 12.3 k, 4.56 M, 17.8 G."""
    for unit, divisor in ((" T", 1e12), (" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if count >= divisor:
            return f"{count / divisor:.4g}{unit}"
    return f"{count:g}"


def render_ratio(value: float, reference: float, words: tuple[str, str] = SIZES) -> str:
    """`value` beside `reference`: "13 times smaller", "4 % larger", "the same"; "-" where one of them is 0."""
    if not reference or not value:
        return "-"
    ratio = value / reference
    word, times = (words[0], 1 / ratio) if ratio < 1 else (words[1], ratio)
    if times < CLOSE:
        percent = f"{100 * abs(ratio - 1):.1f}"
        return "the same" if percent == "0.0" else f"{percent} % {word}"
    return f"{times:.3g} times {word}" if times < 1000 else f"{times:.0f} times {word}"


def render_duration(seconds: float) -> str:
    """How long something takes, as people say it: "8 seconds", "1 minute", "25 minutes", "2.5 hours", "3 days"."""
    for most, unit, length in ((90, "second", 1), (90 * 60, "minute", 60), (36 * 3600, "hour", 3600)):
        if seconds < most:
            count = seconds / length
            shown = f"{count:.0f}" if unit != "hour" or count >= 10 else f"{count:.1f}".removesuffix(".0")
            return f"{shown} {unit}{'' if shown == '1' else 's'}"
    days = f"{seconds / 86400:.0f}"
    return f"{days} day{'' if days == '1' else 's'}"


def render_share(part: float, whole: float) -> str:
    """A part in per cent: "12.3 %"; "-" of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def render_markdown(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """A table for Markdown; columns numbered in `right` are right-aligned."""
    aligned = frozenset(right)
    rule = ["---:" if k in aligned else "---" for k in range(len(header))]
    lines = [map(escape_markdown, header), rule, *(map(escape_markdown, row) for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def escape_markdown(text: str) -> str:
    """Names come from files: nothing in them may end a cell or become markup."""
    plain = "".join(c if c.isprintable() else " " for c in text.strip())
    for special in "\\|<>`*_[]":
        plain = plain.replace(special, "\\" + special)
    return plain

"""Tables are plain text, aligned, and the same everywhere."""

from __future__ import annotations

import json

import pytest

from bhpe_compile.cli.tables import (
    print_json,
    render_bytes,
    render_count,
    render_duration,
    render_pairs,
    render_table,
)


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    text = render_table(("name", "size"), [("model.so", "9 B"), ("w", "12.3 kB")], right=(1,))
    assert text.splitlines() == [
        "name         size",
        "--------  -------",
        "model.so      9 B",
        "w         12.3 kB",
    ]


def test_table_without_rows_is_its_header() -> None:
    assert render_table(("a", "bc"), []) == "a  bc\n-  --"


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        render_table(("a", "b"), [("only one",)])


def test_pairs() -> None:
    assert render_pairs([("model", "m.pt"), ("to", "x86")]) == "model  m.pt\nto     x86"
    assert render_pairs([]) == ""


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (12_345, "12.3 kB"),
        (4_560_000, "4.56 MB"),
        (2 * 10**9, "2 GB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert render_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (950, "950"), (77_842_256, "77.84 M"), (17_848_406_844, "17.85 G")]
)
def test_counts(count: int, text: str) -> None:
    assert render_count(count) == text


def test_json_has_sorted_keys(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"b": [1], "a": None})
    text = capsys.readouterr().out
    assert text.index('"a"') < text.index('"b"')
    assert json.loads(text) == {"a": None, "b": [1]}


def test_json_has_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"gap": float("inf"), "rows": [(float("nan"), 0.5)]})
    assert json.loads(capsys.readouterr().out) == {"gap": None, "rows": [[None, 0.5]]}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 seconds"),
        (1.2, "1 second"),
        (59, "59 seconds"),
        (89.9, "90 seconds"),
        (91, "2 minutes"),
        (3600, "60 minutes"),
        (5400, "1.5 hours"),
        (7200, "2 hours"),
        (11 * 3600, "11 hours"),
        (3 * 86400, "3 days"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert render_duration(seconds) == text

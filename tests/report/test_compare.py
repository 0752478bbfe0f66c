"""Differences, ratios and limits, on subjects made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.report.compare import Limits, Subject, compare, ratios, read_accuracy
from bhpe_compile.report.compare_tables import changes, compare_summary
from bhpe_compile.report.cost import FLOAT32, Costs
from tests.report.made_up import layer


def pair() -> tuple[Subject, Subject]:
    """A float network, and the same with one of two layers binary."""
    stays = layer("backbone.conv1", FLOAT32, nbytes=1000)
    old = layer("backbone.layer1.0.conv2", FLOAT32, nbytes=4000)
    new = replace(old, precision="binary", nbytes=200, kernels=("BinaryConv2d",))
    a = Subject("A", Path("a.pt"), "checkpoint", "", Costs((stays, old)), 5000)
    b = Subject("B", Path("b"), "artefact", "x86", Costs((stays, new), "bidrn"), 1500)
    return a, b


def timed(subject: Subject, ms: float) -> Subject:
    return replace(subject, latency={"median_ms": ms})


def test_only_layers_that_differ_are_changes() -> None:
    found = compare(pair())
    assert [change.name for change in found.changes] == ["backbone.layer1.0.conv2"]
    assert found.same == 1
    assert found.changes[0].to_json()["sides"] == [
        {"precision": "float32", "bytes": 4000, "kernels": []},
        {"precision": "binary", "bytes": 200, "kernels": ["BinaryConv2d"]},
    ]


def test_a_layer_that_one_side_lacks_is_a_change() -> None:
    a, b = pair()
    found = compare((a, replace(b, costs=Costs(b.costs.layers[:1]))))
    assert found.changes[0].to_json()["sides"][1] is None
    assert changes(found).rows[0][-3:] == ("-", "-", "-")


def test_equal_networks_have_no_changes() -> None:
    a, _ = pair()
    found = compare((a, replace(a, letter="B")))
    assert (found.changes, found.same, found.missed) == ((), 2, ())


def test_ratios_are_to_the_first() -> None:
    a, b = pair()
    found = ratios(timed(b, 2.0), timed(a, 8.0))
    assert (found["bytes"], found["latency"]) == (0.3, 0.25)
    assert ratios(b, timed(a, 8.0))["latency"] is None


def test_limits_that_hold_are_silent() -> None:
    a, b = (timed(s, ms) for s, ms in zip(pair(), (8.0, 2.0), strict=True))
    limits = Limits(nbytes=1500, operations=b.operations, latency_ratio=0.25)
    assert compare((a, b), limits).missed == ()


def test_each_missed_limit_is_a_line_with_both_values_and_the_limit() -> None:
    a, b = (timed(s, ms) for s, ms in zip(pair(), (8.0, 2.0), strict=True))
    size, ops, latency = compare((a, b), Limits(1499, b.operations - 1, 0.2)).missed
    assert size.startswith("B b: 1.5 kB (1500 bytes) is more than --max-size 1.5 kB (1499); A a.pt has 5 kB")
    assert f"({b.operations:.0f} operations by the paper's count) is more than --max-ops" in ops
    assert latency == (
        "B b: takes 0.250 times as long as A a.pt (2.000 ms, 8.000 ms), more than --max-latency-ratio 0.2"
    )


def test_the_reference_is_not_limited() -> None:
    assert compare(pair(), Limits(nbytes=2000)).missed == ()


def test_a_ratio_of_latencies_needs_both() -> None:
    a, b = pair()
    with pytest.raises(UsageError, match=r"A a\.pt was not measured"):
        compare((a, timed(b, 1.0)), Limits(latency_ratio=1))


def test_summary_has_accuracy_and_dashes() -> None:
    a, b = pair()
    table = compare_summary(compare((a, replace(b, accuracy={"mpvpe": 91.25}))))
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["accuracy: mpvpe"] == ("-", "91.25", "-")
    assert rows["bytes"] == ("5 kB", "1.5 kB", "3.33 times smaller")
    assert table.header == ("", "A a.pt", "B b", "B beside A")


def test_accuracy_files(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"metrics": {"mpvpe": {"value": 91.2}, "odd": {"value": float("nan")}}}))
    assert read_accuracy(file) == {"mpvpe": 91.2}
    file.write_text(json.dumps({"rows": {"model": {"figures": {"mpvpe": 91.2}}}}))
    assert read_accuracy(file) == {"mpvpe": 91.2}
    assert read_accuracy(None) == {}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"metrics": 3}', '{"metrics": {"a": {}}}', '{"metrics": {"a": {"value": "x"}}}']
)
def test_damaged_accuracy_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "r.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"r\.json: is no result of eval"):
        read_accuracy(file)


def test_several_rows_must_be_chosen(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"rows": {"a": {"figures": {"m": 1}}, "b": {"figures": {"m": 2}}}}))
    assert read_accuracy(file, "b") == {"m": 2.0}
    with pytest.raises(InputError, match="holds several rows: a, b; name one"):
        read_accuracy(file)
    with pytest.raises(InputError, match="has no row c"):
        read_accuracy(file, "c")


def test_the_ten_layers_that_matter_are_shown() -> None:
    """Those whose bytes differ most; all of them, in the network's order, when asked for."""
    a, b = pair()
    layer = a.costs.layers[0]
    many = [replace(layer, name=f"layer{i}", nbytes=100 + i) for i in range(25)]
    other = [replace(one, nbytes=100) for one in many]
    first = replace(a, costs=replace(a.costs, layers=tuple(many)))
    second = replace(b, costs=replace(b.costs, layers=tuple(other)))
    compared = compare((first, second))
    short, whole = changes(compared), changes(compared, None)
    assert [row[0] for row in short.rows] == [f"layer{i}" for i in range(24, 14, -1)]
    assert "10 of 24 layers that differ" in short.note
    assert "--all" in short.note
    assert [row[0] for row in whole.rows] == [f"layer{i}" for i in range(1, 25)]
    assert "--all" not in whole.note

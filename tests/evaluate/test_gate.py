"""Allowances, verdicts, baselines and JUnit without any network."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhpe_compile.errors import BudgetError, InputError, UsageError
from bhpe_compile.evaluate.gate import (
    Allowance,
    baseline_bytes,
    judge,
    read_baseline,
    require,
    require_same_data,
)
from bhpe_compile.evaluate.junit import junit

DATA = {"name": "synth", "count": 3, "sha256": "a" * 64, "body": "body.npz", "body_sha256": "b" * 64}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2%", Allowance(None, 2, "%")),
        (" 2.5 % ", Allowance(None, 2.5, "%")),
        ("3mm", Allowance(None, 3, "mm")),
        (".5 mm", Allowance(None, 0.5, "mm")),
        ("mpvpe=2%", Allowance("mpvpe", 2, "%")),
        ("face_iou = 0.05", Allowance("face_iou", 0.05, "")),
    ],
)
def test_allowances_are_read(text: str, expected: Allowance) -> None:
    assert Allowance.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "2", "-2%", "2cm", "mpvpe=2", "mpvpe", "=2%", "pve=2%", "face_iou=2mm", "nan%"]
)
def test_other_allowances_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="allowance"):
        Allowance.parse(text)


@pytest.mark.parametrize(
    ("metric", "reference", "value", "drop", "passed"),
    [
        ("mpvpe", 100.0, 102.0, "2%", True),
        ("mpvpe", 100.0, 102.01, "2%", False),
        ("mpvpe", 100.0, 50.0, "0%", True),
        ("mpvpe", 100.0, 103.0, "3mm", True),
        ("mpvpe", 100.0, 103.1, "3mm", False),
        ("face_iou", 0.8, 0.79, "2%", True),
        ("face_iou", 0.8, 0.75, "2%", False),
        ("face_iou", 0.8, 0.75, "face_iou=0.05", True),
        ("face_iou", 0.8, 0.9, "0%", True),
        ("mpvpe", 100.0, math.nan, "50%", False),
    ],
)
def test_verdicts(metric: str, reference: float, value: float, drop: str, passed: bool) -> None:
    (verdict,) = judge("row", {metric: value}, {metric: reference}, [Allowance.parse(drop)])
    assert verdict.passed is passed


def test_a_metric_that_went_missing_fails() -> None:
    (verdict,) = judge("row", {}, {"mpvpe": 100.0}, [Allowance.parse("2%")])
    assert not verdict.passed
    with pytest.raises(BudgetError, match=r"MPVPE is nan mm, the baseline 100\.00 mm"):
        require([verdict])


def test_millimetres_do_not_speak_of_ratios() -> None:
    verdicts = judge(
        "row", {"mpvpe": 1.0, "face_iou": 0.1}, {"mpvpe": 1.0, "face_iou": 0.9}, [Allowance.parse("1mm")]
    )
    assert [verdict.metric.name for verdict in verdicts] == ["mpvpe"]


def test_the_first_failures_are_told_and_the_others_counted() -> None:
    names = ("mpvpe", "pa_mpvpe", "mpjpe", "pa_mpjpe", "hands_mpvpe")
    verdicts = judge(
        "compiled", dict.fromkeys(names, 110.0), dict.fromkeys(names, 100.0), [Allowance.parse("2%")]
    )
    with pytest.raises(BudgetError) as caught:
        require(verdicts)
    assert str(caught.value).count("the baseline") == 3
    assert str(caught.value).endswith(f"; {len(verdicts) - 3} more of {len(verdicts)} metrics failed")


def test_every_failure_is_told() -> None:
    verdicts = judge(
        "compiled",
        {"mpvpe": 110.0, "mpjpe": 80.0, "pa_mpjpe": 50.0},
        {"mpvpe": 100.0, "mpjpe": 70.0, "pa_mpjpe": 50.0},
        [Allowance.parse("2%")],
    )
    with pytest.raises(BudgetError) as caught:
        require(verdicts)
    assert str(caught.value) == (
        "accuracy dropped by more than allowed: "
        "compiled: MPVPE is 110.00 mm, the baseline 100.00 mm, allowed 2% worse (to 102.00 mm); "
        "compiled: MPJPE is 80.00 mm, the baseline 70.00 mm, allowed 2% worse (to 71.40 mm)"
    )


@given(st.floats(0.01, 1e4), st.floats(0, 100), st.floats(-0.5, 0.5))
def test_the_limit_is_the_limit(reference: float, percent: float, beyond: float) -> None:
    allowance = Allowance("mpvpe", percent, "%")
    limit = reference * (1 + percent / 100)
    (verdict,) = judge("row", {"mpvpe": limit + beyond}, {"mpvpe": reference}, [allowance])
    if abs(beyond) > 2e-4:  # rounded figures differ by a tenth of a micrometre
        assert verdict.passed is (beyond < 0)


def test_baselines_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_bytes(baseline_bytes(DATA, "compiled", {"mpvpe": 12.345678, "face_iou": 0.5}))
    assert read_baseline(path) == (DATA, {"mpvpe": 12.3457, "face_iou": 0.5})
    assert list(json.loads(path.read_text())) == ["data", "figures", "format", "row", "version"]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 9},
        {"format": "x"},
        {"data": {}},
        {"figures": {}},
        {"figures": {"mpvpe": "12"}},
        {"figures": {"pve": 12}},
        {"figures": {"mpvpe": True}},
    ],
)
def test_damaged_baselines_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps(json.loads(baseline_bytes(DATA, "row", {"mpvpe": 1.0})) | change))
    with pytest.raises(InputError, match=r"b\.json: "):
        read_baseline(path)


@pytest.mark.parametrize("key", ["count", "sha256", "body_sha256"])
def test_other_data_are_refused(key: str) -> None:
    other = DATA | {key: 4 if key == "count" else "c" * 64}
    with pytest.raises(InputError, match="was measured on other data"):
        require_same_data(Path("b.json"), DATA, other)
    require_same_data(Path("b.json"), DATA, DATA | {"name": "somewhere else", "body": "renamed.npz"})


def test_junit_escapes_what_names_hold() -> None:
    row = 'a<b>&"c"\x1b\x00]]> é'
    verdicts = judge(row, {"mpvpe": 2.0, "mpjpe": 1.0}, {"mpvpe": 1.0, "mpjpe": 1.0}, [Allowance.parse("2%")])
    suite = ElementTree.fromstring(junit(verdicts, [(row, "face_iou", "0.5")]).encode())
    assert [case.get("classname") for case in suite] == [r'a<b>&"c"\x1b\x00]]> é'] * 3
    assert [case.get("name") for case in suite] == ["mpvpe", "mpjpe", "face_iou"]
    assert [case.find("failure") is not None for case in suite] == [True, False, False]
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")

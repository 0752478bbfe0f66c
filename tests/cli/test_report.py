"""`report` prints what was counted: the machine-readable contract, the golden figures of the full network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bhpe_compile.cli.main import main


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON that `bhpe-compile report` prints."""
    assert main(["report", *arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_original_full_network(capsys: pytest.CaptureFixture[str]) -> None:
    original = report(capsys, "--preset", "full")["original"]
    assert original["params"]["total"] == 77_842_256
    assert original["ops"]["macs"] == 17_848_406_844
    assert original["params"]["binary"] == original["ops"]["binary_macs"] == 0


@pytest.mark.parametrize(
    ("scheme", "params_m", "ops_g"),
    [("bnn", 21.6078, 2.63), ("reactnet", 21.6567, 2.63), ("bidrn", None, 2.50)],
)
def test_compiled_full_network(
    scheme: str, params_m: float | None, ops_g: float, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled = report(capsys, "--preset", "full", "--scheme", scheme)["compiled"]
    assert round(compiled["ops"]["paper_g"], 2) == ops_g
    if params_m is not None:
        assert round(compiled["params"]["paper_m"], 4) == params_m


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--preset", "full"]) == 0
    lines = {line[:20].strip(): line.split() for line in capsys.readouterr().out.splitlines()[2:]}
    assert lines["parameters, paper"][2:4] == ["77.84", "M"]
    assert lines["operations, paper"][4:6] == ["2.50", "G"]

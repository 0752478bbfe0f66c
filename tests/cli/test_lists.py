"""`targets` and `passes` list what there is, as tables and as JSON."""

from __future__ import annotations

import json

import pytest

from bhpe_compile.cli.main import main
from bhpe_compile.targets import BOARDS, PRESETS


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets"]) == 0
    targets, boards = capsys.readouterr().out.split("\n\n")
    assert [line.split()[0] for line in targets.splitlines()[2:]] == list(PRESETS)
    assert [line.split()[0] for line in boards.splitlines()[2:]] == list(BOARDS)
    assert {"x86", "x86-avx512", "arm", "arm-a53", "arm-a76"} <= set(PRESETS)


def test_targets_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--format", "json"]) == 0
    targets = json.loads(capsys.readouterr().out)
    assert [target["name"] for target in targets] == [*PRESETS, *BOARDS]
    assert all(target["summary"] and target["triple"] for target in targets)


def test_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "--format", "json"]) == 0
    passes = json.loads(capsys.readouterr().out)
    stages = [one["stage"] for one in passes]
    assert list(dict.fromkeys(stages)) == ["binarize", "export", "fold", "lower"]
    assert all(one["summary"] for one in passes)
    assert main(["passes"]) == 0
    table = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[:2] for line in table] == [[one["stage"], one["name"]] for one in passes]

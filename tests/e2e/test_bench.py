"""`bench`: medians of whole runs and of every step, for this machine only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bhpe_compile.runtime import Model
from bhpe_compile.runtime.timing import Spread, time_model
from tests.command import inside
from tests.examples import Compiled


def test_table(compiled: Compiled) -> None:
    outcome = inside("bench", compiled.folder, "--rounds", "3", "--per-layer", "--all", "-q")
    assert outcome.code == 0, outcome.stderr
    assert outcome.stderr == ""
    lines = outcome.stdout.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["artefact", "target", "8-bit", "CPU", "threads"]
    assert "of 3 runs" in lines[5]
    with Model(compiled.folder) as model:
        layers = {step.layer for step in model.steps if step.layer}
    assert all(any(line.endswith(f"  {layer}") for line in lines) for layer in layers)


def test_the_ten_slowest_are_shown_unless_all_are_asked_for(compiled: Compiled) -> None:
    words = ("bench", compiled.folder, "--rounds", "2", "-q")
    short = inside(*words, "--per-layer").stdout.split("\n\n")
    with Model(compiled.folder) as model:
        steps = len(model.steps)
    table, note = short[-2].splitlines(), short[-1]
    assert len(table) == 2 + 10
    times = [float(row.split()[0]) for row in table[2:]]
    assert times == sorted(times, reverse=True)
    assert note == f"{steps - 10} more, faster ones: --all lists them\n"
    refused = inside(*words, "--all")
    assert (refused.code, "--all is for --per-layer" in refused.stderr) == (2, True)


def test_json_and_markdown(compiled: Compiled) -> None:
    words = ("bench", compiled.folder, "--rounds", "2", "--threads", "2")
    document = json.loads(inside(*words, "--per-layer", "--format", "json").stdout)
    assert (document["threads"], document["rounds"]) == (2, 2)
    assert 0 < document["whole"]["fastest"] <= document["whole"]["median"] <= document["whole"]["p90"]
    with Model(compiled.folder) as model:
        assert [step["layer"] for step in document["steps"]] == [step.layer for step in model.steps]
    lines = inside(*words, "--format", "md").stdout.splitlines()
    assert lines[1] == "| --- | --- |"
    assert {line.count("|") for line in lines} == {3}


def test_another_cpu_is_not_timed(compiled: Compiled, tmp_path: Path) -> None:
    folder = tmp_path / "board"
    shutil.copytree(compiled.folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["target"] |= {"name": "board", "requires": ["an_extension_of_tomorrow"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    outcome = inside("bench", folder)
    assert outcome.code == 2
    assert "this machine has no an_extension_of_tomorrow" in outcome.stderr


def test_every_round_is_told(compiled: Compiled) -> None:
    seen: list[int] = []
    with Model(compiled.folder) as model:
        timing = time_model(model, 4, warm_up=0, tick=seen.append)
    assert seen == [1, 2, 3, 4]
    assert timing.steps == ()


@pytest.mark.parametrize(("values", "expected"), [([3.0], (3, 3, 3)), ([1.0, 2.0, 9.0], (2, 1, 7.6))])
def test_spread(values: list[float], expected: tuple[float, float, float]) -> None:
    spread = Spread.of(values)
    assert (spread.median, spread.fastest, spread.p90) == pytest.approx(expected)

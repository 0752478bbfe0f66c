"""The script of the documentation runs, and does what the commands do."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import bhpe_compile
from tests.command import ROOT, inside
from tests.examples import Compiled


def test_the_example_script(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(example, tmp_path / "demo")
    script = str(ROOT / "docs" / "examples" / "compile_and_run.py")
    monkeypatch.setattr(sys, "argv", [script, str(folder)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(script, run_name="__main__")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "verified: True" in shown
    assert "body pose: (1, 63)" in shown
    assert "backbone.conv1 is int8 because: " in shown
    assert "left wrist: " in shown


def test_an_artefact_is_what_the_commands_say(compiled: Compiled) -> None:
    artifact = bhpe_compile.load_artifact(str(compiled.folder))
    assert artifact.target == "x86"
    assert artifact.report == json.loads((compiled.folder / "report.json").read_text())
    explained = json.loads(inside("explain", compiled.folder, "head*", "--format", "json").stdout or "null")
    assert explained is None  # no layer of this name: an error, and nothing on stdout
    (conv,) = artifact.explain("backbone.conv1")
    (said,) = json.loads(inside("explain", compiled.folder, "backbone.conv1", "--format", "json").stdout)
    assert json.loads(json.dumps(conv.to_json())) == said
    image = np.zeros((1, 3, 512, 384), np.float32)
    assert tuple(artifact.run(image)) == artifact.outputs


def test_bisect_as_a_command(compiled: Compiled, tmp_path: Path) -> None:
    outcome = inside("verify", compiled.folder, "--bisect", "--format", "json")
    assert outcome.code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    assert (result["ok"], result["culprit"]) == (True, None)
    assert inside("verify", compiled.folder, "--repro", tmp_path).code == 2
    assert inside("verify", compiled.folder, "--model", tmp_path / "none.pt").code == 2

"""--dense, --calibrate and --residual: what is rounded beyond the binary layers, and on which pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bhpe_compile.runtime import Model
from tests.command import inside


def kinds(folder: Path) -> set[str]:
    with Model(folder) as model:
        return {step.kind for step in model.steps}


def test_everything_in_float(example: Path, tmp_path: Path) -> None:
    words = ("--dense", "fp32", "--residual", "fp32", "--target", "x86", "-o", tmp_path / "a")
    outcome = inside(example / "model.pt", *words)
    assert outcome.code == 0, outcome.stderr
    assert "dense layers  fp32" in outcome.stderr
    assert not kinds(tmp_path / "a") & {"Quantize", "Int8Conv2d"}
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["options"] | {"dense": "fp32", "residual": "fp32"} == report["options"]
    assert (report["calibration"], report["weights"]["int8"]) == (None, 0)
    verified = json.loads(inside("verify", tmp_path / "a", "--format", "json").stdout)
    assert (verified["ok"], verified["equal"], verified["int8_layers"]) == (True, False, 0)
    assert len(verified["float_parts"]) > 1
    shown = inside("verify", tmp_path / "a").stdout
    assert f"float layers        {verified['float_parts'][0]} and " in shown
    bisected = inside("verify", tmp_path / "a", "--bisect")
    assert bisected.code == 0, bisected.stderr
    assert f"in float, in front of signs or levels: {verified['float_parts'][0]} and " in bisected.stdout
    assert bisected.stdout.endswith("no difference beyond that\n")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["float_parts"] == {"levels": verified["float_parts"], "argmax": {}}


def test_pictures_of_the_user(example: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "one.png").write_bytes((example / "person.png").read_bytes())
    (pictures / "notes.txt").write_text("no picture")
    words = ("--calibrate", pictures, "--target", "x86", "-o", tmp_path / "a", "--format", "json")
    outcome = inside(example / "model.pt", *words)
    assert outcome.code == 0, outcome.stderr
    assert "int8, calibrated on 1 picture\n" in outcome.stderr
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["calibration"] == {"source": "user", "pictures": 1}
    assert kinds(tmp_path / "a") >= {"Quantize", "Int8Conv2d"}
    assert str(tmp_path) not in (tmp_path / "a" / "manifest.json").read_text()  # the same bytes everywhere


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--calibrate", "nowhere"), "nowhere: no such file or folder"),
        (("--calibrate", "empty"), "empty: holds no picture"),
        (("--calibrate", "person.png", "--dense", "fp32"), "--calibrate is for 8-bit layers"),
        (("--calibrate", "model.pt"), "model.pt: is not a picture"),
    ],
)
def test_what_is_refused(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("person.png", "model.pt"):
        (tmp_path / name).write_bytes((example / name).read_bytes())
    outcome = inside("model.pt", *words, "--target", "x86", "-o", "a", "-q")
    assert outcome.code in (2, 3)
    assert message in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not (tmp_path / "a").exists()

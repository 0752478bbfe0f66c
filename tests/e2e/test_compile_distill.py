"""`compile --distill`: train, compile, agreement before and after; and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("accelerate")
pytest.importorskip("matplotlib")

from bhpe_compile.cli.distill import distill_command
from bhpe_compile.frontends.checkpoint import load_model
from tests.command import inside
from tests.evaluate.made_up import write_body


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`distill` with defaults that take seconds."""
    defaults = {
        **{"samples": 8, "batch": 4, "micro_batch": 4, "workers": 0, "precision": "fp32"},
        "body": write_body(tmp_path / "body.npz"),
    }
    for parameter in distill_command.params:
        if parameter.name in defaults:
            monkeypatch.setattr(parameter, "default", defaults[parameter.name])


@pytest.fixture
def pictures(example: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("person.png", "drawn.jpg"):
        with Image.open(example / name) as picture:
            picture.save(folder / f"{name}.png")
    return folder


@pytest.mark.usefixtures("short")
def test_one_command_trains_and_compiles(example: Path, pictures: Path, tmp_path: Path) -> None:
    words = (example / "model.pt", "--target", "x86", "--distill", pictures, "-o", tmp_path / "out")
    outcome = inside(*words, "--format", "json")
    assert outcome.code == 0, outcome.stderr
    assert "8 in 2 steps of 4" in outcome.stderr
    assert "not trained in its binary form" not in outcome.stderr
    student = tmp_path / "out-student.pt"
    assert load_model(student).binarization is not None
    result = json.loads(outcome.stdout)
    assert (result["student"], result["trained_binary"]) == (str(student), True)
    before, after = result["agreement_before"], result["agreement"]
    assert before.keys() == after.keys()
    assert before["joints"]["pictures"] == after["joints"]["pictures"] == 2
    assert before["joints"]["value"] != after["joints"]["value"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["agreement"] == after
    content = student.read_bytes()
    again = inside(*words)  # nothing is trained twice
    assert again.code == 0, again.stderr
    assert f"{student}: was distilled before" in again.stderr
    assert student.read_bytes() == content
    assert re.search(r"^against full precision +untrained +distilled$", again.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--distill", "{pictures}", "--scheme", "int8"), 2, "--scheme int8 has none"),
        (("--distill", "{pictures}", "--max-drop", "2%"), 2, "leave one out"),
        (("--distill", "{pictures}", "--minutes", "0"), 2, "must be above 0"),
        (("--distill", "nowhere"), 2, "nowhere: no such folder of pictures"),
        (("--minutes", "5"), 2, "add --distill PICTURES"),
    ],
)
def test_what_is_refused(
    words: tuple[str, ...], code: int, says: str, example: Path, pictures: Path, tmp_path: Path
) -> None:
    more = [word.format(pictures=pictures) for word in words]
    for rehearsed in ((), ("--dry-run",)):
        outcome = inside(example / "model.pt", "--target", "x86", "-o", tmp_path / "out", *more, *rehearsed)
        assert (outcome.code, outcome.stdout) == (code, ""), outcome.stderr
        assert says in outcome.stderr


def test_a_binary_checkpoint_is_not_distilled_again(example: Path, pictures: Path, tmp_path: Path) -> None:
    model = example / "model-bidrn.pt"
    outcome = inside(model, "--target", "x86", "--distill", pictures, "-o", tmp_path / "out")
    assert outcome.code == 3
    assert "is binary already; compile it without --distill" in outcome.stderr

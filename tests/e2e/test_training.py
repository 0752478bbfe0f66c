"""`train`, `distill` and `eval` as a user types them, on three made-up people."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate")
pytest.importorskip("matplotlib")

from bhpe_compile.cache import CACHE_VARIABLE
from bhpe_compile.frontends.checkpoint import load_model
from tests.command import COMMAND, Outcome, bhpe, environment, inside
from tests.evaluate.made_up import write_body, write_set

SMALL = ("--batch", "4", "--micro-batch", "4", "--workers", "0", "--precision", "fp32")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """body.npz and set/."""
    folder = tmp_path_factory.mktemp("people")
    write_set(folder / "set", write_body(folder / "body.npz"))
    return folder


def train(people: Path, output: Path, *more: str) -> list[str]:
    data = ["--data", str(people / "set"), "--body", str(people / "body.npz")]
    return ["train", *data, "-o", str(output), *SMALL, *more]


@pytest.fixture(scope="module")
def model(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("model") / "model.pt"
    outcome = bhpe(*train(people, output, "--samples", "8", "--format", "json"))
    assert outcome.code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    assert result["output"] == str(output)
    assert result["images"] == 8
    assert Path(result["curve"]).is_file()
    assert "8 in 2 steps of 4" in outcome.stderr
    return output


def test_a_student_is_distilled_evaluated_and_compiled(people: Path, model: Path, tmp_path: Path) -> None:
    student = tmp_path / "student.pt"
    body = ("--body", people / "body.npz")
    outcome = bhpe(
        "distill", model, "--images", people / "set", *body, "-o", student, *SMALL, "--samples", "8", "-q"
    )
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")
    outcome = inside(
        "eval", model, student, "--data", people / "set", *body, "--no-mean-pose", "--format", "json"
    )
    assert outcome.code == 0, outcome.stderr
    rows = json.loads(outcome.stdout)["rows"]
    assert sorted(rows) == ["model.pt: full precision", "student.pt: binarized"]
    outcome = inside(student, "--target", "x86", "-o", tmp_path / "compiled", "--dry-run")
    assert outcome.code == 0, outcome.stderr
    assert "binary" in outcome.stdout


def distill_words(people: Path, model: Path, output: Path) -> tuple[str | Path, ...]:
    body = ("--body", people / "body.npz")
    return ("distill", model, "--images", people / "set", *body, "-o", output, *SMALL, "--samples", "4")


def distilled(people: Path, model: Path, output: Path, *more: str | Path) -> Outcome:
    return inside(*distill_words(people, model, output), *more)


def test_a_student_goes_on(people: Path, model: Path, tmp_path: Path) -> None:
    """From its file, or from the folder of its training; the form is the student's, whatever the default is."""
    student = tmp_path / "student.pt"
    outcome = distilled(people, model, student, "--scheme", "reactnet", "--label-weight", "1")
    assert outcome.code == 0, outcome.stderr
    assert "own boxes   75% of the crops" in outcome.stderr
    for start in (student, tmp_path / "student.pt.training"):
        more = tmp_path / f"more-{start.suffix[1:]}.pt"
        outcome = distilled(people, model, more, "--from", start)
        assert outcome.code == 0, outcome.stderr
        assert "scheme      reactnet" in outcome.stderr
        assert load_model(more).binarization == load_model(student).binarization
    kept = ("--keep-float", "backbone.layer1.*", "--keep-float", "backbone.layer1.*")
    outcome = distilled(
        people, model, tmp_path / "mixed.pt", "--from", tmp_path / "more-training.pt.training", *kept
    )
    assert outcome.code == 0, outcome.stderr
    assert re.search(r"keep float +backbone\.layer1\.\*\n", outcome.stderr)
    before, after = (load_model(tmp_path / name).binarization for name in ("student.pt", "mixed.pt"))
    assert before is not None
    assert after == before | {"keep_float": ["backbone.layer1.*"]}


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--from", "{model}"), 3, "is in full precision; --from takes a binary network"),
        (("--from", "{model}.training"), 3, "is in full precision; --from takes a binary network"),
        (("--from", "{tmp}"), 2, "holds no checkpoint.pt of a training run"),
        (("--from", "{tmp}/none.pt"), 2, "none.pt: no such student"),
        (("--from", "{model}", "--scheme", "bidrn"), 2, "--scheme and --from: the network it goes on from"),
        (
            ("--from", "{model}", "--residual-tap", "before"),
            2,
            "--residual-tap and --from: the network it goes on",
        ),
    ],
)
def test_what_a_student_cannot_go_on_from(
    words: tuple[str, ...], code: int, text: str, people: Path, model: Path, tmp_path: Path
) -> None:
    more = (word.format(model=model, tmp=tmp_path) for word in words)
    outcome = inside(*distill_words(people, model, tmp_path / "m.pt"), *more)
    assert outcome.code == code, outcome.stderr
    assert text in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not (tmp_path / "m.pt").exists()


def test_full_precision_goes_on_in_its_own_crops(people: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "more.pt"
    outcome = inside(*train(people, output, "--samples", "4", "--from", str(model), "--own-boxes", "1"))
    assert outcome.code == 0, outcome.stderr
    assert "own boxes   100% of the crops" in outcome.stderr
    (kept,) = (tmp_path / "more.pt.training").glob("boxes-*.npy")
    assert np.load(kept).shape == (3, 3, 4)


def test_stopped_from_the_keyboard_it_says_how_to_go_on(people: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.pt"
    words = train(people, output, "--samples", "40000")
    with subprocess.Popen(
        [*COMMAND, *words, "--log-json"], env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "loss" in line:
                break
        os.kill(process.pid, signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "the same command goes on from there" in rest
    assert "Traceback" not in rest
    assert not output.exists()
    assert (tmp_path / "model.pt.training" / "checkpoint.pt").is_file()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["train", "--data", "{tmp}/none", "-o", "{tmp}/m.pt"], 2, "none: no such folder"),
        (["train", "--data", "{set}", "-o", "{tmp}/no/m.pt"], 2, "no: no such folder for the output"),
        (["train", "--data", "{set}", "-o", "{tmp}/m.txt"], 2, "must end in .pt or .safetensors"),
        (
            ["train", "--data", "{set}", "-o", "{tmp}/m.pt", "--samples", "3"],
            2,
            "do not fill one batch of 64",
        ),
        (["distill", "{tmp}/none.pt", "--images", "{set}", "-o", "{tmp}/m.pt"], 2, "none.pt: no such model"),
        (["distill", "{model}", "--images", "{tmp}", "-o", "{tmp}/m.pt"], 2, "holds no picture"),
        (
            ["distill", "{model}", "--images", "{set}", "-o", "{tmp}/m.pt", "--own-boxes", "1"],
            2,
            "--own-boxes: without --label-weight all crops",
        ),
        (
            ["train", "--data", "{set}", "-o", "{tmp}/m.pt", "--own-boxes", "1"],
            2,
            "--own-boxes: a network that begins at random",
        ),
        (
            ["train", "--data", "{set}", "-o", "{tmp}/m.pt", "--loss-weight", "finger=60"],
            2,
            "--loss-weight finger=60: wants TERM=W, W at least 0; the terms and their weights are joints (1)",
        ),
        (
            ["distill", "{model}", "--images", "{set}", "-o", "{tmp}/m.pt", "--loss-weight", "fingers=-1"],
            2,
            "--loss-weight fingers=-1: wants",
        ),
    ],
)
def test_bad_requests_are_one_line(
    words: list[str],
    code: int,
    text: str,
    people: Path,
    model: Path,
    tmp_path: Path,
    body_of: tuple[str, str],
) -> None:
    places = {"tmp": tmp_path, "set": people / "set", "model": model}
    outcome = inside(*(word.format(**places) for word in words), *body_of)
    assert outcome.code == code, outcome.stderr
    assert text in outcome.stderr
    assert outcome.stderr.startswith("error: ")
    assert len(outcome.stderr.splitlines()) == 1
    assert not (tmp_path / "m.pt").exists()


@pytest.fixture
def body_of(people: Path) -> tuple[str, str]:
    return "--body", str(people / "body.npz")


def test_another_body_is_refused(people: Path, tmp_path: Path) -> None:
    other = write_body(tmp_path / "other.npz", seed=3)
    outcome = inside("train", "--data", people / "set", "--body", other, "-o", tmp_path / "m.pt")
    assert outcome.code == 3
    assert "was made with another body than other.npz" in outcome.stderr


def test_several_processes_do_not_draw(people: Path, tmp_path: Path) -> None:
    variables = environment() | {"WORLD_SIZE": "2", CACHE_VARIABLE: str(tmp_path)}
    done = subprocess.run(
        [*COMMAND, "train", "--body", str(people / "body.npz"), "-o", str(tmp_path / "m.pt")],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "several processes cannot draw people" in done.stderr

"""Accuracy of what was really compiled: `eval` on artefacts, stages, `compile --max-drop`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.evaluate.evaluate import open_body
from bhpe_compile.evaluate.frame import network_inputs
from bhpe_compile.evaluate.metrics import METRICS, measure
from bhpe_compile.evaluate.open import open_dataset
from bhpe_compile.runtime import Model
from tests.command import Outcome, inside, listing
from tests.e2e.test_verify import emulator
from tests.evaluate.made_up import write_body, write_set
from tests.examples import Compiled

MOST = ("backbone.layer[123]*", "hand_roi_net.*", "face_roi_net.*", "box_net.*")
"""Kept in full precision, so that three layers are left to decide about."""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """body.npz and set/, three made-up people."""
    folder = tmp_path_factory.mktemp("people")
    write_set(folder / "set", write_body(folder / "body.npz"))
    return folder


def evaluate(people: Path, model: Path, *more: str) -> Outcome:
    data = ("--data", people / "set", "--body", people / "body.npz", "--no-mean-pose")
    return inside("eval", model, *data, "--format", "json", *more)


def compile_within(people: Path, model: Path, output: Path, *more: str) -> Outcome:
    kept = [word for glob in MOST for word in ("--keep-float", glob)]
    data = ("--accuracy-data", people / "set", "--accuracy-body", people / "body.npz")
    return inside("compile", model, "-t", "x86", "-o", output, *kept, *data, "--format", "json", *more)


def test_an_artefact_is_run_and_measured(compiled: Compiled, people: Path) -> None:
    """The same figures as by the runtime and the metrics alone, to the last bit."""
    outcome = evaluate(people, compiled.folder)
    assert outcome.code == 0, outcome.stderr
    row = json.loads(outcome.stdout)["rows"]["compiled"]
    assert row["executed"] == "in this process"
    bodies, data = open_body(people / "body.npz"), open_dataset(people / "set")
    errors = []
    with Model(compiled.folder) as model:
        for i in range(len(data)):
            found = bodies.predicted(
                model.run(network_inputs(model.interface, data.image(i)[None])), model.interface
            )
            errors.append(measure(found, bodies.labelled([data.labels(i)]), bodies.regions))
    assert set(row["figures"]) == set(METRICS)
    for name, value in row["figures"].items():
        # batches of another size are posed by other matrix products
        assert value == pytest.approx(np.mean([one[name] for one in errors]), abs=1e-3)


def test_stages_of_a_checkpoint(example: Path, people: Path) -> None:
    outcome = evaluate(people, example / "model.pt", "--target", "x86", "--count", "2")
    assert outcome.code == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert document["order"] == ["full precision", "binarized", "frozen", "compiled"]
    assert document["rows"]["frozen"]["figures"] == document["rows"]["compiled"]["figures"]
    figures = {name: row["figures"]["mpvpe"] for name, row in document["rows"].items()}
    gaps = {(gap["against"], gap["row"]): gap["difference"] for gap in document["differences"]}
    for (before, after), gap in gaps.items():
        assert gap == pytest.approx(figures[after] - figures[before], abs=1e-9)
    assert len(gaps) == 3
    assert "compile" in outcome.stderr or "lower" in outcome.stderr


@emulator
def test_code_for_another_cpu_is_emulated_and_says_so(compiled_arm: Compiled, people: Path) -> None:
    outcome = inside(
        *("eval", compiled_arm.folder, "--data", people / "set", "--body", people / "body.npz"),
        *("--no-mean-pose", "--count", "1"),
    )
    assert outcome.code == 0, outcome.stderr
    assert "emulated, so only 1 people were evaluated" in outcome.stderr
    assert "MPVPE, mm" in outcome.stdout


def test_layers_are_kept_until_the_budget_holds(example: Path, people: Path, tmp_path: Path) -> None:
    """A budget between both layers binary and none of them: what it takes is told, and holds for the artefact."""
    outcome = compile_within(people, example / "model.pt", tmp_path / "free", "--max-drop", "10000%")
    assert outcome.code == 0, outcome.stderr
    free = json.loads(outcome.stdout)["accuracy"]
    assert free["kept"] == []
    assert free["layers"] == 2
    drop = {v["metric"]: v["value"] - v["baseline"] for v in free["verdicts"]}
    worst = max((name for name in drop if METRICS[name].unit), key=lambda name: drop[name])
    assert drop[worst] > 1, "the made-up people are such that binarizing costs"
    allowed = f"{worst}={0.5 * drop[worst]:.6f}mm"
    outcome = compile_within(people, example / "model.pt", tmp_path / "held", "--max-drop", allowed)
    assert outcome.code == 0, outcome.stderr
    held = json.loads(outcome.stdout)["accuracy"]
    (verdict,) = held["verdicts"]
    assert verdict["passed"]
    assert verdict["value"] - verdict["baseline"] <= 0.5 * drop[worst] + 1e-4
    assert held["measured"] == "compiled"
    kept = [layer for one in held["kept"] for layer in one["layers"]]
    assert 1 <= len(kept) <= 2
    assert all(layer.startswith("backbone.layer4.0.") for layer in kept)
    options = json.loads((tmp_path / "held" / "manifest.json").read_text())["options"]
    assert options["keep_float"] == [*MOST, *kept]
    row = json.loads(evaluate(people, tmp_path / "held").stdout)["rows"]["compiled"]
    assert row["figures"][worst] == pytest.approx(verdict["value"], abs=1e-9)


def test_a_budget_nothing_can_hold_writes_nothing(example: Path, people: Path, tmp_path: Path) -> None:
    outcome = compile_within(people, example / "model.pt", tmp_path / "out", "--max-drop", "0%")
    assert outcome.code == 5, outcome.stderr
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith(
        "error: even with all 2 layers in higher precision, accuracy drops by more than allowed: "
    )
    assert "the baseline" in last
    assert listing(tmp_path) == []


def test_a_budget_needs_full_precision(example: Path, people: Path, tmp_path: Path) -> None:
    people_options = ("--accuracy-data", people / "set", "--accuracy-body", people / "body.npz")
    outcome = inside(
        *("compile", example / "model-bidrn.pt", "-t", "x86", "-o", tmp_path / "out", "--max-drop", "5%"),
        *people_options,
    )
    assert outcome.code == 2
    assert "is binary already" in outcome.stderr.splitlines()[-1]
    assert listing(tmp_path) == []

"""Reports of really compiled models: every figure is what the files hold."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import pytest

from bhpe_compile.cli.report import time_artifact
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.report.artifact import read_artifact
from bhpe_compile.report.count import count_network
from bhpe_compile.report.layout import packing
from bhpe_compile.report.report import report_artifact, report_checkpoint, target_of
from tests.command import bhpe, inside
from tests.examples import Compiled


def on_disk(folder: Path) -> dict[str, int]:
    """Sizes by name, as the file system tells them."""
    return {path.name: path.stat().st_size for path in folder.iterdir()}


@pytest.mark.parametrize("which", ["compiled", "compiled_arm"])
def test_every_byte_is_attributed(which: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(which).folder
    artifact = read_artifact(folder)
    assert artifact.files == on_disk(folder)
    assert sum(part.nbytes for part in artifact.parts) == sum(on_disk(folder).values())
    assert all(part.nbytes >= 0 for part in artifact.parts)
    weights = [part for part in artifact.parts if part.file == "weights.bin"]
    others = sum(part.nbytes for part in weights if not part.layer)
    assert artifact.costs.layer_bytes + others == on_disk(folder)["weights.bin"]
    assert others < 0.05 * on_disk(folder)["weights.bin"]  # nearly all of it belongs to a layer
    assert artifact.device_bytes == on_disk(folder)["model.so"] + on_disk(folder)["weights.bin"]


@pytest.mark.parametrize("which", ["compiled", "compiled_arm"])
def test_prediction_is_what_was_compiled(which: str, example: Path, request: pytest.FixtureRequest) -> None:
    """Layers, precisions, MACs exactly; packed weights to the byte; the constants beside them within 10 %."""
    artifact = read_artifact(request.getfixturevalue(which).folder)
    target = target_of(artifact)
    assert target is not None
    foretold = report_checkpoint(example / "model.pt", "bidrn", artifact.target, None).after
    real = {layer.name: layer for layer in artifact.costs.layers if layer.trained}
    assert set(real) == {layer.name for layer in foretold.layers}
    kept = {
        (step["layer"], role): nbytes
        for step in artifact.report["steps"]
        for role, _, nbytes in step["constants"]
    }
    for one in foretold.layers:
        found = real[one.name]
        assert (one.precision, one.weights, one.macs) == (found.precision, found.weights, found.macs), (
            one.name
        )
        assert (one.inputs, one.outputs, one.kernel) == (found.inputs, found.outputs, found.kernel), one.name
        assert packing(one, target.isa).nbytes == kept[one.name, "weight"], one.name
    assert foretold.layer_bytes == pytest.approx(on_disk(artifact.path)["weights.bin"], rel=0.10)


def test_paper_counts_are_those_of_the_preset(compiled: Compiled, example: Path) -> None:
    """The artefact's own layers, and the preset counted without any checkpoint, are the same network."""
    report = report_artifact(compiled.folder)
    counted = count_network(load_model(example / "model.pt").spec)
    assert report.paper is not None
    assert report.before.layers == counted.layers
    assert report.paper.original.params_total == counted.parameters
    assert round(report.after.operations().paper / 1e9, 4) == report.paper.compiled.ops_paper_g


def test_json_and_csv(compiled: Compiled) -> None:
    outcome = bhpe("report", compiled.folder, "--format", "json")
    assert (outcome.code, outcome.stderr) == (0, "")
    data = json.loads(outcome.stdout)
    assert (data["source"], data["target"], data["predicted"]) == ("artefact", "x86", False)
    assert data["bytes"]["files"] == on_disk(compiled.folder)
    assert sum(part["bytes"] for part in data["bytes"]["parts"]) == sum(on_disk(compiled.folder).values())
    assert data["latency"] is None
    assert data["notes"]
    rows = list(csv.DictReader(io.StringIO(inside("report", compiled.folder, "--format", "csv").stdout)))
    assert [row["name"] for row in rows] == [layer["name"] for layer in data["layers"]]
    assert sum(int(row["bytes"]) for row in rows) == data["bytes"]["layers"]


def test_page_with_verification_and_picture(compiled: Compiled, example: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    words = ("--format", "html", "-o", page, "--verify", "--picture", example / "person.png")
    outcome = inside("report", compiled.folder, *words)
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout == ""
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) < 2_000_000
    assert "data:image/png;base64," in text
    assert ">Verified<" in text
    assert "http://" not in text
    assert "https://" not in text


def test_measured_steps_go_to_their_layers(compiled: Compiled) -> None:
    timing = time_artifact(compiled.folder, 2)
    report = report_artifact(compiled.folder, timing=timing)
    assert report.latency is not None
    assert report.latency["rounds"] == 2
    measured = sum(layer.ms or 0 for layer in report.after.layers)
    assert 0 < measured <= sum(step.ms for step in timing.steps)
    assert all(layer.ms for layer in report.after.layers if layer.trained)


@pytest.mark.parametrize("flag", ["--measure", "--verify"])
def test_what_needs_an_artefact_says_so(example: Path, flag: str) -> None:
    outcome = inside("report", example / "model.pt", flag)
    assert outcome.code == 2
    assert f"{flag} needs a compiled model" in outcome.stderr


@pytest.mark.parametrize("words", [("--target", "arm"), ("--scheme", "bnn"), ("--dense", "fp32")])
def test_what_an_artefact_says_itself(words: tuple[str, str], compiled: Compiled) -> None:
    outcome = inside("report", compiled.folder, *words)
    assert outcome.code == 2
    assert f"{words[0]} is for checkpoints and networks" in outcome.stderr


def test_a_report_of_an_earlier_version_is_one_line(copy: Path) -> None:
    report = json.loads((copy / "report.json").read_text())
    for step in report["steps"]:
        del step["constants"]
    content = json.dumps(report).encode()
    (copy / "report.json").write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["report.json"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    outcome = inside("report", copy)
    assert outcome.code == 3
    assert "is damaged or of an earlier version" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_compare_as_a_gate(compiled: Compiled, compiled_arm: Compiled, example: Path) -> None:
    sides = (example / "model.pt", compiled.folder, compiled_arm.folder)
    outcome = inside("compare", *sides, "--max-size", "1GB", "--max-ops", "1T", "--format", "json")
    assert (outcome.code, outcome.stderr) == (0, "")
    data = json.loads(outcome.stdout)
    assert [one["bytes"] for one in data["subjects"]] == [
        (example / "model.pt").stat().st_size,
        *(on_disk(one)["model.so"] + on_disk(one)["weights.bin"] for one in sides[1:]),
    ]
    assert data["missed"] == []
    missed = inside("compare", *sides, "--max-size", "1kB", "--max-ops", "1k")
    assert missed.code == 5
    assert len(missed.stderr.splitlines()) == 4
    assert all(
        line.startswith("error: ") and "is more than --max-" in line for line in missed.stderr.splitlines()
    )
    assert "LAYER BY LAYER" in missed.stdout


def test_compare_measures_in_turn_and_reads_accuracy(compiled: Compiled, copy: Path) -> None:
    (copy / "accuracy.json").write_text(json.dumps({"metrics": {"mpvpe": {"value": 91.2}}}))
    words = ("--measure", "--rounds", "3", "--max-latency-ratio", "1000", "--format", "json")
    outcome = inside("compare", compiled.folder, copy, *words)
    assert outcome.code == 0, outcome.stderr
    data = json.loads(outcome.stdout)
    assert data["changes"] == []
    assert data["subjects"][1]["accuracy"] == {"mpvpe": 91.2}
    assert data["ratios"][0]["latency"] > 0
    assert inside("compare", compiled.folder, copy, *words[:4], "0.000001").code == 5


def test_compare_usage(compiled: Compiled, compiled_arm: Compiled) -> None:
    for words, what in (
        ((compiled.folder,), "needs two or more"),
        ((compiled.folder, "nowhere"), "no such model or artefact"),
        ((compiled.folder, compiled.folder, "--max-size", "big"), "is no amount like 5MB"),
        ((compiled.folder, compiled.folder, "--max-latency-ratio", "1"), "needs --measure"),
        ((compiled.folder, compiled.folder, "--accuracy", "C=x"), "must be A, B followed by"),
        ((compiled_arm.folder, compiled_arm.folder, "--measure"), "none of them runs on this machine"),
    ):
        outcome = inside("compare", *words)
        assert outcome.code == 2, words
        assert what in outcome.stderr

"""`explain` and the options of `compile` that look inside, on the example."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from bhpe_compile.compiler.plan import POINTS, list_passes
from tests.command import inside, listing
from tests.examples import Compiled


def test_every_layer_is_explained_down_to_its_kernel(compiled: Compiled) -> None:
    outcome = inside("explain", compiled.folder, "--format", "json")
    assert outcome.code == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    report = json.loads((compiled.folder / "report.json").read_text())
    assert [one["name"] for one in found] == [layer["name"] for layer in report["layers"]]
    passes = {one.name for one in list_passes()}
    for one in found:
        main = one["calls"][-1]
        assert main["kind"].startswith(
            {"binary": "Binary"}.get(one["precision"], ("Int8", "FixedPointLinear"))
        ), one["name"]
        assert (main["tile"] is not None) == main["kind"].startswith("Binary")
        assert main["constant_bytes"] >= one["stored_bytes"]
        spoke = {decision["pass_name"] for decision in one["decisions"]}
        assert spoke | set(one["silent"]) == passes
        assert "select-kernels" in spoke
        stages = [decision["stage"] for decision in one["decisions"]]
        assert stages == sorted(stages, key=["binarize", "fold", "lower"].index)
        if not one["name"].startswith("Gemm_"):  # formulas of rotations, which torch has no layer for
            assert stages[0] == "binarize"


def test_why_a_layer_stayed_dense(compiled: Compiled) -> None:
    outcome = inside("explain", compiled.folder, "backbone.conv1")
    assert outcome.code == 0, outcome.stderr
    assert "stem: never binary" in outcome.stdout
    assert "Int8Conv2d" in outcome.stdout


def test_unknown_names_and_damaged_reports(compiled: Compiled, copy: Path) -> None:
    outcome = inside("explain", compiled.folder, "backbone.conv2")
    assert outcome.code == 2
    assert "did you mean backbone." in outcome.stderr
    (copy / "report.json").write_text("{}")
    assert inside("explain", copy).code == 3


def test_dumps_after_every_pass_do_not_change_the_result(
    compiled: Compiled, example: Path, tmp_path: Path
) -> None:
    words = ("--dump-ir-after", "all", "--explain", "backbone.layer1.0.conv1", "--explain", "nothing")
    outcome = inside(
        example / "model.pt",
        "--target",
        "x86",
        "-o",
        tmp_path / "a",
        *words,
        "--format",
        "json",
        "--dump-onnx",
    )
    assert outcome.code == 0, outcome.stderr
    assert "no layer is called 'nothing'" in outcome.stderr
    assert [one["name"] for one in json.loads(outcome.stdout)["explain"]] == ["backbone.layer1.0.conv1"]
    texts = sorted((tmp_path / "a-ir").glob("*.txt"))
    points = {*POINTS, *(one.name for one in list_passes())}
    assert {path.stem.split("_", 2)[2] for path in texts} == points
    assert [int(path.name[:3]) for path in texts] == list(range(len(points)))
    for path in (tmp_path / "a-ir").glob("*.onnx"):
        onnx.checker.check_model(onnx.load(path))
    for name in ("model.so", "weights.bin", "model.onnx", "report.json"):
        assert (tmp_path / "a" / name).read_bytes() == (compiled.folder / name).read_bytes(), name


@pytest.mark.parametrize("after", ["plain", "fold-batch-norm"])
def test_stop_writes_that_graph_only(after: str, example: Path, tmp_path: Path) -> None:
    outcome = inside("compile", example / "model.pt", "--target", "x86", "--stop-after", after, cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    (file,) = outcome.stdout.splitlines()
    assert file.endswith(f"_{after}.txt")
    assert listing(tmp_path) == ["dist", "dist/model-x86-ir", file]
    assert "no artefact was written" in outcome.stderr

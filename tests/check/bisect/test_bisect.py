"""A broken pass, a broken weight and broken machine code are found by name; what is right is left in peace."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bhpe_compile.artifact import load_reference
from bhpe_compile.check.bisect import BisectResult, bisect
from bhpe_compile.check.bisect.stages import Remade, options_of, remake
from bhpe_compile.check.bisect.statistics import compare_floats, compare_signs
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import compile_model
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.passes.fold import fold_batch_norm, fold_passes, quantize_dense
from bhpe_compile.passes.fold.fold_batch_norm import FoldBatchNorm
from bhpe_compile.processes import python_command
from bhpe_compile.runtime import Model
from tests.command import ROOT, environment
from tests.examples import Compiled

bisect_module = sys.modules["bhpe_compile.check.bisect.search"]

LAYER = "backbone.layer2.0.conv2"


@pytest.fixture(scope="module")
def made(example: Path, compiled: Compiled) -> tuple[Path, Path]:
    """A checkpoint and its artefact."""
    return example / "model.pt", compiled.folder


@pytest.fixture(scope="module")
def remade(made: tuple[Path, Path]) -> Remade:
    """The checkpoint brought to model.onnx again."""
    manifest = json.loads((made[1] / "manifest.json").read_text())
    return remake(made[0], options_of(manifest), load_reference(made[1]).inputs)


def passes(result: BisectResult) -> list[str]:
    return [stage.name for stage in result.stages]


def test_no_difference(made: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, artefact = made
    result = bisect(artefact, checkpoint=checkpoint, repro=tmp_path / "repro")
    assert result.ok, result.culprit
    assert (result.remarks, result.repro) == ((), ())
    fold = [one.name for one in fold_passes({}, half=True)]
    assert passes(result) == ["onnx", "onnxsim", *fold, "model.onnx", "program"]
    assert all(stage.compared > 100 for stage in result.stages)
    assert sum(stage.flips for stage in result.stages) < 1e-4 * sum(stage.signs for stage in result.stages)
    assert not (tmp_path / "repro").exists()
    alone = bisect(artefact)
    assert (alone.ok, passes(alone)) == (True, ["program"])


def test_the_users_own_calibration_is_made_again(
    made: tuple[Path, Path], remade: Remade, tmp_path: Path
) -> None:
    """Of one photograph alone; by default its mirror image is shown as well."""
    picture, artefact = ROOT / "bhpe_compile" / "data" / "person.png", tmp_path / "model"
    compile_model(made[0], artefact, CompileOptions("x86", calibrate=(picture,)))
    assert (artefact / "model.onnx").read_bytes() != remade.snapshots[-1].content
    result = bisect(artefact, checkpoint=made[0], calibrate=(picture,))
    assert (result.ok, result.remarks) == (True, ())


def test_a_broken_pass(made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fold-batch-norm loses the sign of gamma of one layer."""
    checkpoint, artefact = made
    right = FoldBatchNorm._binary

    def wrong(self: FoldBatchNorm, graph: Any, node: Any) -> Any:
        affine = fold_batch_norm._affine
        if node.name == LAYER:
            monkeypatch.setattr(fold_batch_norm, "_affine", lambda norm: _negated(affine(norm)))
        try:
            return right(self, graph, node)
        finally:
            monkeypatch.setattr(fold_batch_norm, "_affine", affine)

    monkeypatch.setattr(FoldBatchNorm, "_binary", wrong)
    result = bisect(artefact, checkpoint=checkpoint, repro=tmp_path)
    assert result.culprit is not None
    assert (result.culprit.pass_name, result.culprit.node) == ("fold-batch-norm", LAYER)
    assert passes(result)[-1] == "fold-batch-norm"
    gap = result.culprit.difference
    assert gap is not None
    assert gap.beyond > gap.elements // 2
    assert result.culprit.notes == ("batch norm folded into scale and bias",)
    assert result.remarks  # the artefact was made by a right compiler
    # the reproduction is one layer, and shows the same difference by itself
    model = onnx.load(tmp_path / "model.onnx")
    assert [node.name for node in model.graph.node] == [LAYER]
    shown = subprocess.run(
        python_command("run.py"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.startswith(f"{gap.beyond} of {gap.elements} elements differ")
    assert LAYER in (tmp_path / "README.md").read_text()


def _negated(affine: Any) -> Any:
    return (-affine[0], *affine[1:])


def test_a_pass_that_rounds_too_much(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, artefact = made
    steps = quantize_dense.weight_steps
    monkeypatch.setattr(quantize_dense, "weight_steps", lambda weight, axis: steps(weight, axis) * 20)
    result = bisect(artefact, checkpoint=checkpoint)
    assert result.culprit is not None
    assert (result.culprit.pass_name, result.culprit.node) == ("quantize-dense", "backbone.conv1")


def sign_again(artefact: Path, name: str, content: bytes | bytearray) -> None:
    """Replace a file of an artefact, and its hash in the manifest."""
    (artefact / name).write_bytes(content)
    manifest = json.loads((artefact / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (artefact / "manifest.json").write_text(json.dumps(manifest))


def damage(artefact: Path, folder: Path, layer: str, role: str) -> Path:
    """A copy with one bit of a constant flipped and the manifest signed again."""
    shutil.copytree(artefact, folder)
    with Model(folder) as model:
        step = next(s for s in model.steps if s.layer == layer and role in s.roles)
        offset = step.arguments[step.argument(role)].offset
    weights = bytearray((folder / "weights.bin").read_bytes())
    weights[64 + offset + 3] ^= 0x40
    sign_again(folder, "weights.bin", weights)
    return folder


@pytest.mark.parametrize(("layer", "role"), [(LAYER, "weight"), ("backbone.conv1", "bias")])
def test_a_broken_constant(layer: str, role: str, made: tuple[Path, Path], tmp_path: Path) -> None:
    broken = damage(made[1], tmp_path / "broken", layer, role)
    result = bisect(broken, repro=tmp_path / "repro")
    assert result.culprit is not None
    assert (result.culprit.pass_name, result.culprit.node) == ("weights.bin", layer)
    assert result.culprit.what == f"{role} of {layer}"
    assert result.culprit.difference is not None
    assert result.culprit.difference.beyond == 1
    for artefact, right in ((broken, False), (made[1], True)):
        shown = subprocess.run(
            python_command("step.py", artefact),
            cwd=tmp_path / "repro",
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        largest = float(shown.stdout.partition("reference: ")[2].partition(",")[0])
        assert (largest < 1e-2) == right, shown.stdout  # float16 results round another way now and then


def test_another_network_in_the_artefact(
    made: tuple[Path, Path], remade: Remade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """model.onnx that does not come from the checkpoint: found behind the last pass."""
    checkpoint, artefact = made
    needed = ("onnx", "fold-threshold", "clean-up")  # the stages between only cost time here
    few = replace(remade, snapshots=tuple(s for s in remade.snapshots if s.name in needed))
    monkeypatch.setattr(bisect_module, "remake", lambda *_: few)  # what it gave for this very artefact
    shutil.copytree(artefact, tmp_path / "other")
    file = tmp_path / "other" / "model.onnx"
    model = onnx.load(file)
    bias = next(t for t in model.graph.initializer if t.name == f"{LAYER}.folded.bias")
    array = onnx.numpy_helper.to_array(bias) + 1
    bias.CopyFrom(onnx.numpy_helper.from_array(array, bias.name))
    sign_again(tmp_path / "other", "model.onnx", model.SerializeToString())
    result = bisect(tmp_path / "other", checkpoint=checkpoint)
    assert result.culprit is not None
    assert (result.culprit.pass_name, result.culprit.node) == ("model.onnx", LAYER)
    assert result.remarks


def test_a_folder_of_somebody_else_is_refused_first(made: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        bisect(made[1], repro=tmp_path)


def test_an_artefact_that_was_not_made_from_a_checkpoint() -> None:
    with pytest.raises(InputError, match="was not made from a checkpoint"):
        options_of({"options": {"target": "x86", "dense": "int8", "residual": "fp16"}})


def test_bounds() -> None:
    x = np.array([1.0, -2.0, 0.0])
    assert compare_floats("x", x, x, 0.0).ok
    assert compare_floats("x", x * (1 + 1e-6), x).ok
    far = compare_floats("x", x + np.array([0, 0, 1e-2]), x)
    assert (far.beyond, far.first) == (1, (2,))
    assert not compare_floats("x", np.array([np.nan, -2, 0]), x).ok
    signs, margin = x >= 0, np.array([1.0, -2.0, 1e-6])
    near = compare_signs("x", np.array([True, False, False]), signs, margin)
    assert (near.ok, near.flips) == (True, 1)
    assert not compare_signs("x", np.array([False, False, True]), signs, margin).ok

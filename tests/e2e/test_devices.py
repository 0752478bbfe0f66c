"""Both embedded models for every kind of CPU, executed: integers exactly, floats within the tolerance of `verify`.

A model is folded once, by the command that compiles it for x86; for each CPU its model.onnx is lowered, compiled and
linked, as the command does from there on. The binary one for WebAssembly is that of the tests in a browser.
"""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from bhpe_compile.artifact import write_artifact
from bhpe_compile.check.verify import verify
from bhpe_compile.passes.base import PassManager, ensured_by
from bhpe_compile.passes.fold import fold_passes
from bhpe_compile.passes.lower import generate, lower_passes
from bhpe_compile.targets import Target, get_target
from tests.examples import Compiled
from tests.kept import KeptWorkers

OTHERS = ("arm-a53", "arm-a76", "armv7", "riscv64", "riscv64-v", "wasm32")
"""`arm` and x86 are compiled by most other tests."""


def skip_without(emulator: str | None) -> None:
    """Skip, saying why, where nothing runs its code."""
    there = find_spec("wasmtime") if emulator == "wasmtime" else shutil.which(emulator or "")
    if not there:
        pytest.skip(f"{emulator} is not here: the code is not run")


def for_target(artefact: Path, target: Target, folder: Path, workers: KeptWorkers) -> Path:
    """The artefact of the same model.onnx for another CPU."""
    source = artefact / "model.onnx"
    model = ir.load(source)
    passes = lower_passes(target.measured_tiles(), target.isa)
    PassManager(passes, ensured_by(fold_passes())).run(model)
    program = generate(model, target, workers).program
    reference = dict(np.load(artefact / "reference.npz"))
    options = json.loads((artefact / "manifest.json").read_text())["options"]
    write_artifact(folder, program, target, source.read_bytes(), {}, reference, {"options": options})
    return folder


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("model", "binary_layers"), [("compiled", 46), ("compiled_bidrn", 38)])
def test_compiled_and_executed(
    name: str,
    model: str,
    binary_layers: int,
    kept_workers: KeptWorkers,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    target = get_target(name)
    skip_without(target.emulator)
    if (name, model) == ("wasm32", "compiled_bidrn"):
        folder = request.getfixturevalue("compiled_web").folder
    else:
        one: Compiled = request.getfixturevalue(model)
        folder = for_target(one.folder, target, tmp_path / "out", kept_workers)
    found = verify(folder)
    assert found.executed == target.emulator
    assert found.ok
    assert found.binary_exact
    assert found.int8_exact
    assert found.binary_layers == binary_layers
    assert found.int8_layers > 10

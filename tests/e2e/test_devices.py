"""Both embedded models for every kind of CPU, executed: integers exactly, floats within the tolerance of `verify`."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from bhpe_compile.targets import get_target
from tests.command import bhpe

OTHERS = ("arm-a53", "arm-a76", "armv7", "riscv64", "riscv64-v", "wasm32")
"""`arm` and x86 are compiled by most other tests."""


def skip_without(emulator: str | None) -> None:
    """Skip, saying why, where nothing runs its code."""
    there = find_spec("wasmtime") if emulator == "wasmtime" else shutil.which(emulator or "")
    if not there:
        pytest.skip(f"{emulator} is not here: the code is not run")


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("model", "binary_layers"), [("model.pt", 46), ("model-bidrn.pt", 38)])
def test_compiled_and_executed(
    name: str, model: str, binary_layers: int, example: Path, tmp_path: Path
) -> None:
    target = get_target(name)
    skip_without(target.emulator)
    outcome = bhpe(example / model, "--target", name, "-o", tmp_path / "out", "--verify", "--format", "json")
    assert outcome.code == 0, outcome.stderr
    found = json.loads(outcome.stdout)["verification"]
    assert found["executed"] == target.emulator
    assert found["ok"] is True
    assert found["binary_exact"] is True
    assert found["int8_exact"] is True
    assert found["binary_layers"] == binary_layers
    assert found["int8_layers"] > 10

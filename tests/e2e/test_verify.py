"""`verify`: what was compiled is right, here and under emulation, and what is wrong is found."""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.command import inside
from tests.examples import Compiled

emulator = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None and find_spec("unicorn") is None,
    reason="runs AArch64 code: needs qemu-aarch64 (Debian: qemu-user) or the unicorn package",
)


@pytest.mark.parametrize("target", ["compiled", pytest.param("compiled_arm", marks=emulator)])
def test_compiled_model_is_right(target: str, request: pytest.FixtureRequest) -> None:
    one: Compiled = request.getfixturevalue(target)
    outcome = inside("verify", one.folder, "--format", "json")
    assert outcome.code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    assert result["ok"] is True
    assert result["binary_exact"] is True
    assert 0 <= result["flip_rate"] < 0.01
    assert result["max_abs_error"] >= 0


def test_table(compiled: Compiled) -> None:
    outcome = inside("verify", compiled.folder)
    assert outcome.code == 0, outcome.stderr
    assert "yes: the library computes what model.onnx computes" in outcome.stdout
    assert f"not checked here: bhpe-compile eval {compiled.folder}" in outcome.stdout


def test_the_largest_difference_has_an_output_and_a_unit(compiled: Compiled) -> None:
    result = json.loads(inside("verify", compiled.folder, "--format", "json").stdout)
    if result["max_abs_error"] == 0:
        assert (result["largest_output"], result["largest_unit"]) == ("", "")
        return
    largest = result["outputs"][result["largest_output"]]["forced"]
    assert largest == result["max_abs_error"] == max(one["forced"] for one in result["outputs"].values())
    shown = inside("verify", compiled.folder).stdout
    assert f"{result['max_abs_error']:.2e} {result['largest_unit']}, {result['largest_output']}" in shown


def test_wrong_weights_are_found(copy: Path) -> None:
    """Weights exchanged together with their checksum: only computing can tell."""
    weights = copy / "weights.bin"
    content = bytearray(weights.read_bytes())
    for k in range(len(content) // 2, len(content), 97):  # well behind the header, which names the library
        content[k] ^= 0x10
    weights.write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["weights.bin"]["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    outcome = inside("verify", copy, "--format", "json")
    assert outcome.code == 4, outcome.stderr
    assert json.loads(outcome.stdout)["ok"] is False
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "first difference" in last
    assert "Traceback" not in outcome.stderr


def test_what_rounding_costs_is_told_output_by_output(compiled: Compiled) -> None:
    outcome = inside("verify", compiled.folder, "-v")
    lines = [line for line in outcome.stdout.splitlines() if line.endswith("by 8-bit and float16")]
    document = json.loads(inside("verify", compiled.folder, "--format", "json").stdout)
    assert len(lines) == len(document["outputs"])
    assert set(document["rounding"]) == {"flip_rate", *document["outputs"]}
    assert 0 < document["rounding"]["flip_rate"] < 1
    assert document["int8_exact"]
    assert document["int8_layers"] > 0

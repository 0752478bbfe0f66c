"""`verify`: what was compiled is right, here and under emulation, and what is wrong is found."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.check.artefacts import weigh_again
from tests.command import inside
from tests.examples import Compiled

emulator = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None and find_spec("unicorn") is None,
    reason="runs AArch64 code: needs qemu-aarch64 (Debian: qemu-user) or the unicorn package",
)
emulator32 = pytest.mark.skipif(shutil.which("qemu-arm") is None, reason="needs qemu-arm (Debian: qemu-user)")

EQUAL: dict[str, Any] = {"ok": True, "equal": True, "binary_exact": True, "int8_exact": True} | {
    "first_difference": None,
    "float_parts": [],
    "differing": 0,
    "boxes": 3,
    "max_abs_error": 0.0,  # what follows the last level, too
}
"""What `verify --format json` says of Hand4Whole, unless it was compiled with float layers."""


BIDRN, INT8 = {"binary": 38, "int8": 28}, {"binary": 0, "int8": 60}
LAYERS = {
    "compiled": {"binary": 46, "int8": 20},
    "compiled_bidrn": BIDRN,
    "compiled_bidrn_arm": BIDRN,
    "compiled_int8": INT8,
    "compiled_int8_armv7": INT8,
}


def check_equal(one: Compiled, *words: str | Path, pictures: int, binary: int, int8: int) -> None:
    outcome = inside("verify", one.folder, "--format", "json", *words)
    assert outcome.code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    assert {key: result[key] for key in EQUAL} == EQUAL, result["outputs"]
    assert (result["pictures"], result["binary_layers"], result["int8_layers"]) == (pictures, binary, int8)
    assert result["values"] > pictures * 100_000


@pytest.mark.parametrize("artefact", ["compiled", "compiled_bidrn", "compiled_int8"])
def test_every_bit_is_equal(artefact: str, request: pytest.FixtureRequest) -> None:
    check_equal(request.getfixturevalue(artefact), pictures=2, **LAYERS[artefact])


@pytest.mark.parametrize(
    "artefact",
    [
        pytest.param("compiled_bidrn_arm", marks=emulator),
        pytest.param("compiled_int8_armv7", marks=emulator32),
    ],
)
def test_every_bit_is_equal_on_another_cpu(
    artefact: str, example: Path, request: pytest.FixtureRequest
) -> None:
    one, picture = request.getfixturevalue(artefact), example / "drawn.jpg"
    check_equal(one, "--picture", picture, pictures=1, **LAYERS[artefact])


def test_table(compiled: Compiled) -> None:
    outcome = inside("verify", compiled.folder)
    assert outcome.code == 0, outcome.stderr
    assert "yes: the library computes what model.onnx computes, for 2 inputs" in outcome.stdout
    assert f"not checked here: bhpe-compile eval {compiled.folder}" in outcome.stdout
    assert " 8-bit layers, 3 boxes, " in outcome.stdout


def test_the_difference_of_every_output_is_told(compiled: Compiled) -> None:
    result = json.loads(inside("verify", compiled.folder, "--format", "json").stdout)
    assert result["max_abs_error"] == max(result["outputs"].values())
    lines = inside("verify", compiled.folder, "-v").stdout.splitlines()
    for name, gap in result["outputs"].items():
        assert [line.split()[1] for line in lines if line.split()[0] == name] == [f"{gap:.2e}"]


def test_wrong_weights_are_found(copy: Path) -> None:
    """Weights exchanged together with their checksums: only computing can tell."""
    weights = copy / "weights.bin"
    content = bytearray(weights.read_bytes())
    for k in range(len(content) // 2, len(content), 97):  # well behind the header, which names the library
        content[k] ^= 0x10
    weigh_again(copy, content)
    outcome = inside("verify", copy, "--format", "json")
    assert outcome.code == 4, outcome.stderr
    result = json.loads(outcome.stdout)
    assert (result["ok"], result["equal"]) == (False, False)
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert f"first difference: {result['first_difference']}" in last
    assert "Traceback" not in outcome.stderr

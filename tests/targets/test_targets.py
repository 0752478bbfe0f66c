"""Targets are data: complete, distinct, buildable by name."""

from __future__ import annotations

import json
import subprocess

import pytest

from bhpe_compile.errors import UsageError
from bhpe_compile.processes import python_command
from bhpe_compile.targets import PRESETS, get_target, list_targets
from bhpe_compile.targets.isa import AVX2, AVX512, NEON, NEON32, NEON_DOT, RVV, SCALAR, SIMD128
from tests.command import environment

ASKED = {
    **{"x86": AVX2, "x86-avx512": AVX512, "arm": NEON, "arm-a53": NEON, "arm-a76": NEON_DOT},
    **{"armv7": NEON32, "riscv64": SCALAR, "riscv64-v": RVV, "wasm32": SIMD128},
}


def test_asked_targets_are_there() -> None:
    assert {name: get_target(name).isa for name in ASKED} == ASKED
    assert [target.name for target in list_targets()] == list(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_fields_agree(name: str) -> None:
    target = get_target(name)
    assert target.name == name
    assert target.llvm["mtriple"] == target.triple
    assert target.triple.startswith(target.family)
    assert target.zig[0] == "-target"
    assert ".2.28" in target.zig[1] or target.family == "wasm32"
    assert len(set(target.requires)) == len(target.requires)
    assert json.loads(json.dumps(target.to_json()))["isa"] == target.isa.name


def test_drivers_that_are_emulated_are_static() -> None:
    """An emulator has no libraries of the target's."""
    for target in list_targets():
        assert target.emulator in (None, "wasmtime") or "musl" in target.zig_driver[1]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        *(("x68", "x86"), ("arm-a67", "arm-a76"), ("ARM", "arm"), ("avx512", "x86-avx512")),
        *(("aarch64", "arm"), ("arm64", "arm"), ("armhf", "armv7"), ("amd64", "x86"), ("x86-64", "x86")),
    ],
)
def test_unknown_name_suggests_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"unknown target '{name}': did you mean {near}\\? known are x86,"):
        get_target(name)


def test_name_like_nothing_lists_all() -> None:
    with pytest.raises(UsageError) as caught:
        get_target("z80")
    assert "did you mean" not in str(caught.value)
    assert all(name in str(caught.value) for name in PRESETS)


def test_import_is_light() -> None:
    code = (
        "import sys, bhpe_compile.targets; print(sorted({'torch','tvm','onnx','numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        python_command("-c", code), env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

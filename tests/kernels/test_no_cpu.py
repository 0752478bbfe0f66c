"""A target is data: kernels and passes name no CPU and none of its instructions."""

from __future__ import annotations

import re

from tests.command import ROOT

CPUS = re.compile(
    r"llvm\.(x86|aarch64|arm|wasm|riscv)\.|\bisa\.name\b|\b(use|int8)\.name\b"
    r"|[\"'](avx|neon|simd128|rvv|sdot|smull|smlal|pmaddwd|vpdpbusd)"
)


def named(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if CPUS.search(line)]


def test_code_names_no_instruction() -> None:
    places = [ROOT / "bhpe_compile" / folder for folder in ("kernels", "passes", "compiler", "search")]
    found = {
        str(path.relative_to(ROOT)): lines
        for place in places
        for path in sorted(place.rglob("*.py"))
        if (lines := named(path.read_text()))
    }
    assert found == {}


def test_a_branch_on_a_name_is_seen() -> None:
    assert named('if isa.name == "neon32":\n    name = "llvm.arm.neon.vpadals.v4i32.v8i16"') != []
    assert named("lanes = isa.float_lanes") == []

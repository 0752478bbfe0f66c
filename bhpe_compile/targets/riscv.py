"""64-bit RISC-V with Linux."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bhpe_compile.targets.isa import RVV, SCALAR, VectorIsa
from bhpe_compile.targets.target import GLIBC, Target

TRIPLE = "riscv64-linux-gnu"

GC = ("+m", "+a", "+f", "+d", "+c")
V = (*GC, "+v")


def riscv_target(
    name: str, summary: str, isa: VectorIsa, mattr: tuple[str, ...], zig_cpu: str, requires: tuple[str, ...]
) -> Target:
    """A RISC-V target; runs under qemu-riscv64 on other hosts."""
    llvm: Mapping[str, Any] = {
        "kind": "llvm",
        "mtriple": TRIPLE,
        "mcpu": "generic-rv64",
        "mattr": list(mattr),
        "mabi": "lp64d",
    }
    return Target(
        name=name,
        summary=summary,
        family="riscv64",
        triple=TRIPLE,
        llvm=llvm,
        isa=isa,
        zig=("-target", f"riscv64-linux-gnu.{GLIBC}", zig_cpu),
        zig_driver=("-target", "riscv64-linux-musl", zig_cpu),
        emulator="qemu-riscv64",
        requires=requires,
    )


RISCV64 = riscv_target(
    "riscv64", "RV64GC without vectors (VisionFive 2, Unmatched)", SCALAR, GC, "-mcpu=baseline_rv64", ()
)

RISCV64_V = riscv_target(
    "riscv64-v", "RV64GCV: vectors of 128 bits and more (SpacemiT K1)", RVV, V, "-mcpu=baseline_rv64", ("v",)
)

PRESETS = (RISCV64, RISCV64_V)
"""From the most widespread to the most demanding."""

"""AArch64 CPUs: boards and phones. Every one has Advanced SIMD; they differ in scheduling and later extensions."""

from __future__ import annotations

from bhpe_compile.targets.isa import NEON, NEON_DOT, VectorIsa
from bhpe_compile.targets.target import GLIBC, Target

TRIPLE = "aarch64-linux-gnu"

V8 = ("fp", "asimd")
"""ARMv8-A: the baseline of the architecture."""

V8_2 = (*V8, "atomics", "fphp", "asimdhp", "asimdrdm", "asimddp")
"""ARMv8.2-A with half-precision arithmetic and dot products."""


def arm_target(name: str, summary: str, mcpu: str, isa: VectorIsa, requires: tuple[str, ...]) -> Target:
    """An AArch64 Linux target; runs under qemu-aarch64 (or unicorn) on other hosts."""
    return Target(
        name=name,
        summary=summary,
        family="aarch64",
        triple=TRIPLE,
        llvm={"kind": "llvm", "mtriple": TRIPLE, "mcpu": mcpu},
        isa=isa,
        zig=("-target", f"aarch64-linux-gnu.{GLIBC}"),
        zig_driver=("-target", "aarch64-linux-musl"),
        emulator="qemu-aarch64",
        requires=requires,
    )


ARM = arm_target("arm", "AArch64, scheduled for Cortex-A72 (Raspberry Pi 4, RK3399)", "cortex-a72", NEON, V8)

ARM_A53 = arm_target(
    "arm-a53", "AArch64, scheduled for the in-order Cortex-A53 (Pi 3)", "cortex-a53", NEON, V8
)

ARM_A76 = arm_target(
    "arm-a76", "ARMv8.2-A with dot products, Cortex-A76 (Pi 5, RK3588)", "cortex-a76", NEON_DOT, V8_2
)

PRESETS = (ARM, ARM_A53, ARM_A76)
"""From the most widespread to the most demanding."""

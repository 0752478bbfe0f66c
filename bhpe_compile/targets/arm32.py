"""32-bit ARM: boards whose system is older than their processor, and the last that had no 64-bit one."""

from __future__ import annotations

from bhpe_compile.targets.isa import NEON32
from bhpe_compile.targets.target import GLIBC, Target

TRIPLE = "armv7l-linux-gnueabihf"

VFPV4 = ("neon", "vfpv4")
"""Cortex-A5, A7, A15 and later. VFPv4 brings the conversions of float16 that Cortex-A8 lacks."""

ARMV7 = Target(
    name="armv7",
    summary="32-bit ARM with NEON, hard float (Pi 2; Pi 3 and 4 with a 32-bit system)",
    family="armv7",
    triple=TRIPLE,
    # without the float ABI spelt out it links, and returns wrong numbers
    llvm={"kind": "llvm", "mtriple": TRIPLE, "mcpu": "cortex-a7", "mfloat-abi": "hard"},
    isa=NEON32,
    zig=("-target", f"arm-linux-gnueabihf.{GLIBC}", "-mcpu=cortex_a7"),
    zig_driver=("-target", "arm-linux-musleabihf", "-mcpu=cortex_a7"),
    emulator="qemu-arm",
    requires=VFPV4,
)

PRESETS = (ARMV7,)

"""x86-64 CPUs. `requires` lists what LLVM may emit for the chosen `mcpu`, not only what our kernels ask for."""

from __future__ import annotations

from bhpe_compile.targets.isa import AVX2, AVX512, VectorIsa
from bhpe_compile.targets.target import GLIBC, Target

TRIPLE = "x86_64-linux-gnu"

V3 = (
    *("cx16", "lahf_lm", "popcnt", "ssse3", "sse4_1", "sse4_2"),
    *("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"),
)
"""x86-64-v3, the level of Haswell (2013) and Zen 1 (2017). `abm` is Linux' name for LZCNT."""

ICELAKE = (
    *V3,
    *("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
    *("avx512_vpopcntdq", "avx512_bitalg", "avx512_vnni", "avx512vbmi", "avx512_vbmi2", "avx512ifma"),
    *("gfni", "vaes", "vpclmulqdq"),
)
"""Ice Lake server (2021) and Zen 4 (2022)."""


def x86_target(name: str, summary: str, mcpu: str, isa: VectorIsa, requires: tuple[str, ...]) -> Target:
    """An x86-64 Linux target; the executor itself is built for the baseline, only kernels use `mcpu`."""
    return Target(
        name=name,
        summary=summary,
        family="x86_64",
        triple=TRIPLE,
        llvm={"kind": "llvm", "mtriple": TRIPLE, "mcpu": mcpu},
        isa=isa,
        zig=("-target", f"x86_64-linux-gnu.{GLIBC}"),
        zig_driver=("-target", f"x86_64-linux-gnu.{GLIBC}"),
        emulator=None,
        requires=requires,
    )


X86 = x86_target("x86", "x86-64-v3: AVX2, F16C and FMA (2013 and later)", "x86-64-v3", AVX2, V3)

X86_AVX512 = x86_target(
    "x86-avx512",
    "AVX-512 with VPOPCNTDQ (Ice Lake server, Zen 4 and later)",
    "icelake-server",
    AVX512,
    ICELAKE,
)

PRESETS = (X86, X86_AVX512)
"""From the most widespread to the most demanding."""

"""The vector units the kernels are written for. A target names one; the kernels ask nothing else of it.

Lanes are output channels everywhere, so `popcount_lanes` words of `word_bits` bits are one vector register
and `float_lanes` float32 values are the unit of an epilogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Int8Instruction:
    """Multiply-accumulate of 8-bit weights: `lanes` sums of `group` products of neighbouring input channels each.

    Activations are stored as `dtype`: their level 0 .. 255 less `shift`, or less their own zero point when that is
    None. None of the four saturates: pmaddwd multiplies 16-bit numbers, where pmaddubsw would overflow.
    """

    name: Literal["vpdpbusd", "pmaddwd", "sdot", "smlal"]
    dtype: Literal["uint8", "int8", "int16"]
    shift: int | None
    group: int
    lanes: int


@dataclass(frozen=True)
class VectorIsa:
    """What a kernel generator needs to know of a CPU.

    `word_bits` x `popcount_lanes` is the shape of one binary weight vector, `float_lanes` float32 the unit in
    which results are finished and packed. `int8` is the instruction 8-bit layers are written for.
    """

    name: Literal["avx512", "avx2", "neon"]
    word_bits: int
    popcount_lanes: int
    float_lanes: int
    int8: Int8Instruction


VPDPBUSD = Int8Instruction("vpdpbusd", "uint8", 0, 4, 16)
PMADDWD = Int8Instruction("pmaddwd", "int16", None, 2, 8)
SMLAL = Int8Instruction("smlal", "int16", None, 1, 8)
SDOT = Int8Instruction("sdot", "int8", 128, 4, 4)
INT8_INSTRUCTIONS = (VPDPBUSD, PMADDWD, SDOT, SMLAL)

AVX512 = VectorIsa("avx512", 32, 16, 16, VPDPBUSD)
"""512-bit vectors with VPOPCNTDQ and VNNI."""

AVX2 = VectorIsa("avx2", 8, 32, 8, PMADDWD)
"""256-bit vectors without a vector popcount: a byte shuffle looks counts up."""

NEON = VectorIsa("neon", 16, 8, 8, SMLAL)
"""AArch64 Advanced SIMD: 128-bit registers, so eight float lanes are two of them."""

NEON_DOT = VectorIsa("neon", 16, 8, 8, SDOT)
"""The same with the dot products of ARMv8.2."""

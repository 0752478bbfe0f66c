"""The vector units the kernels are written for. A target names one; the kernels ask nothing else of it.

Lanes are output channels everywhere, so `popcount_lanes` words of `word_bits` bits are one vector register
and `float_lanes` float32 values are the unit of an epilogue.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from bhpe_compile.targets.int8_instructions import (
    DOT_I16X8,
    MADD512,
    PACK128,
    PACK256,
    PACK256_WORDS,
    PACK512,
    PLAIN_DEPTHWISE,
    PMADDUBSW,
    PMADDWD,
    PMADDWD_STEP,
    ROWS_OF_WIDENED_BYTES,
    ROWS_OF_WORDS,
    SDOT,
    SMLAL,
    SMULL,
    SMULL32,
    VPDPBUSD,
    Depthwise,
    Int8Instruction,
    Packing,
)


@dataclass(frozen=True)
class VectorIsa:
    """What a kernel generator needs to know of a CPU.

    `word_bits` x `popcount_lanes` is the shape of one binary weight vector, `float_lanes` float32 the unit in
    which results are finished and packed. `binary_tile` is the most pixels and weight vectors that binary sums take
    at once, so that sums, weights and temporaries fit the registers; `words_together` how many activation words of a
    pixel are loaded by one instruction and broadcast from its register (1: each is broadcast from memory).
    `registers` is the number of vector registers, `int8` the instruction 8-bit layers are written for, `dense_tile`
    the tile of float sums. `counts` says how set bits are counted: by an instruction on the words, by looking up
    nibbles, or in bytes that are then added in pairs. `masks`: a comparison's result becomes bits by an instruction;
    `half`: float16 is converted by the vector, four at a time, or by no instruction at all. `short_tile` replaces
    `binary_tile` where sums are so short that most of the work comes after them. `clip_halves`: float16 is clipped as
    integers, before it takes two registers. `widening_doubles`: words become twice as wide and twice as large by one
    instruction. `maximum`: LLVM takes the larger of two floats by one instruction only when asked for IEEE's maximum.
    `share_repeats`: a tile takes the channels that read the same of a repeated residual. `rounds`: floats are rounded
    to whole numbers by an instruction. `in_pairs`: the same unit with an instruction that multiplies bytes faster, but
    only weights whose pairs fit it (`int8_layout.pairs_fit`).

    Instructions by LLVM's names, None where there is none: `counting` looks up nibbles, or adds bytes in pairs;
    `widen` makes four float32 of four float16, `narrow` the other way round (signs are then best taken from its
    result); `permute` takes bytes from two registers by the seven bits of each byte of a third, `sixteenths` from each
    half of a register by the four bits of a byte; `smaller` takes of two vectors of floats the smaller magnitudes, with
    the first one's signs; `packings` make levels of floats, the widest first.
    """

    name: Literal["avx512", "avx2", "neon", "neon32", "simd128", "rvv", "scalar"]
    word_bits: int
    popcount_lanes: int
    float_lanes: int
    binary_tile: tuple[int, int]
    int8: Int8Instruction
    dense_tile: tuple[int, int] = (6, 2)
    words_together: int = 1
    registers: int = 32
    counts: Literal["words", "nibbles", "byte pairs"] = "words"
    counting: str | None = None
    masks: bool = True
    half: Literal["vector", "four", "none"] = "vector"
    widen: str | None = None
    smaller: str | None = None
    permute: str | None = None
    sixteenths: str | None = None
    packings: tuple[Packing, ...] = ()
    short_tile: tuple[int, int] | None = None
    clip_halves: bool = False
    widening_doubles: bool = False
    maximum: bool = False
    narrow: str | None = None
    share_repeats: bool = False
    depthwise: Depthwise = PLAIN_DEPTHWISE
    rounds: bool = True
    in_pairs: VectorIsa | None = None

    def packing(self, lanes: int) -> Packing | None:
        """How `lanes` levels are packed at once."""
        return next((one for one in self.packings if one.lanes == lanes), None)

    @property
    def float_registers(self) -> int:
        """Registers that `float_lanes` float32 values take."""
        return self.float_lanes * 32 // (self.word_bits * self.popcount_lanes)


AVX512 = VectorIsa(
    "avx512",
    word_bits=32,
    popcount_lanes=16,
    float_lanes=16,
    binary_tile=(6, 4),
    int8=VPDPBUSD,
    dense_tile=(6, 4),
    smaller="llvm.x86.avx512.mask.range.ps.512",
    permute="llvm.x86.avx512.vpermi2var.qi.512",
    packings=(PACK512, PACK256, PACK128),
    depthwise=MADD512,
)
"""512-bit vectors with VPOPCNTDQ, VNNI and VBMI."""

AVX2_BYTES = VectorIsa(
    "avx2",
    word_bits=8,
    popcount_lanes=32,
    float_lanes=8,
    binary_tile=(4, 2),
    registers=16,
    int8=PMADDUBSW,
    counts="nibbles",
    counting="llvm.x86.avx2.pshuf.b",
    sixteenths="llvm.x86.avx2.pshuf.b",
    packings=(PACK256, PACK256_WORDS),
    depthwise=Depthwise(lanes=8, step=PMADDWD_STEP, rows=ROWS_OF_WIDENED_BYTES),
)
"""256-bit vectors without a vector popcount: a byte shuffle looks counts up. 8-bit levels are bytes."""

AVX2 = replace(
    AVX2_BYTES,
    int8=PMADDWD,
    packings=(PACK256_WORDS,),
    depthwise=replace(AVX2_BYTES.depthwise, rows=ROWS_OF_WORDS),
    in_pairs=AVX2_BYTES,
)
"""The same for any weights: levels are words."""

NEON = VectorIsa(
    "neon",
    word_bits=16,
    popcount_lanes=8,
    float_lanes=8,
    binary_tile=(4, 4),
    words_together=8,
    int8=SMULL,
    short_tile=(2, 4),
    clip_halves=True,
    widening_doubles=True,
    maximum=True,
    narrow="llvm.aarch64.neon.vcvtfp2hf",
    share_repeats=True,
)
"""AArch64 Advanced SIMD: 128-bit registers, so eight float lanes are two of them. Two pixels and eight vectors would
take fewer broadcasts, but more loads, and their results do not fit the registers while they are finished."""

NEON_DOT = replace(NEON, int8=SDOT)
"""The same with the dot products of ARMv8.2."""

NEON32 = replace(
    NEON,
    name="neon32",
    binary_tile=(2, 4),
    int8=SMULL32,
    dense_tile=(3, 2),
    registers=16,
    masks=False,
    half="four",
    widen="llvm.arm.neon.vcvthf2fp",
    short_tile=None,
    narrow="llvm.arm.neon.vcvtfp2hf",
    share_repeats=False,
    rounds=False,
)
"""ARMv7 NEON: the same 128-bit registers, half as many of them."""

SIMD128 = VectorIsa(
    "simd128",
    word_bits=16,
    popcount_lanes=8,
    float_lanes=8,
    binary_tile=(2, 4),
    int8=DOT_I16X8,
    dense_tile=(3, 2),
    registers=16,
    counts="byte pairs",
    counting="llvm.wasm.extadd.pairwise.unsigned.v8i16",
    half="none",
)
"""WebAssembly's fixed-width vectors: popcounts are of bytes. Engines map its values to 16 registers on x86."""

RVV = VectorIsa(
    "rvv",
    word_bits=16,
    popcount_lanes=8,
    float_lanes=8,
    binary_tile=(2, 4),
    int8=SMLAL,
    masks=False,
    half="none",
    rounds=False,
)
"""RISC-V vectors of at least 128 bits. Without Zvbb bits are counted by shifts and adds, a register at a time."""

SCALAR = replace(
    RVV,
    name="scalar",
    word_bits=32,
    binary_tile=(1, 1),
    int8=replace(SMLAL, tile=(2, 1)),
    dense_tile=(2, 1),
)
"""No vector unit: the same code, which LLVM takes apart into single registers; tiles are eight of them."""

ISAS = (AVX512, AVX2, NEON, NEON32, SIMD128, RVV, SCALAR)
"""One of each name."""

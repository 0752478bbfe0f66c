"""Instructions of 8-bit layers: how they multiply and add, what they want in memory, how levels are packed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class MultiplyAdd:
    """An instruction of 8-bit layers by LLVM's name. `adds`: it adds to sums it is given; what others give is added
    to them. `weight_first`: it takes the weights before the activations. `sums`: how many it makes, None: one for each
    lane of a vector; vectors of more lanes are several registers then. `pairs`: another instruction multiplies bytes
    and adds their products in pairs, in 16 bits and saturating; this one adds neighbours of what it gives."""

    name: str
    adds: bool
    weight_first: bool = False
    sums: int | None = None
    pairs: str | None = None


@dataclass(frozen=True)
class Int8Instruction:
    """Multiply-accumulate of 8-bit weights: `lanes` sums of `group` products of neighbouring input channels each.

    Activations are stored as `dtype`: their level 0 .. 255 less `shift`, or less their own zero point when that is
    None. They and the weights are multiplied as `operand`, by `step` (None: as products and sums of int32, for which
    LLVM finds the instruction). A weight vector holds `pair` channels of an output side by side: all of a group, or
    with `halves` two, whose products are added in 16 bits to those of the next two of all outputs, and in pairs by
    `step`. Two products of -128 .. 127 and -127 .. 127, which smull and smlal add up, fit 16 bits. pmaddubsw alone
    saturates, with some weights (`int8_layout.pairs_fit`); targets have it beside another that multiplies any.
    """

    name: Literal["vpdpbusd", "pmaddwd", "pmaddubsw", "dot_i16x8", "sdot", "smull", "smlal"]
    dtype: Literal["uint8", "int8", "int16"]
    shift: int | None
    group: int
    lanes: int
    tile: tuple[int, int]
    """Most pixels and weight vectors whose sums fit the registers."""

    operand: Literal["int8", "int16", "int32"]
    step: MultiplyAdd | None
    halves: bool = False
    words_together: int = 1
    """Groups of a pixel that one load brings, each then a lane of its register; more than 1 of 32 bits only."""

    weights_held: bool = False
    """The weights of a word are held for all pixels, and every pixel's values broadcast where they are used: with half
    the registers the other order spills sums."""

    pairs_together: bool = True
    """With `halves`: the two pairs of a word are loaded at once. On AArch64 LLVM otherwise copies sums from register
    to register between the loads; 32-bit ARM, with half the registers, is better off with each where it is used."""

    @property
    def pair(self) -> int:
        """Neighbouring channels of one output in a weight vector."""
        return 2 if self.halves else self.group


@dataclass(frozen=True)
class ByRows:
    """Multiply-accumulate of 8-bit depthwise layers by rows: levels of `group` input rows lie side by side, and an
    instruction adds their products to a sum of each channel. `steps` are the same instruction for registers of `sums`
    sums, the widest first; weights are `weights`, a group of them fills a sum. They are as wide as levels lie in
    memory; `widened`: twice as wide, and levels become words as they are loaded.
    `together`: the sums of so many registers of a block are finished before the next ones' begin; with half the
    registers all at once spill."""

    group: int
    weights: Literal["int8", "int16"]
    steps: tuple[MultiplyAdd, ...]
    together: int = 4
    widened: bool = False

    def step(self, sums: int) -> MultiplyAdd:
        """The instruction that makes `sums` sums."""
        return next(one for one in self.steps if one.sums == sums)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels that are summed at once, `group` registers of them, the most first."""
        return tuple(self.group * (one.sums or 0) for one in self.steps)


@dataclass(frozen=True)
class Depthwise:
    """Multiply-accumulate of 8-bit depthwise layers: `lanes` channels at once, in 16 bits.

    With a `step`, the products of two taps are added by it: it takes 16-bit numbers of the two taps side by side.
    Without one, products and sums are int32, for which LLVM finds the widening instruction. `rows` is another way,
    of layers that write nothing but levels.
    """

    lanes: int = 8
    step: MultiplyAdd | None = None
    rows: ByRows | None = None
    pixels: int = 4
    """Outputs of a row that are summed at once."""

    @property
    def taps(self) -> int:
        """Taps whose products one instruction adds."""
        return 1 if self.step is None else 2


@dataclass(frozen=True)
class Packing:
    """How registers of `floats` float32 become levels, by instructions by LLVM's names: `whole` rounds to int32, ties
    to even (`masked`: with a mask and a rounding mode); `words` saturates two registers to int16, and `bytes` two of
    those to uint8, 16 bytes by 16 bytes of a register. Without `bytes` levels stay words."""

    floats: int
    whole: str
    words: str
    bytes: str | None = None
    masked: bool = False

    @property
    def lanes(self) -> int:
        """Levels that are packed at once."""
        return self.floats * (2 if self.bytes is None else 4)


VPDPBUSD = Int8Instruction(
    "vpdpbusd",
    dtype="uint8",
    shift=0,
    group=4,
    lanes=16,
    tile=(6, 4),
    operand="int8",
    step=MultiplyAdd("llvm.x86.avx512.vpdpbusd.512", adds=True),
)
PMADDWD_STEP = MultiplyAdd("llvm.x86.avx2.pmadd.wd", adds=False)
PMADDWD = Int8Instruction(
    "pmaddwd",
    dtype="int16",
    shift=None,
    group=2,
    lanes=8,
    tile=(6, 2),
    operand="int16",
    step=PMADDWD_STEP,
    weights_held=True,
)
PMADDUBSW = Int8Instruction(
    "pmaddubsw",
    dtype="uint8",
    shift=0,
    group=4,
    lanes=8,
    tile=(6, 2),
    operand="int8",
    step=replace(PMADDWD_STEP, pairs="llvm.x86.avx2.pmadd.ub.sw"),
    weights_held=True,
)
DOT_I16X8 = replace(
    PMADDWD,
    name="dot_i16x8",
    tile=(4, 1),
    step=MultiplyAdd("llvm.wasm.dot", adds=False, sums=4),
    weights_held=False,
)
"""The same on WebAssembly, in registers of four sums; the relaxed dot products of bytes saturate."""

SMLAL = Int8Instruction(
    "smlal", dtype="int16", shift=None, group=1, lanes=8, tile=(6, 2), operand="int32", step=None
)
SDOT = Int8Instruction(
    "sdot",
    dtype="int8",
    shift=128,
    group=4,
    lanes=4,
    tile=(6, 4),
    operand="int8",
    # the activations last: there the instruction takes a lane of a register, and nothing has to be broadcast
    step=MultiplyAdd("llvm.aarch64.neon.sdot.v4i32.v16i8", adds=True, weight_first=True),
    words_together=4,
)
SMULL = Int8Instruction(
    "smull",
    dtype="int8",
    shift=128,
    group=4,
    lanes=8,
    tile=(4, 2),
    operand="int16",
    step=MultiplyAdd("llvm.aarch64.neon.saddlp.v4i32.v8i16", adds=False),
    halves=True,
)
SMULL32 = replace(
    SMULL,
    tile=(2, 2),
    step=MultiplyAdd("llvm.arm.neon.vpadals.v4i32.v8i16", adds=True),
    pairs_together=False,
)
"""The same on 32-bit ARM."""

ROWS_OF_BYTES = ByRows(
    group=4,
    weights="int8",
    steps=tuple(
        MultiplyAdd(f"llvm.x86.avx512.vpdpbusd.{bits}", adds=True, sums=bits // 32)
        for bits in (512, 256, 128)
    ),
)
ROWS_OF_WORDS = ByRows(
    group=2,
    weights="int16",
    steps=(replace(PMADDWD_STEP, sums=8),),
    together=1,
)
ROWS_OF_WIDENED_BYTES = replace(ROWS_OF_WORDS, together=2, widened=True)
BY_ROWS = (ROWS_OF_BYTES, ROWS_OF_WORDS)
"""One of each layout of weights."""

PLAIN_DEPTHWISE = Depthwise()
"""For which LLVM finds the instruction."""

MADD512 = Depthwise(
    lanes=16, step=MultiplyAdd("llvm.x86.avx512.pmaddw.d.512", adds=False), rows=ROWS_OF_BYTES
)

PACK512 = Packing(
    16,
    whole="llvm.x86.avx512.mask.cvtps2dq.512",
    words="llvm.x86.avx512.packssdw.512",
    bytes="llvm.x86.avx512.packuswb.512",
    masked=True,
)
PACK256 = Packing(
    8, whole="llvm.x86.avx.cvt.ps2dq.256", words="llvm.x86.avx2.packssdw", bytes="llvm.x86.avx2.packuswb"
)
PACK256_WORDS = replace(PACK256, bytes=None)
PACK128 = Packing(
    4,
    whole="llvm.x86.sse2.cvtps2dq",
    words="llvm.x86.sse2.packssdw.128",
    bytes="llvm.x86.sse2.packuswb.128",
)

INT8_INSTRUCTIONS = (VPDPBUSD, PMADDWD, PMADDUBSW, SDOT, SMULL, SMLAL)
"""One of each layout in memory."""

"""The inner loops of 8-bit depthwise convolutions where an instruction multiplies four bytes at once.

Four rows of 64 bytes are interleaved by two steps of unpacking: four registers, each of sixteen channels by four rows.
A product with the weights (w0 w1 w2 0) is a column of the window of one output row, with (0 w0 w1 w2) one of the row
below it. Sums lie in the order that unpacking leaves, and packing levels undoes it: weights and what is read by channel
are stored in that order (`blocks_of`), memory stays channels last.

    weight int8 [blocks, sets, kernel columns, 4 registers, 16 channels x 4 rows]

A set is an output row of the tile and a group of four input rows with any weight of it; a block is 64 channels from
`first` on, the last one overlapping what was done. Of fewer channels lanes run over neighbouring pixels as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.kernels.epilogue import Epilogue
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.kernel import Array
from bhpe_compile.kernels.tir import Expr, Share, T, dtype_of, local, ramp, store
from bhpe_compile.kernels.window import Window
from bhpe_compile.targets.isa import VectorIsa


class Layer(Protocol):
    """What the loops ask of a depthwise convolution."""

    @property
    def batch(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def in_border(self) -> int: ...
    @property
    def stored_width(self) -> int: ...
    @property
    def epilogue(self) -> Epilogue: ...
    @property
    def rows(self) -> Window: ...
    @property
    def columns(self) -> Window: ...


WIDE, QUARTER, GROUP = 64, 16, 4
"""Bytes of a register, sums of one, rows whose products an instruction adds."""

PIXELS = 2
"""Outputs of a row that are summed at once."""

MANY_WEIGHTS = 12
"""More weights of 64 channels than these do not stay in registers while the pixels go by."""

BY_CHANNEL = ("start", "scale", "bias", "beta", "zeta")
"""Arguments that are stored in the order of lanes."""

LANES = np.array([[16 * (i // 4) + 4 * v + i % 4 for i in range(QUARTER)] for v in range(4)]).reshape(-1)
"""The byte of a row that each sum of four registers comes from."""


def takes(kernel: Layer, isa: VectorIsa) -> bool:
    """Whether a kernel is computed by rows on a vector unit."""
    channels, epilogue = kernel.in_channels, kernel.epilogue
    use = isa.depthwise.bytes
    if use is None or isa.packing is None or kernel.rows.taps * kernel.columns.taps > 25:
        return False
    spread = channels < WIDE
    if spread and (WIDE % channels or kernel.columns.stride != 1 or kernel.columns.count * channels < WIDE):
        return False
    plain = epilogue.residual is None and not epilogue.shortcut and not epilogue.store and not epilogue.bits
    return epilogue.levels is not None and plain


def firsts(kernel: Layer) -> list[int]:
    """The first channel of each block."""
    if kernel.in_channels < WIDE:
        return [0]
    return [min(at, kernel.in_channels - WIDE) for at in range(0, kernel.in_channels, WIDE)]


def blocks_of(kernel: Layer) -> NDArray[np.int64]:
    """[blocks, 64]: the channel of each sum."""
    return np.array([(first + LANES) % kernel.in_channels for first in firsts(kernel)])


def tile_rows(kernel: Layer) -> int:
    """Output rows that are summed at once."""
    return 2 if kernel.rows.stride == 1 and kernel.rows.count > 1 else 1


def sets_of(kernel: Layer, rows: int) -> list[tuple[int, int]]:
    """(output row, group of input rows) with any weight, for a tile of `rows`."""
    taps, stride = kernel.rows.taps, kernel.rows.stride
    groups = -(-((rows - 1) * stride + taps) // GROUP)
    return [
        (row, group)
        for row in range(rows)
        for group in range(groups)
        if any(0 <= group * GROUP + i - row * stride < taps for i in range(GROUP))
    ]


def packed_weight(kernel: Layer, taps: Array) -> NDArray[np.int8]:
    """int8 [kernel rows, kernel columns, C] -> the layout above; those of single rows at the end of a map behind it."""
    blocks, columns = blocks_of(kernel), kernel.columns.taps
    found = []
    for rows in _row_tiles(kernel):
        sets = sets_of(kernel, rows)
        weight = np.zeros((len(blocks), len(sets), columns, WIDE, GROUP), np.int8)
        for index, (row, group) in enumerate(sets):
            for i in range(GROUP):
                tap = group * GROUP + i - row * kernel.rows.stride
                if 0 <= tap < kernel.rows.taps:
                    weight[:, index, :, :, i] = taps[tap][:, blocks].transpose(1, 0, 2)
        found.append(weight.reshape(-1))
    return np.concatenate(found)


def unpacked_weight(kernel: Layer, packed: Array) -> NDArray[np.int64]:
    """The inverse: int64 [taps, C]."""
    rows = tile_rows(kernel)
    sets, blocks, columns = sets_of(kernel, rows), blocks_of(kernel), kernel.columns.taps
    size = len(blocks) * len(sets) * columns * WIDE * GROUP
    weight = packed[:size].reshape(len(blocks), len(sets), columns, WIDE, GROUP)
    taps = np.zeros((kernel.rows.taps, columns, kernel.in_channels), np.int64)
    for index, (row, group) in enumerate(sets):
        for i in range(GROUP):
            tap = group * GROUP + i
            if row == 0 and tap < kernel.rows.taps:
                taps[tap][:, blocks] = weight[:, index, :, :, i].transpose(1, 0, 2)
    return taps.reshape(-1, kernel.in_channels)


def by_channel(kernel: Layer, array: Array) -> Array:
    """[C] -> [blocks * 64] in the order of sums."""
    return np.ascontiguousarray(array.reshape(-1)[blocks_of(kernel)].reshape(-1))


def of_channels(kernel: Layer, array: Array) -> Array:
    """The inverse."""
    found = np.zeros(kernel.in_channels, array.dtype)
    found[blocks_of(kernel).reshape(-1)] = array
    return found


def weight_size(kernel: Layer) -> int:
    """Bytes of the weights."""
    sets = sum(len(sets_of(kernel, rows)) for rows in _row_tiles(kernel))
    return len(firsts(kernel)) * sets * kernel.columns.taps * WIDE * GROUP


def _row_tiles(kernel: Layer) -> list[int]:
    """Rows of whole tiles, and of the last one where that is another number."""
    rows = tile_rows(kernel)
    return [rows] if kernel.rows.count % rows == 0 else [rows, 1]


@dataclass(frozen=True)
class RowLoops:
    """Emits the loops of a kernel that is taken by rows."""

    kernel: Layer
    isa: VectorIsa
    epilogue: EpilogueEmitter

    def emit(self, share: Share) -> None:
        """Tiles of rows are shared out; blocks of channels are the outer loop within one."""
        kernel = self.kernel
        nothing = T.bind(T.truncdiv(share.part, share.parts))
        rows, count = tile_rows(kernel), kernel.rows.count
        whole, blocks = count // rows, firsts(kernel)
        step = len(sets_of(kernel, rows)) * kernel.columns.taps * WIDE * GROUP
        rest = len(sets_of(kernel, 1)) * kernel.columns.taps * WIDE * GROUP
        with share.rows(kernel.batch, -(-count // rows)) as (n, tile):
            for block, first in self._blocks(blocks):
                if whole * rows == count:
                    self._row(n, tile * rows, rows, block, first, block * step, nothing)
                    continue
                with T.If(tile < whole):
                    with T.Then():
                        self._row(n, tile * rows, rows, block, first, block * step, nothing)
                    with T.Else():
                        self._row(
                            n, whole * rows, 1, block, first, len(blocks) * step + block * rest, nothing
                        )

    @staticmethod
    def _blocks(firsts_: list[int]) -> Iterator[tuple[Expr, Expr]]:
        """Each block's number and first channel, in a loop where there are several."""
        if len(firsts_) == 1:
            yield 0, 0
            return
        with T.serial(0, len(firsts_)) as block:
            yield block, T.min(block * WIDE, firsts_[-1])

    def _row(self, n: Expr, y: Expr, rows: int, block: Expr, c: Expr, weights: Expr, nothing: Expr) -> None:
        """A tile of `rows` output rows, one block of channels. `nothing` is 0, which LLVM does not know: many weights
        whose place depends on the pixel stay operands in memory; it would load all of them before the loop, and spill.
        """
        kernel = self.kernel
        spread = max(1, WIDE // kernel.in_channels)
        count = kernel.columns.count
        pixels = PIXELS if spread == 1 else 1
        step = pixels * spread
        whole, rest = divmod(count, step)
        if whole:
            many = len(sets_of(kernel, rows)) * kernel.columns.taps > MANY_WEIGHTS
            with T.serial(0, whole) as xo:
                at = T.bind(weights + xo * nothing) if many else weights
                self._pixels(n, y, xo * step, pixels, rows, block, c, at)
        if rest and spread == 1:
            self._pixels(n, y, whole * step, rest, rows, block, c, weights)
        elif rest:  # overlaps what was done
            self._pixels(n, y, count - spread, 1, rows, block, c, weights)

    def _pixels(
        self, n: Expr, y: Expr, x: Expr, pixels: int, rows: int, block: Expr, c: Expr, weights: Expr
    ) -> None:
        kernel, buffers, instruction = self.kernel, self.epilogue.buffers, self.isa.depthwise.bytes
        sums = local(pixels * rows * WIDE, "int32")
        for index in range(pixels * rows):
            for v in range(4):
                start = buffers["start"][ramp(block * WIDE + v * QUARTER, QUARTER)]
                store(sums, index * WIDE + v * QUARTER, QUARTER, start)
        sets, taps, stride = sets_of(kernel, rows), kernel.columns.taps, kernel.columns.stride
        for column in range((pixels - 1) * stride + taps):
            users = [(p, column - p * stride) for p in range(pixels) if 0 <= column - p * stride < taps]
            if not users:
                continue
            quads = self._quads(n, y, x, column, rows, c)
            for p, tap in users:
                for index, (row, group) in enumerate(sets):
                    for v in range(4):
                        at = ramp((p * rows + row) * WIDE + v * QUARTER, QUARTER)
                        first = ((index * taps + tap) * 4 + v) * WIDE
                        weight = buffers["weight"][ramp(weights + first, WIDE)]
                        levels = quads[ramp((group * 4 + v) * WIDE, WIDE)]
                        total = T.call_llvm_pure_intrin(
                            dtype_of("int32", QUARTER), instruction, sums[at], levels, weight
                        )
                        T.buffer_store(sums, total, [at])
        for row in range(rows):
            for p in range(pixels):
                dot = T.Cast(dtype_of("float32", WIDE), sums[ramp((p * rows + row) * WIDE, WIDE)])
                self.epilogue.finish(dot, n, y + row, x + p, c, WIDE, packed_at=block * WIDE)

    def _quads(self, n: Expr, y: Expr, x: Expr, column: int, rows: int, c: Expr) -> Any:
        """Registers of sixteen channels by four rows of one input column, [groups, 4, 64] as int8."""
        kernel, buffers = self.kernel, self.epilogue.buffers
        need = (rows - 1) * kernel.rows.stride + kernel.rows.taps
        groups = -(-need // GROUP)
        height = kernel.height + 2 * kernel.in_border
        top = n * height + y * kernel.rows.stride + (kernel.in_border - kernel.rows.pad)
        left = x * kernel.columns.stride + (kernel.in_border - kernel.columns.pad + column)
        loaded, pairs = local(need * WIDE, "int8"), local(2 * WIDE, "int8")
        quads = local(groups * 4 * WIDE, "int8")
        for row in range(need):
            base = ((top + row) * kernel.stored_width + left) * kernel.in_channels + c
            levels = T.reinterpret(dtype_of("int8", WIDE), buffers["x"][ramp(base, WIDE)])
            store(loaded, row * WIDE, WIDE, levels)
        for group in range(groups):
            # rows beyond the last meet weights of 0
            four = [loaded[ramp(min(group * GROUP + i, need - 1) * WIDE, WIDE)] for i in range(GROUP)]
            for high in range(2):
                for half in range(2):
                    store(pairs, half * WIDE, WIDE, _unpacked(four[2 * half], four[2 * half + 1], 1, high))
                upper, lower = (
                    T.reinterpret(dtype_of("int16", WIDE // 2), pairs[ramp(half * WIDE, WIDE)])
                    for half in range(2)
                )
                for top_half in range(2):
                    both = T.reinterpret(dtype_of("int8", WIDE), _unpacked(upper, lower, 2, top_half))
                    store(quads, (group * 4 + 2 * high + top_half) * WIDE, WIDE, both)
        return quads


def _unpacked(first: Expr, second: Expr, size: int, high: int) -> Expr:
    """Elements of `size` bytes of two registers by turns: of the lower or higher half of every 16 bytes."""
    count, sixteen = WIDE // size, 16 // size
    order: list[int] = []
    for quarter in range(count // sixteen):
        for i in range(sixteen // 2):
            element = quarter * sixteen + i + high * (sixteen // 2)
            order += [element, count + element]
    return T.Shuffle([first, second], order)

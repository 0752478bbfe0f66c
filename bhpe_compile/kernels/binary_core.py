"""The inner loops of binary convolutions: xor, popcount, accumulate, with output channels in the lanes.

Targets with a vector popcount (AVX-512: 32-bit lanes, NEON: 16-bit lanes) accumulate popcount(a xor w)
directly; so do those for which LLVM makes one of shifts and adds. WebAssembly counts bytes and adds them in pairs.
AVX-512 broadcasts an activation word from memory inside the xor; NEON has no such operand, so it loads
eight words of a pixel at once and broadcasts from that register, which spares an address and a load for each.
Without a vector popcount (AVX2) a byte shuffle does xor and popcount in one step: for each nibble a of the
activations there is a table of popcount(a xor n) over n = 0..15, and the weight nibbles of 32 output channels
index it. Its counts are bytes; at most 31 words of 8 bits fit, then they are added to 16-bit sums: pairs of bytes as
they are, even + 256 * odd modulo 65536, and their odd bytes. What is even follows from both at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bhpe_compile.kernels.binary_layout import sums_from_border, words_of
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.kernel import packed_bytes
from bhpe_compile.kernels.tiling import (
    ChannelTile,
    channel_tiles,
    nested_tiles,
    pixel_tile,
    pixels_outside,
    repeated_tiles,
    share_tiles,
    tile_loops,
)
from bhpe_compile.kernels.tir import Expr, Share, T, cast, dtype_of, local, ramp, splat, store
from bhpe_compile.kernels.window import Window
from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import Tile

BYTE_SUM_WORDS = 31
"""Words of 8 bits whose popcounts fit in a byte: 31 * 8 = 248."""


SHORT_SUM_WORDS = 8
"""Sums over no more words cost less than what is done with them."""


def short_tile(isa: VectorIsa, words: int) -> tuple[int, int] | None:
    """The tile for sums over so few `words`, where the target has one."""
    return isa.short_tile if words <= SHORT_SUM_WORDS else None


def default_tile(isa: VectorIsa, width: int, channels: int, words: int) -> Tile:
    """The tile for rows of `width` outputs, sums over `words` words, where no measured one is given."""
    tile = short_tile(isa, words)
    most_pixels, most_vectors = tile or isa.binary_tile
    return Tile(pixel_tile(width, most_pixels), min(most_vectors, -(-channels // isa.popcount_lanes)))


@dataclass
class BinaryCore:
    """Emits convolution loops over one input; `epilogue` finishes what they accumulate."""

    isa: VectorIsa
    batch: int
    in_channels: int
    border: int
    epilogue: EpilogueEmitter
    share: Share
    tile: Tile | None = None
    table: Any = field(default=None, init=False)

    def prepare(self) -> None:
        """Fill the nibble table of targets that look counts up."""
        if self.isa.counts != "nibbles":
            return
        self.table = local(16, "uint8x32")
        nibble = T.bitwise_and(T.Cast("uint8x32", T.ramp(0, 1, 32)), splat(T.uint8(15), 32))
        for a in range(16):
            store(self.table, a, 1, T.popcount(nibble ^ splat(T.uint8(a), 32)))

    def emit(self, rows: Window, columns: Window, phase: int = 0) -> None:
        """All outputs of one window pair; `phase` picks the weights and the border table."""
        _Nest(self, rows, columns, phase).emit()


@dataclass
class _Nest:
    core: BinaryCore
    rows: Window
    columns: Window
    phase: int

    def __post_init__(self) -> None:
        core = self.core
        isa = core.isa
        self.words = words_of(core.in_channels, isa)
        self.length = self.rows.taps * self.columns.taps * self.words
        channels = core.epilogue.channels
        self.tile = core.tile or default_tile(isa, self.columns.count, channels, self.length)
        self.pixels = min(self.tile.pixels, self.columns.count)
        tiles = list(self._channel_tiles(channels))
        rows = core.batch * self.rows.count
        self.work, self.tiles = share_tiles(core.share, rows, self.columns.count // self.pixels, tiles)
        self.panels = -(-channels // isa.popcount_lanes)
        self.signed = sums_from_border(core.in_channels, isa)

    def _channel_tiles(self, channels: int) -> Iterator[ChannelTile]:
        """Tiles of neighbouring panels; of those that read the same of a repeated residual, where tiles are as wide."""
        isa, residual = self.core.isa, self.core.epilogue.epilogue.residual
        if isa.share_repeats and residual is not None and residual.kind == "repeat":
            repeats = channels // residual.channels
            if residual.channels % isa.popcount_lanes == 0 and repeats == self.tile.vectors > 1:
                return repeated_tiles(residual.channels, isa.popcount_lanes, repeats)
        return channel_tiles(channels, isa.popcount_lanes, self.tile.vectors)

    def emit(self) -> None:
        weights = self.panels * self.length * self.core.isa.popcount_lanes * self.core.isa.word_bits // 8
        nested_tiles(self.tiles, pixels_outside(self.tile, weights), self._pixels)

    def _pixels(self, tiles: list[ChannelTile]) -> None:
        size = (self.core.batch, self.rows.count, self.columns.count)
        tile_loops(self.work, *size, self.pixels, tiles, self._tile)

    def _tile(self, n: Expr, y: Expr, x: Expr, pixels: int, panel: Expr, tile: ChannelTile) -> None:
        if self.core.isa.counts == "nibbles":
            sums = self._lookup_sums(n, y, x, pixels, panel, tile)
        else:
            sums = self._popcount_sums(n, y, x, pixels, panel, tile)
        epilogue = self.core.epilogue
        lanes = self.core.isa.popcount_lanes
        for offset, width in epilogue.vectors(tile.channels):
            vector, lane = divmod(offset, lanes)
            c = (panel + vector * tile.step) * lanes + lane
            for p in range(pixels):
                out = (n, self.rows.out(y), self.columns.out(x + p))
                count = sums[ramp(p * tile.vectors * lanes + offset, width)]
                if self.signed:
                    value, factor = self._from_half(count, width)
                    epilogue.finish(value, *out, c, width, factor=factor)
                    continue
                dot = self._start(y, x + p, c, width) - splat(T.int32(2), width) * cast("int32", width, count)
                epilogue.finish(cast("float32", width, dot), *out, c, width)

    def _from_half(self, sums: Expr, width: int) -> tuple[Expr, int]:
        """Sums that began at minus half a dot product as floats, and the factor that makes dot products of them."""
        signed = T.reinterpret(dtype_of(f"int{self.core.isa.word_bits}", width), sums)
        if not self.core.isa.widening_doubles:
            return cast("float32", width, signed), -2
        doubled = T.shift_left(cast("int32", width, signed), splat(T.int32(1), width))
        return cast("float32", width, doubled), -1

    def _start(self, y: Expr, x: Expr, c: Expr, width: int) -> Expr:
        """The dot product of a pixel without any difference; minus half of it where sums begin there."""
        if "border" not in self.core.epilogue.buffers:
            products = self.core.in_channels * self.rows.taps * self.columns.taps
            bits = self.core.isa.word_bits
            start = T.Cast(f"uint{bits}", -(products // 2) % 2**bits) if self.signed else T.int32(products)
            return splat(start, width)
        row = self.phase * self.rows.classes + self.rows.class_of(y)
        index = row * self.columns.classes + self.columns.class_of(x)
        channels = self.panels * self.core.isa.popcount_lanes if self.signed else self.core.epilogue.channels
        return self.core.epilogue.buffers["border"][ramp(index * channels + c, width)]

    # ---- operands ----

    def _activation(self, n: Expr, y: Expr, x: Expr, word: Expr, count: int = 1) -> Expr:
        """`count` words from `word` on of the input row that starts at the first tap of output (y, x)."""
        core, size = self.core, self.core.isa.word_bits // 8
        height, width = self.rows.size + 2 * core.border, self.columns.size + 2 * core.border
        row = n * height + y + core.border - self.rows.pad
        column = x * self.columns.stride + core.border - self.columns.pad
        base = (row * width + column) * packed_bytes(core.in_channels) + word * size
        octets = core.epilogue.buffers["x"][ramp(base, size * count)]
        return octets if size == 1 else T.reinterpret(dtype_of(f"uint{core.isa.word_bits}", count), octets)

    def _weight(self, panel: Expr, word: Expr) -> Expr:
        lanes = self.core.isa.popcount_lanes
        index = (self.phase * self.panels + panel) * self.length + word
        return self.core.epilogue.buffers["weight"][ramp(index * lanes, lanes)]

    def _row_segments(self) -> list[tuple[int, int, int]]:
        """The words of one kernel row as (input word, weight word, count), each contiguous in the input."""
        pixel = packed_bytes(self.core.in_channels) * 8 // self.core.isa.word_bits
        if pixel == self.words:
            return [(0, 0, self.columns.taps * self.words)]
        return [(kw * pixel, kw * self.words, self.words) for kw in range(self.columns.taps)]

    def _reduce(
        self,
        n: Expr,
        y: Expr,
        x: Expr,
        pixels: int,
        step: Callable[[Callable[[int], Expr], Expr], None],
        most: int,
        flush: Any,
    ) -> None:
        """`step(activation of pixel p, weight word)` for every word, `flush` every `most` words or sooner."""
        row_words = self.columns.taps * self.words
        with T.serial(0, self.rows.taps) as kh:

            def several(at_in: Expr, at_weight: Expr, together: int) -> None:
                def load(p: int) -> Expr:
                    return self._activation(n, y * self.rows.stride + kh, x + p, at_in, together)

                if together == 1:
                    step(load, at_weight)
                    return
                held = local(pixels * together, f"uint{self.core.isa.word_bits}")
                for p in range(pixels):
                    store(held, p * together, together, load(p))
                for i in range(together):
                    step(lambda p, i=i: held[p * together + i], at_weight + i)  # type: ignore[misc]

            def run(first_in: Expr, first_weight: Expr, count: int) -> None:
                done = 0
                for together in (8, 4, 1):
                    repeats = (count - done) // together if together <= self.core.isa.words_together else 0
                    if repeats:
                        with T.serial(0, repeats) as k:
                            at = done + k * together
                            several(first_in + at, kh * row_words + first_weight + at, together)
                        done += repeats * together

            for first_in, first_weight, count in self._row_segments():
                pieces = -(-count // most)
                piece = -(-count // pieces)
                if pieces == 1:
                    run(first_in, first_weight, count)
                    flush()
                    continue
                with T.serial(0, pieces - 1) as chunk:
                    run(first_in + chunk * piece, first_weight + chunk * piece, piece)
                    flush()
                done = piece * (pieces - 1)
                run(first_in + done, first_weight + done, count - done)
                flush()

    # ---- sums ----

    def _popcount_sums(self, n: Expr, y: Expr, x: Expr, pixels: int, panel: Expr, tile: ChannelTile) -> Any:
        vectors, step_panels = tile.vectors, tile.step
        lanes, dtype = self.core.isa.popcount_lanes, f"uint{self.core.isa.word_bits}"
        sums = local(pixels * vectors * lanes, dtype)
        for p in range(pixels):
            for j in range(vectors):
                start = self._start(y, x + p, (panel + j * step_panels) * lanes, lanes)
                zero = splat(T.Cast(dtype, 0), lanes)
                store(sums, (p * vectors + j) * lanes, lanes, start if self.signed else zero)

        def step(activation: Callable[[int], Expr], word: Expr) -> None:
            for p in range(pixels):
                a = splat(activation(p), lanes)
                for j in range(vectors):
                    at = (p * vectors + j) * lanes
                    ones = self._count(a ^ self._weight(panel + j * step_panels, word))
                    store(sums, at, lanes, sums[ramp(at, lanes)] + ones)

        self._reduce(n, y, x, pixels, step, self.length, lambda: None)
        return sums

    def _count(self, words: Expr) -> Expr:
        """The set bits of each word."""
        isa = self.core.isa
        if isa.counts == "words":
            return T.popcount(words)
        octets = T.popcount(T.reinterpret(f"uint8x{isa.word_bits // 8 * isa.popcount_lanes}", words))
        dtype = dtype_of(f"uint{isa.word_bits}", isa.popcount_lanes)
        return T.call_llvm_pure_intrin(dtype, isa.counting, octets)

    def _lookup_sums(self, n: Expr, y: Expr, x: Expr, pixels: int, panel: Expr, tile: ChannelTile) -> Any:
        lanes, table, vectors = self.core.isa.popcount_lanes, self.core.table, tile.vectors
        half = lanes // 2
        size = pixels * vectors * lanes
        sums, wide = local(size, "uint8"), local(size, "uint16")
        low, high = local(vectors * lanes, "uint8"), local(vectors * lanes, "uint8")

        def clear() -> None:
            for at in range(0, size, lanes):
                store(sums, at, lanes, splat(T.uint8(0), lanes))

        def look_up(nibble: Expr, index: Expr) -> Expr:
            row = table[T.Cast("int32", nibble)]
            return T.call_llvm_pure_intrin("uint8x32", self.core.isa.counting, row, index)

        def step(activation: Callable[[int], Expr], word: Expr) -> None:
            fifteen = splat(T.uint8(15), lanes)
            for j in range(vectors):
                weight = self._weight(panel + j * tile.step, word)
                store(low, j * lanes, lanes, T.bitwise_and(weight, fifteen))
                store(high, j * lanes, lanes, T.shift_right(weight, splat(T.uint8(4), lanes)))
            for p in range(pixels):
                a = activation(p)
                for j in range(vectors):
                    at = ramp((p * vectors + j) * lanes, lanes)
                    part = ramp(j * lanes, lanes)
                    ones = look_up(T.bitwise_and(a, T.uint8(15)), low[part])
                    ones = ones + look_up(T.shift_right(a, T.uint8(4)), high[part])
                    T.buffer_store(sums, sums[at] + ones, [at])

        def flush() -> None:
            for at in range(0, size, lanes):
                pairs = T.reinterpret(f"uint16x{half}", sums[ramp(at, lanes)])
                odd = T.shift_right(pairs, splat(T.uint16(8), half))
                store(wide, at, half, wide[ramp(at, half)] + pairs)
                store(wide, at + half, half, wide[ramp(at + half, half)] + odd)
            clear()

        clear()
        if self.length <= BYTE_SUM_WORDS:
            self._reduce(n, y, x, pixels, step, self.length, lambda: None)
            return sums
        for at in range(0, size, half):
            store(wide, at, half, splat(T.uint16(0), half))
        self._reduce(n, y, x, pixels, step, BYTE_SUM_WORDS, flush)
        for at in range(0, size, lanes):
            odd = wide[ramp(at + half, half)]
            even = wide[ramp(at, half)] - T.shift_left(odd, splat(T.uint16(8), half))
            both = T.call_llvm_pure_intrin(f"uint16x{lanes}", "llvm.vector.interleave2", even, odd)
            store(wide, at, lanes, both)
        return wide

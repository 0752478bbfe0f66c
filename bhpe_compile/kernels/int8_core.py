"""The inner loops of 8-bit convolutions: broadcast a group of levels, multiply-accumulate into output channels.

One word is `group` neighbouring input values; a weight vector holds the same word of `lanes` output channels. Sums are
int32 and exact (see `int8_layout`); they begin at `start`, so that the zero point costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.int8_layout import row_words
from bhpe_compile.kernels.tiling import (
    L1_WEIGHTS,
    ChannelTile,
    channel_tiles,
    nested_tiles,
    pixel_tile,
    share_tiles,
    tile_loops,
)
from bhpe_compile.kernels.tir import Expr, Share, T, cast, dtype_of, local, ramp, splat, store
from bhpe_compile.kernels.window import Window
from bhpe_compile.targets.isa import VectorIsa


@dataclass
class Int8Core:
    """Emits convolution loops over one input; `epilogue` finishes what they accumulate."""

    isa: VectorIsa
    batch: int
    in_channels: int
    border: int
    stored_width: int
    epilogue: EpilogueEmitter
    share: Share

    def emit(self, rows: Window, columns: Window, phase: int = 0) -> None:
        """All outputs of one window pair; `phase` picks the weights."""
        _Nest(self, rows, columns, phase).emit()


@dataclass
class _Nest:
    core: Int8Core
    rows: Window
    columns: Window
    phase: int

    def __post_init__(self) -> None:
        core = self.core
        self.use = core.isa.int8
        most_pixels, most_vectors = self.use.tile
        self.words = row_words(self.columns.taps, core.in_channels, self.use)
        self.length = self.rows.taps * self.words
        self.pixels = pixel_tile(self.columns.count, most_pixels)
        channels = core.epilogue.channels
        tiles = list(channel_tiles(channels, self.use.lanes, most_vectors))
        rows = core.batch * self.rows.count
        self.work, self.tiles = share_tiles(core.share, rows, self.columns.count // self.pixels, tiles)
        self.panels = -(-channels // self.use.lanes)

    def emit(self) -> None:
        weights = self.panels * self.length * self.use.lanes * self.use.group
        nested_tiles(self.tiles, weights <= L1_WEIGHTS, self._pixels)

    def _pixels(self, tiles: list[ChannelTile]) -> None:
        size = (self.core.batch, self.rows.count, self.columns.count)
        tile_loops(self.work, *size, self.pixels, tiles, self._tile)

    def _tile(self, n: Expr, y: Expr, x: Expr, pixels: int, panel: Expr, tile: ChannelTile) -> None:
        lanes, vectors = self.use.lanes, tile.vectors
        sums = local(pixels * vectors * lanes, "int32")
        for j in range(vectors):
            for p in range(pixels):
                store(sums, (p * vectors + j) * lanes, lanes, self._start(panel * lanes + j * lanes, lanes))
        with T.serial(0, self.rows.taps) as kh:
            row = y * self.rows.stride + kh
            for start, repeats, together in self._runs():
                with T.serial(0, repeats) as k:
                    word = start + k * together
                    words = [self._activations(n, row, x + p, word, together) for p in range(pixels)]
                    for j in range(vectors):
                        for i in range(together):
                            weight = self._weight(panel + j, kh * self.words + word + i)
                            for p in range(pixels):
                                self._accumulate(sums, (p * vectors + j) * lanes, words[p][i], weight)
        epilogue = self.core.epilogue
        for offset, width in epilogue.vectors(tile.channels):
            for p in range(pixels):
                dot = cast("float32", width, sums[ramp(p * vectors * lanes + offset, width)])
                out = (n, self.rows.out(y), self.columns.out(x + p))
                epilogue.finish(dot, *out, panel * lanes + offset, width)

    def _runs(self) -> Iterator[tuple[int, int, int]]:
        """The words of a kernel row as (first word, repeats, words that one load brings)."""
        done, together = 0, self.use.words_together
        while together:
            repeats = (self.words - done) // together
            if repeats:
                yield done, repeats, together
            done += repeats * together
            together //= 2

    def _start(self, c: Expr, lanes: int) -> Expr:
        if self.use.shift is None:
            return splat(T.int32(0), lanes)
        return self.core.epilogue.buffers["start"][ramp(self.phase * self.panels * lanes + c, lanes)]

    def _accumulate(self, sums: Any, first: int, a: Any, w: Any) -> None:
        """Add the products of one word to `lanes` sums."""
        if self.use.name != "smull":
            at = ramp(first, self.use.lanes)
            T.buffer_store(sums, self._multiply(sums[at], a, w), [at])
            return
        for half in range(2):  # products of two words in 16 bits, then their pairs into four 32-bit sums
            at = ramp(first + 4 * half, 4)
            products = a[0] * w[0][half] + a[1] * w[1][half]
            T.buffer_store(sums, self._add_pairs(sums[at], products), [at])

    def _add_pairs(self, total: Expr, products: Expr) -> Expr:
        if self.core.isa.name == "neon32":
            name = "llvm.arm.neon.vpadals.v4i32.v8i16"
            return T.call_llvm_pure_intrin("int32x4", name, total, products)
        return total + T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", products)

    def _activations(self, n: Expr, y: Expr, x: Expr, word: Expr, count: int) -> list[Any]:
        """`count` words from `word` on of the kernel row at input row y of output column x, as `_accumulate` wants
        them: loaded at once, each broadcast."""
        core, use = self.core, self.use
        height = self.rows.size + 2 * core.border
        row = n * height + y + core.border - self.rows.pad
        column = x * self.columns.stride + core.border - self.columns.pad
        base = (row * core.stored_width + column) * core.in_channels + word * use.group
        if use.name == "smull":
            pairs = self._pairs(base)
            return [[T.Cast("int16x8", T.reinterpret("int8x8", splat(pair, 4))) for pair in pairs]]
        values = core.epilogue.buffers["x"][ramp(base, use.group * count)]
        if use.group == 1:
            return [cast("int32", use.lanes, splat(values, use.lanes))]
        words = T.reinterpret(dtype_of("int32", count), values)
        kind = "int16x16" if use.name == "pmaddwd" else f"int8x{4 * use.lanes}"
        if count == 1:
            return [T.reinterpret(kind, splat(words, use.lanes))]
        held = local(count, "int32")
        store(held, 0, count, words)
        return [T.reinterpret(kind, splat(held[i], use.lanes)) for i in range(count)]

    def _pairs(self, base: Expr) -> list[Expr]:
        """The two int16 of a word: loaded at once on AArch64, where LLVM otherwise copies sums from register to
        register between the loads; 32-bit ARM, with half the registers, is better off with each where it is used."""
        x = self.core.epilogue.buffers["x"]
        if self.core.isa.name == "neon32":
            return [T.reinterpret("int16", x[ramp(base + 2 * k, 2)]) for k in range(2)]
        pairs = local(2, "int16")
        store(pairs, 0, 2, T.reinterpret("int16x2", x[ramp(base, 4)]))
        return [pairs[0], pairs[1]]

    def _weight(self, panel: Expr, word: Expr) -> Any:
        use = self.use
        size = use.lanes * use.group
        index = (self.phase * self.panels + panel) * self.length + word
        if use.name == "smull":
            buffer = self.core.epilogue.buffers["weight"]
            return [
                [T.Cast("int16x8", buffer[ramp(index * size + 16 * k + 8 * half, 8)]) for half in range(2)]
                for k in range(2)
            ]
        values = self.core.epilogue.buffers["weight"][ramp(index * size, size)]
        if use.name == "pmaddwd":
            return T.Cast("int16x16", values)
        return cast("int32", use.lanes, cast("int16", use.lanes, values)) if use.name == "smlal" else values

    def _multiply(self, total: Expr, a: Expr, w: Expr) -> Expr:
        name = self.use.name
        if name == "vpdpbusd":
            return T.call_llvm_pure_intrin("int32x16", "llvm.x86.avx512.vpdpbusd.512", total, a, w)
        if name == "pmaddwd":
            return total + T.call_llvm_pure_intrin("int32x8", "llvm.x86.avx2.pmadd.wd", a, w)
        if name == "sdot":
            # the word last: there the instruction takes a lane of a register, and nothing has to be broadcast
            return T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.sdot.v4i32.v16i8", total, w, a)
        return total + a * w

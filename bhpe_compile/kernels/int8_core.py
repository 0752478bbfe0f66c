"""The inner loops of 8-bit convolutions: broadcast a group of levels, multiply-accumulate into output channels.

One word is `group` neighbouring input values; a weight vector holds the same word of `lanes` output channels. Sums are
int32 and exact (see `int8_layout`); they begin at `start`, so that the zero point costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter, Register
from bhpe_compile.kernels.int8_layout import row_words
from bhpe_compile.kernels.int8_products import products_of
from bhpe_compile.kernels.tiling import (
    L1_WEIGHTS,
    ChannelTile,
    channel_tiles,
    nested_tiles,
    pixel_tile,
    share_tiles,
    tile_loops,
)
from bhpe_compile.kernels.tir import Expr, Share, T, cast, local, ramp, splat, store
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
        buffers = core.epilogue.buffers
        self.products = products_of(self.use, buffers["x"], buffers["weight"])
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
                    if self.use.weights_held:
                        self._held(sums, words, panel, kh * self.words + word, vectors)
                        continue
                    for j in range(vectors):
                        for i in range(together):
                            weight = self._weight(panel + j, kh * self.words + word + i)
                            for p in range(pixels):
                                self.products.accumulate(sums, (p * vectors + j) * lanes, words[p][i], weight)
        epilogue = self.core.epilogue
        if lanes == self.core.isa.float_lanes and epilogue.takes_registers(tile.channels):
            registers = [
                Register(
                    cast("float32", lanes, sums[ramp((p * vectors + j) * lanes, lanes)]),
                    self.columns.out(x + p),
                    (panel + j) * lanes,
                    min(lanes, tile.channels - j * lanes),
                    self._place(p, j),
                )
                for p in range(pixels)
                for j in range(vectors)
            ]
            epilogue.finish_registers(registers, n, self.rows.out(y))
            return
        for offset, width in epilogue.vectors(tile.channels):
            for p in range(pixels):
                dot = cast("float32", width, sums[ramp(p * vectors * lanes + offset, width)])
                out = (n, self.rows.out(y), self.columns.out(x + p))
                epilogue.finish(dot, *out, panel * lanes + offset, width)

    def _place(self, pixel: int, vector: int) -> int:
        """How many values the levels of a vector lie behind those of the tile's first pixel."""
        channels = self.core.epilogue.channels
        return pixel * self.columns.out_step * channels + vector * self.use.lanes

    def _held(self, sums: Any, words: list[list[Any]], panel: Expr, word: Expr, vectors: int) -> None:
        """The products of one word, whose weights stay in registers while the pixels go by."""
        lanes, size = self.use.lanes, self.use.lanes * self.use.group
        held = local(vectors * size, self.use.operand)
        for j in range(vectors):
            (weight,) = self._weight(panel + j, word)
            store(held, j * size, size, weight)
        for p, (activation,) in enumerate(words):
            for j in range(vectors):
                weight = held[ramp(j * size, size)]
                self.products.accumulate(sums, (p * vectors + j) * lanes, activation, [weight])

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

    def _activations(self, n: Expr, y: Expr, x: Expr, word: Expr, count: int) -> list[Any]:
        """`count` words from `word` on of the kernel row at input row y of output column x."""
        core, use = self.core, self.use
        height = self.rows.size + 2 * core.border
        row = n * height + y + core.border - self.rows.pad
        column = x * self.columns.stride + core.border - self.columns.pad
        base = (row * core.stored_width + column) * core.in_channels + word * use.group
        return self.products.activations(base, count)

    def _weight(self, panel: Expr, word: Expr) -> Any:
        index = (self.phase * self.panels + panel) * self.length + word
        return self.products.weight(index)

"""The inner loops of float convolutions: broadcast an input, multiply-add into lanes of output channels.

float16 weights are widened on load; sums are float32. No padded copy of the input is made: kernel rows
outside the input are left out of the loop, and the few tiles at the left and right edge are emitted with
their pixels fixed, so that taps outside the input are left out of the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from bhpe_compile.kernels.dense_layout import panel_lanes
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.tiling import (
    ChannelTile,
    channel_tiles,
    nested_tiles,
    pixel_tile,
    pixels_outside,
    share_tiles,
)
from bhpe_compile.kernels.tir import Expr, Share, T, cast, f32, load_floats, local, ramp, splat, store
from bhpe_compile.kernels.window import Window
from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import Tile

WEIGHT_BYTES = {"float32": 4, "float16": 2, "int8": 1}

LONE_PIXEL_VECTORS = 8
"""Vectors of a tile of one pixel: independent sums hide the latency of multiply-add."""


def default_tile(isa: VectorIsa, width: int, channels: int) -> Tile:
    """The tile for rows of `width` outputs where no measured one is given."""
    most_pixels, most_vectors = isa.dense_tile
    lanes = panel_lanes(channels, isa)
    if channels <= lanes:  # one vector a pixel: more pixels hide the latency of multiply-add
        most_pixels *= 2
    pixels = pixel_tile(width, most_pixels)
    vectors = LONE_PIXEL_VECTORS if pixels == 1 else most_vectors
    return Tile(pixels, min(vectors, -(-channels // lanes)))


@dataclass
class DenseCore:
    """Emits convolution loops over one input; `epilogue` finishes what they accumulate."""

    isa: VectorIsa
    batch: int
    in_channels: int
    weight_dtype: str
    epilogue: EpilogueEmitter
    share: Share
    tile: Tile | None = None

    def emit(self, rows: Window, columns: Window, phase: int = 0) -> None:
        """All outputs of one window pair; `phase` picks the weights."""
        _Nest(self, rows, columns, phase).emit()


@dataclass
class _Nest:
    core: DenseCore
    rows: Window
    columns: Window
    phase: int

    def __post_init__(self) -> None:
        core = self.core
        channels = core.epilogue.channels
        self.lanes = panel_lanes(channels, core.isa)
        self.length = self.rows.taps * self.columns.taps * core.in_channels
        self.tile = core.tile or default_tile(core.isa, self.columns.count, channels)
        self.pixels = min(self.tile.pixels, self.columns.count)
        tiles = list(channel_tiles(channels, self.lanes, self.tile.vectors))
        alike = 0 if self.columns.is_cut else self.columns.count // self.pixels
        rows = core.batch * self.rows.count
        self.work, self.tiles = share_tiles(core.share, rows, alike, tiles)
        self.panels = -(-channels // self.lanes)

    def emit(self) -> None:
        bytes_of_weights = self.panels * self.length * self.lanes * WEIGHT_BYTES[self.core.weight_dtype]
        nested_tiles(self.tiles, pixels_outside(self.tile, bytes_of_weights), self._pixels)

    def _pixels(self, tiles: list[ChannelTile]) -> None:
        width, size = self.columns.count, self.pixels
        starts = range(0, width, size)

        def whole(start: int) -> bool:
            return start + size <= width and all(all(self.columns.valid(start + p)) for p in range(size))

        with self.work.rows(self.core.batch, self.rows.count) as (n, y):
            for is_whole, group in groupby(starts, whole):
                run = list(group)
                if is_whole and len(run) > 1:
                    with self.work.pixel_tiles(len(run)) as xo:
                        self._channels(n, y, run[0] + xo * size, size, tiles, None)
                    continue
                for start in run:
                    pixels = min(size, width - start)
                    taps = None if is_whole else [self.columns.valid(start + p) for p in range(pixels)]
                    with self.work.rest():
                        self._channels(n, y, start, pixels, tiles, taps)

    def _channels(self, n: Expr, y: Expr, x: Expr, pixels: int, tiles: list[ChannelTile], taps: Any) -> None:
        for tile in tiles:
            tile.loop(lambda panel, tile=tile: self._tile(n, y, x, pixels, panel, tile, taps))  # type: ignore[misc]

    def _tile(
        self,
        n: Expr,
        y: Expr,
        x: Expr,
        pixels: int,
        panel: Expr,
        tile: ChannelTile,
        taps: list[tuple[bool, ...]] | None,
    ) -> None:
        """`taps` lists the valid column taps of each pixel of an edge tile, None where all are valid."""
        vectors, lanes = tile.vectors, self.lanes
        ways = max(1, 8 // (pixels * vectors)) if self.columns.count == 1 else 1
        size = pixels * vectors * lanes
        sums = local(ways * size, "float32")
        for at in range(0, ways * size, lanes):
            store(sums, at, lanes, f32(0, lanes))
        with self._kernel_rows(y) as kh:
            for first, ahead, count, valid in self._segments(pixels, taps):

                def step(
                    k: Expr, way: int, first: int = first, ahead: int = ahead, valid: list[int] = valid
                ) -> None:
                    word = kh * (self.columns.taps * self.core.in_channels) + first + k
                    weights = [self._weight(panel + j, word) for j in range(vectors)]
                    row = y * self.rows.stride + kh * self.rows.dilation
                    for p in valid:
                        a = splat(self._activation(n, row, x + p, ahead + k), lanes)
                        for j in range(vectors):
                            at = ramp(way * size + (p * vectors + j) * lanes, lanes)
                            T.buffer_store(sums, sums[at] + a * weights[j], [at])

                with T.serial(0, count // ways) as k:
                    for way in range(ways):
                        step(k * ways + way, way)
                for rest in range(count - count % ways, count):
                    step(rest, rest % ways)
        for way in range(1, ways):
            for at in range(0, size, lanes):
                store(sums, at, lanes, sums[ramp(at, lanes)] + sums[ramp(way * size + at, lanes)])
        for offset, width in self.core.epilogue.vectors(tile.channels):
            for p in range(pixels):
                dot = sums[ramp(p * vectors * lanes + offset, width)]
                out = (n, self.rows.out(y), self.columns.out(x + p))
                self.core.epilogue.finish(dot, *out, panel * lanes + offset, width)

    def _kernel_rows(self, y: Expr) -> Any:
        """The loop over kernel rows that lie inside the input."""
        if not self.rows.is_cut:
            return T.serial(0, self.rows.taps)
        first, step = self.rows.pad - y * self.rows.stride, self.rows.dilation

        def ceiling(number: Expr) -> Expr:
            """number / step, rounded up; negative numbers stay below 0 or become it."""
            return number if step == 1 else T.truncdiv(T.max(number, 0) + (step - 1), step)

        return T.serial(T.max(ceiling(first), 0), T.min(ceiling(first + self.rows.size), self.rows.taps))

    def _segments(
        self, pixels: int, taps: list[tuple[bool, ...]] | None
    ) -> list[tuple[int, int, int, list[int]]]:
        """(first, ahead, count, pixels): runs of one kernel row's weights, the value of the input row that the first
        of them meets, and the pixels that have them."""
        channels, step = self.core.in_channels, self.columns.dilation
        everywhere = list(range(pixels))
        if taps is None and step == 1:
            return [(0, 0, self.columns.taps * channels, everywhere)]
        listed = [
            (kw, everywhere if taps is None else [p for p in everywhere if taps[p][kw]])
            for kw in range(self.columns.taps)
        ]
        return [(kw * channels, kw * step * channels, channels, valid) for kw, valid in listed if valid]

    def _activation(self, n: Expr, y: Expr, x: Expr, k: Expr) -> Expr:
        """Value k of the input row that starts at the first column tap of output column x."""
        row = n * self.rows.size + y - self.rows.pad
        column = x * self.columns.stride - self.columns.pad
        return self.core.epilogue.buffers["x"][(row * self.columns.size + column) * self.core.in_channels + k]

    def _weight(self, panel: Expr, word: Expr) -> Expr:
        index = (self.phase * self.panels + panel) * self.length + word
        weight = self.core.epilogue.buffers["weight"]
        if self.core.weight_dtype == "int8":  # by way of int32, a conversion every vector unit has
            levels = weight[ramp(index * self.lanes, self.lanes)]
            return cast("float32", self.lanes, cast("int32", self.lanes, levels))
        return load_floats(weight, index * self.lanes, self.lanes, self.core.isa)

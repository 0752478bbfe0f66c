"""Register tiles: how many pixels and how many vectors of output channels are accumulated at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bhpe_compile.kernels.tir import T
from bhpe_compile.targets.tile import Tile

L1_WEIGHTS = 24 * 1024
"""Weights up to this many bytes stay in a first-level cache while the pixels go by."""


def pixel_tile(width: int, most: int) -> int:
    """Pixels a tile so that a row of `width` takes the least work; a tile's loads count as one pixel."""

    def work(pixels: int) -> float:
        rest = width % pixels
        return (width // pixels) * (pixels + 1) + (rest + 1.5 if rest else 0)

    return min(range(min(most, width), 0, -1), key=work)


def pixels_outside(tile: Tile, weight_bytes: int) -> bool:
    """Whether pixels are the outer loop: when all weights stay in the cache, unless the tile says otherwise."""
    return weight_bytes <= L1_WEIGHTS if tile.channels_outside is None else not tile.channels_outside


@dataclass(frozen=True)
class ChannelTile:
    """`count` tiles of `vectors` weight panels from panel `first` on, `channels` output channels each."""

    count: int
    first: Any
    vectors: int
    channels: int

    def loop(self, visit: Callable[[Any], None]) -> None:
        """Emit `visit(panel)` for the first panel of each tile."""
        if self.count == 1:
            visit(self.first)
        else:
            with T.serial(0, self.count) as tile:
                visit(tile * self.vectors + self.first)


def channel_tiles(channels: int, lanes: int, most: int) -> Iterator[ChannelTile]:
    """`channels` in tiles of at most `most` vectors of `lanes`: equal whole tiles, then one rest."""
    vectors = min(most, -(-channels // lanes))
    whole = channels // (vectors * lanes)
    if whole:
        yield ChannelTile(whole, 0, vectors, vectors * lanes)
    rest = channels - whole * vectors * lanes
    if rest:
        yield ChannelTile(1, whole * vectors, -(-rest // lanes), rest)


def nested_tiles(
    tiles: list[ChannelTile], pixels_outside: bool, visit: Callable[[list[ChannelTile]], None]
) -> None:
    """Emit `visit` (a loop over all pixels) once for all tiles, or once inside a loop over the tiles."""
    if pixels_outside:
        visit(tiles)
        return
    for tile in tiles:

        def one(panel: Any, tile: ChannelTile = tile) -> None:
            visit([ChannelTile(1, panel, tile.vectors, tile.channels)])

        tile.loop(one)

"""Register tiles: how many pixels and how many vectors of output channels are accumulated at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from bhpe_compile.kernels.tir import Expr, Share, T, between, chunks
from bhpe_compile.targets.tile import Tile

L1_WEIGHTS = 24 * 1024
"""Weights up to this many bytes stay in a first-level cache while the pixels go by."""


LEAST_UNITS = 4
"""Fewer units of work than this are not worth being shared between threads, if there are smaller units."""


@dataclass(frozen=True)
class Work:
    """How the parts of a convolution share it: by rows of the maps, by tiles of pixels, or by tiles of channels."""

    share: Share
    units: Literal["rows", "pixels", "channels"]

    @contextmanager
    def rows(self, batch: int, height: int) -> Iterator[tuple[Expr, Expr]]:
        """The loop over this part's rows as (map, row)."""
        if self.units == "rows":
            with self.share.rows(batch, height) as place:
                yield place
        else:
            with T.serial(0, batch) as n, T.serial(0, height) as y:
                yield n, y

    def pixel_tiles(self, count: int) -> Any:
        """The loop over this part's whole tiles of a row."""
        return self.share.loop(count) if self.units == "pixels" else T.serial(0, count)

    @contextmanager
    def rest(self) -> Iterator[None]:
        """Around the code for the pixels behind the whole tiles of a row."""
        if self.units == "pixels":
            with T.If(self.share.is_last), T.Then():
                yield
        else:
            yield


def work(share: Share, rows: int, pixel_tiles: int) -> Work:
    """The largest units of which there are enough: `rows` of all maps, `pixel_tiles` of one row (0: unlike each
    other); else channels."""
    if rows >= LEAST_UNITS:
        return Work(share, "rows")
    return Work(share, "pixels" if pixel_tiles >= LEAST_UNITS else "channels")


def pixel_tile(width: int, most: int) -> int:
    """Pixels a tile so that a row of `width` takes the least work; a tile's loads count as one pixel."""

    def work(pixels: int) -> float:
        rest = width % pixels
        return (width // pixels) * (pixels + 1) + (rest + 1.5 if rest else 0)

    return min(range(min(most, width), 0, -1), key=work)


def pixels_outside(tile: Tile, weight_bytes: int) -> bool:
    """Whether pixels are the outer loop: when all weights stay in the cache, unless the tile says otherwise."""
    return weight_bytes <= L1_WEIGHTS if tile.channels_outside is None else not tile.channels_outside


def channel_loops(channels: int, lanes: int) -> Iterator[tuple[Expr, int]]:
    """The first channel and the lanes of every vector of `channels`: whole vectors in a loop, then what is left.

    What is emitted for a vector stands in the body of the caller's `for`; it is to run to its end.
    """
    whole = channels // lanes
    if whole > 1:
        with T.serial(0, whole) as vector:
            yield vector * lanes, lanes
    elif whole:
        yield 0, lanes
    yield from chunks(channels, lanes)[whole:]


@dataclass(frozen=True)
class ChannelTile:
    """`count` tiles of `vectors` weight panels from panel `first` on, `channels` output channels each.

    A tile's panels lie side by side, or `step` panels apart; the next tile begins behind them, or one panel on.
    """

    count: int
    first: Any
    vectors: int
    channels: int
    limits: tuple[Expr, Expr] | None = None  # the first of the tiles to visit and the one behind the last
    step: int = 1

    def loop(self, visit: Callable[[Any], None]) -> None:
        """Emit `visit(panel)` for the first panel of each tile."""
        ahead = self.vectors if self.step == 1 else 1
        if self.limits is not None:
            with between(*self.limits) as tile:
                visit(tile * ahead + self.first)
        elif self.count == 1:
            visit(self.first)
        else:
            with T.serial(0, self.count) as tile:
                visit(tile * ahead + self.first)


def channel_tiles(channels: int, lanes: int, most: int) -> Iterator[ChannelTile]:
    """`channels` in tiles of at most `most` vectors of `lanes`: equal whole tiles, then one rest."""
    vectors = min(most, -(-channels // lanes))
    whole = channels // (vectors * lanes)
    if whole:
        yield ChannelTile(whole, 0, vectors, vectors * lanes)
    rest = channels - whole * vectors * lanes
    if rest:
        yield ChannelTile(1, whole * vectors, -(-rest // lanes), rest)


def repeated_tiles(channels: int, lanes: int, repeats: int) -> Iterator[ChannelTile]:
    """`repeats` times `channels`, in tiles of one vector of each time: what is read by channel is read once for all."""
    step = channels // lanes
    yield ChannelTile(step, 0, repeats, repeats * lanes, step=step)


def shared_tiles(tiles: list[ChannelTile], share: Share) -> list[ChannelTile]:
    """The same tiles, of which loops visit only those of this part."""
    first, end = share.of(sum(tile.count for tile in tiles))
    start, limited = 0, []
    for tile in tiles:
        low, high = (T.bind(T.min(T.max(at - start, 0), tile.count)) for at in (first, end))
        limited.append(replace(tile, limits=(low, high)))
        start += tile.count
    return limited


def share_tiles(
    share: Share, rows: int, pixel_tiles: int, tiles: list[ChannelTile]
) -> tuple[Work, list[ChannelTile]]:
    """How a convolution is shared (see `work`), and the channel tiles its loops visit."""
    shared = work(share, rows, pixel_tiles)
    return shared, shared_tiles(tiles, share) if shared.units == "channels" else tiles


def tile_loops(
    shared: Work,
    batch: int,
    height: int,
    width: int,
    pixels: int,
    tiles: list[ChannelTile],
    emit: Callable[[Expr, Expr, Expr, int, Any, ChannelTile], None],
) -> None:
    """`emit(map, row, column, pixels, panel, tile)` for all tiles of channels at all tiles of a row's pixels."""

    def at(n: Expr, y: Expr, x: Expr, count: int) -> None:
        for tile in tiles:
            tile.loop(lambda panel, tile=tile: emit(n, y, x, count, panel, tile))  # type: ignore[misc]

    whole, rest = divmod(width, pixels)
    with shared.rows(batch, height) as (n, y):
        with shared.pixel_tiles(whole) as xo:
            at(n, y, xo * pixels, pixels)
        if rest:
            with shared.rest():
                at(n, y, whole * pixels, rest)


def nested_tiles(
    tiles: list[ChannelTile], pixels_outside: bool, visit: Callable[[list[ChannelTile]], None]
) -> None:
    """Emit `visit` (a loop over all pixels) once for all tiles, or once inside a loop over the tiles."""
    if pixels_outside:
        visit(tiles)
        return
    for tile in tiles:

        def one(panel: Any, tile: ChannelTile = tile) -> None:
            visit([replace(tile, count=1, first=panel, limits=None)])

        tile.loop(one)

"""Which tiles are worth a measurement: those whose sums fit the registers, best first by a simple estimate.

A tile of p pixels and v vectors does p * v multiply-accumulates on vectors for p + v loads, and needs enough of them
to hide their latency. Pixels and channels that do not divide leave smaller tiles at the end of a row.
"""

from __future__ import annotations

from bhpe_compile.errors import BhpeError
from bhpe_compile.kernels.kernel import Kernel
from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import Tile

MOST = 10
"""Candidates besides the heuristic's own tile."""

LATENCY = 10
"""Independent sums that keep the vector units busy: about two units of five cycles each."""

LOAD = 0.5
"""Price of a load next to a multiply-accumulate."""


def candidates(kernel: Kernel, isa: VectorIsa) -> list[Tile]:
    """The heuristic's tile first, then at most `MOST` others."""
    default, whole = kernel.default_tile(isa), kernel.whole_tile(isa)
    if default is None or whole is None:
        raise BhpeError(f"{kernel.symbol()}: has no tiles")
    width = isa.float_registers if kernel.symbol().startswith("dense") else 1
    fitting = [
        Tile(pixels, vectors)
        for pixels in range(1, min(whole.pixels, 14) + 1)
        for vectors in range(1, min(whole.vectors, 12) + 1)
        if width * (pixels * vectors + min(pixels, vectors)) + 2 <= isa.registers
    ]
    ranked = sorted(fitting, key=lambda tile: (estimate(tile, whole), -tile.vectors))
    others = [tile for tile in ranked if tile != default][: MOST - 2]
    turned = [
        Tile(tile.pixels, tile.vectors, outside)
        for tile in (default, *others[:1])
        for outside in (True, False)
        if whole.vectors > tile.vectors
    ]
    return [default, *others, *turned][: MOST + 3]


def estimate(tile: Tile, whole: Tile) -> float:
    """Relative cost of one word over all pixels of a row and all channels."""
    total = 0.0
    for pixels, pixel_tiles in _parts(whole.pixels, tile.pixels):
        for vectors, channel_tiles in _parts(whole.vectors, tile.vectors):
            work = max(pixels * vectors, LATENCY) + LOAD * (pixels + vectors)
            total += pixel_tiles * channel_tiles * work
    return total


def _parts(count: int, size: int) -> list[tuple[int, int]]:
    """`count` in pieces of `size`: (size of a piece, how many of them)."""
    whole, rest = divmod(count, size)
    return [(size, whole)] * (whole > 0) + [(rest, 1)] * (rest > 0)

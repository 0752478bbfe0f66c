"""Noise that the shaders and the clothes look up: smooth, without seams, the same in every picture."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SIDE = 32
"""Cells of the cube; it repeats."""

SMOOTHING = (2, 2, 2, 0)
"""Of the four channels: how often neighbours are mixed. The last one is fine."""


@cache
def grain() -> NDArray[np.float32]:
    """float32 [SIDE, SIDE, SIDE, 4]: four fields of mean 0 and deviation 1, periodic along every axis."""
    rng = np.random.default_rng(3)
    channels = []
    for times in SMOOTHING:
        field = rng.standard_normal((SIDE, SIDE, SIDE), np.float32)
        for _ in range(times):
            for axis in range(3):
                field = 0.5 * field + 0.25 * (np.roll(field, 1, axis) + np.roll(field, -1, axis))
        channels.append((field - field.mean()) / field.std())
    return np.ascontiguousarray(np.stack(channels, -1), np.float32)


def sample_grain(places: NDArray[np.float64], channel: int) -> NDArray[np.float32]:
    """The field of a channel at places [N, 3], in cells; float32 [N]."""
    low = np.floor(places).astype(np.int64)
    t = (places - low).astype(np.float32)
    field = grain()[..., channel]
    total = np.zeros(len(places), np.float32)
    for corner in range(8):
        step = np.array([corner & 1, corner >> 1 & 1, corner >> 2])
        weight = np.where(step, t, 1 - t).prod(1)
        x, y, z = ((low + step) % SIDE).T
        total += weight * field[z, y, x]
    return total

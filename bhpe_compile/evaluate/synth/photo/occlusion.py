"""Ambient occlusion: how much of the light from all around reaches a point of a body; creases are darker.

From each of a few directions the body is cast on a grid of square cells, which keep the point nearest to the light;
what lies behind that is in the shade. A point's value is the mean over the directions that its normal faces, weighted
by the cosine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELL = 0.03
"""Metres: larger than the distance of two vertices, so that no light falls through."""

BIAS, FADE = 0.025, 0.08
"""Metres behind the nearest point from which shade begins, and until it is full."""

DIRECTIONS = 12

Array = NDArray[np.float32]


def _sphere(count: int) -> Array:
    """[count, 3]: directions spread evenly over the sphere (a Fibonacci spiral)."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], 1).astype(np.float32)


def _frames(directions: Array) -> Array:
    """[N, 3, 3]: two axes across each direction, then itself."""
    helper = np.where(abs(directions[:, :1]) < 0.9, np.array([[1, 0, 0]]), np.array([[0, 1, 0]]))
    a = np.cross(helper, directions)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    return np.stack([a, np.cross(directions, a), directions], 1).astype(np.float32)


_FRAMES = _frames(_sphere(DIRECTIONS))


def open_sky(points: Array, normals: Array, others: Array | None = None) -> Array:
    """float32 [V] in 0 .. 1 of points [V, 3] with normals [V, 3]; `others` [W, 3] only cast shade."""
    count = len(points)
    cast = points if others is None else np.concatenate([points, others])
    cast = cast - cast.min(0)
    lit, total = np.zeros(count, np.float32), np.full(count, 1e-6, np.float32)
    for frame in _FRAMES:
        facing = (normals @ frame[2]).clip(0)
        x, y, depth = frame @ cast.T
        column, row = ((v - v.min()) / np.float32(CELL) for v in (x, y))
        cell = row.astype(np.int32) * (int(column.max()) + 1) + column.astype(np.int32)
        nearest = np.full(int(cell.max()) + 1, -np.inf, np.float32)
        np.maximum.at(nearest, cell, depth)
        behind = nearest[cell[:count]] - depth[:count]
        lit += facing * (1 - ((behind - BIAS) / FADE).clip(0, 1))
        total += facing
    return np.asarray(lit / total, np.float32)

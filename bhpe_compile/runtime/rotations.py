"""Rotations as quaternions (x, y, z, w), in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def from_axis_angle(vectors: NDArray[Any]) -> Array:
    """[k, 3] -> unit quaternions [k, 4]."""
    v = np.asarray(vectors, np.float64).reshape(-1, 3)
    angle = np.linalg.norm(v, axis=1, keepdims=True)
    half = np.sinc(angle / (2 * np.pi)) / 2  # sin(angle / 2) / angle
    return np.concatenate([v * half, np.cos(angle / 2)], 1)


def to_axis_angle(quaternions: Array) -> Array:
    """[k, 4] -> [k, 3], angles up to pi."""
    q = np.where(quaternions[:, 3:] < 0, -quaternions, quaternions)
    sine = np.linalg.norm(q[:, :3], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[:, 3:])
    return np.asarray(q[:, :3] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0))


def to_matrix(quaternions: Array) -> Array:
    """[k, 4] -> [k, 3, 3]."""
    x, y, z, w = quaternions.T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1),
            np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1),
            np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1),
        ],
        1,
    )


def angles_between(one: Array, two: Array) -> Array:
    """Radians [k] between rotations."""
    return np.asarray(2 * np.arccos(np.clip(np.abs((one * two).sum(1)), 0, 1)))


def between(one: Array, two: Array, part: Array) -> Array:
    """[k, 4]: on the shortest way from `one` to `two`, `part` [k] of it done."""
    dot = (one * two).sum(1, keepdims=True)
    two = np.where(dot < 0, -two, two)
    angle = np.arccos(np.clip(np.abs(dot), 0, 1))
    sine = np.sin(angle)
    t = part[:, None]
    close = sine < 1e-6
    safe = np.where(close, 1.0, sine)
    a = np.where(close, 1 - t, np.sin((1 - t) * angle) / safe)
    b = np.where(close, t, np.sin(t * angle) / safe)
    q = a * one + b * two
    return np.asarray(q / np.linalg.norm(q, axis=1, keepdims=True))

"""Rotations in NumPy, for composing poses; right-handed, column vectors."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


def about(axis: Literal["x", "y", "z"], angle: ArrayLike) -> Matrix:
    """[..., 3, 3]: by `angle` [...] radians about a coordinate axis."""
    a = np.asarray(angle, np.float64)
    i = "xyz".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    out = np.zeros((*a.shape, 3, 3))
    out[..., i, i] = 1
    out[..., j, j] = out[..., k, k] = np.cos(a)
    out[..., k, j] = np.sin(a)
    out[..., j, k] = -out[..., k, j]
    return out


def swing(start: ArrayLike, end: NDArray[Any]) -> Matrix:
    """[..., 3, 3]: the shortest rotation that takes direction `start` [3] to `end` [..., 3] (not opposite).

    With c = start . end and K = [start x end]: R = 1 + K + K K / (1 + c).
    """
    a = np.asarray(start, np.float64)
    a = a / np.linalg.norm(a)
    b = end / np.linalg.norm(end, axis=-1, keepdims=True)
    x, y, z = np.moveaxis(np.cross(a, b), -1, 0)
    zero = np.zeros_like(x)
    K = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    cosine = (b @ a)[..., None, None]
    return np.asarray(np.eye(3) + K + K @ K / np.maximum(1 + cosine, 1e-6))


def mirrored(rotation: Matrix) -> Matrix:
    """The same rotation of the other side of the body: x -> -x before and after."""
    flip = np.diag([-1.0, 1.0, 1.0])
    return np.asarray(flip @ rotation @ flip)


def axis_angle(rotation: Matrix) -> NDArray[np.float64]:
    """[..., 3] of [..., 3, 3], the angle in [0, pi]; by way of the quaternion, thus exact at pi, too."""
    m = rotation
    d = np.stack([m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]], -1)
    trace = d.sum(-1)
    square = np.stack([1 + trace, *(1 + 2 * d[..., i] - trace for i in range(3))], -1).clip(0)
    differences = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    sums = (m[..., 2, 1] + m[..., 1, 2], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 0] + m[..., 0, 1])
    products = np.zeros((*trace.shape, 4, 4))  # 4 q_i q_j
    for i in range(4):
        products[..., i, i] = square[..., i]
    for i in range(3):
        products[..., 0, i + 1] = products[..., i + 1, 0] = differences[i]
        j, k = 1 + (i + 1) % 3, 1 + (i + 2) % 3
        products[..., j, k] = products[..., k, j] = sums[i]
    row = np.take_along_axis(products, square.argmax(-1)[..., None, None], -2)[..., 0, :]
    q = row / np.linalg.norm(row, axis=-1, keepdims=True)
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., :1])
    # the angle is twice its sine where that is small
    return np.asarray(np.where(sine > 1e-9, q[..., 1:] / np.maximum(sine, 1e-9) * angle, 2 * q[..., 1:]))

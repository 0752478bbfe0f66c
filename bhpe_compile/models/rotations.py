"""Rotations: six numbers -> matrix -> quaternion -> axis-angle.

6D (arXiv 1812.07035), row-interleaved: a1 = x[0::2], a2 = x[1::2]
b1 = a1/|a1|,  b2 = (a2 - <b1, a2> b1) normalised,  b3 = b1 x b2,  R = [b1 b2 b3] in columns
quaternion (w, v) by Shepperd's four cases, each selected by a mask, none dividing by less than 1
angle/2 = 2 atan(|v| / (1 + |w|)) for a unit quaternion: no atan2, no division by zero
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TINY_SQUARE = 1e-12


def rotation_6d_to_matrix(x: Tensor) -> Tensor:
    """[n, 6] -> rotation matrices [n, 3, 3]."""
    pair = x.reshape(-1, 3, 2)
    a1, a2 = pair[:, :, 0], pair[:, :, 1]
    b1 = functional.normalize(a1, dim=1)
    b2 = functional.normalize(a2 - (b1 * a2).sum(1, keepdim=True) * b1, dim=1)
    b3 = torch.linalg.cross(b1, b2, dim=1)
    return torch.stack((b1, b2, b3), 2)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Rotation matrices [n, 3, 3] -> unit quaternions [n, 4], (w, x, y, z)."""
    r = [[matrix[:, i, j] for j in range(3)] for i in range(3)]
    trace_signs = ((1, -1, -1), (-1, 1, -1), (-1, -1, 1), (1, 1, 1))
    tx, ty, tz, tw = (1 + a * r[0][0] + b * r[1][1] + c * r[2][2] for a, b, c in trace_signs)
    wx, wy, wz = r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]
    xy, xz, yz = r[0][1] + r[1][0], r[0][2] + r[2][0], r[1][2] + r[2][1]
    low = r[2][2] < 0
    x_first, w_less = r[0][0] > r[1][1], r[0][0] < -r[1][1]
    cases = (
        (torch.logical_and(low, x_first), tx, (wx, tx, xy, xz)),
        (torch.logical_and(low, torch.logical_not(x_first)), ty, (wy, xy, ty, yz)),
        (torch.logical_and(torch.logical_not(low), w_less), tz, (wz, xz, yz, tz)),
    )
    norm, parts = tw, torch.stack((tw, wx, wy, wz), 1)
    for mask, square, components in cases:
        norm = torch.where(mask, square, norm)
        parts = torch.where(mask[:, None], torch.stack(components, 1), parts)
    return parts * (0.5 / torch.sqrt(torch.clamp(norm, min=TINY_SQUARE)))[:, None]


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """Unit quaternions [n, 4] -> axis times angle [n, 3] in radians, angle in [0, pi]."""
    w, v = quaternion[:, 0:1], quaternion[:, 1:]
    square = (v * v).sum(1, keepdim=True)
    sine = torch.sqrt(torch.clamp(square, min=TINY_SQUARE))
    angle = 4 * torch.atan(sine / (1 + w.abs()))
    factor = torch.where(square > TINY_SQUARE, angle / sine, torch.full_like(angle, 2.0))
    return v * torch.where(w < 0, -factor, factor)


def rotation_6d_to_axis_angle(x: Tensor) -> Tensor:
    """[n, 6] -> axis-angle [n, 3] in radians; finite for any finite input."""
    return quaternion_to_axis_angle(matrix_to_quaternion(rotation_6d_to_matrix(x)))

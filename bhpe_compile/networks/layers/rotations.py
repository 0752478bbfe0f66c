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

from bhpe_compile.networks.layers import written_torch as _  # noqa: F401 (registers the operator)
from bhpe_compile.networks.layers.operator import gradient_of

TINY_SQUARE = 1e-12


def rotation_6d_to_matrix(x: Tensor) -> Tensor:
    """[n, 6] -> rotation matrices [n, 3, 3]."""
    pair = x.reshape(-1, 3, 2)
    a1, a2 = pair[:, :, 0], pair[:, :, 1]
    b1 = functional.normalize(a1, dim=1)
    b2 = functional.normalize(a2 - (b1 * a2).sum(1, keepdim=True) * b1, dim=1)
    b3 = torch.linalg.cross(b1, b2, dim=1)
    return torch.stack((b1, b2, b3), 2)


# Four candidates for the quaternion (w, x, y, z), each 4 |q| q_i times q, as linear forms of the nine entries of R
# row by row, with the constant 1 of the squares apart: i = x, y, z, w.
_SQUARES = {"x": (1, -1, -1), "y": (-1, 1, -1), "z": (-1, -1, 1), "w": (1, 1, 1)}
_MIXED = {
    ("w", "x"): ((7, 1), (5, -1)),
    ("w", "y"): ((2, 1), (6, -1)),
    ("w", "z"): ((3, 1), (1, -1)),
    ("x", "y"): ((1, 1), (3, 1)),
    ("x", "z"): ((2, 1), (6, 1)),
    ("y", "z"): ((5, 1), (7, 1)),
}


def _candidates() -> tuple[list[list[float]], list[float]]:
    rows, constants = [], []
    for first in "xyzw":
        for second in "wxyz":
            row = [0.0] * 9
            if first == second:
                row[0], row[4], row[8] = _SQUARES[first]
            else:
                pair = (first, second) if (first, second) in _MIXED else (second, first)
                for entry, sign in _MIXED[pair]:
                    row[entry] = float(sign)
            rows.append(row)
            constants.append(1.0 if first == second else 0.0)
    return rows, constants


_ROWS, _CONSTANTS = _candidates()
_TESTS = [[0.0] * 8 + [1.0], [1.0, 0, 0, 0, -1.0, 0, 0, 0, 0], [1.0, 0, 0, 0, 1.0, 0, 0, 0, 0]]
"""r22, r00 - r11, r00 + r11: their signs say which square is safely large."""


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Rotation matrices [n, 3, 3] -> unit quaternions [n, 4], (w, x, y, z)."""
    entries = matrix.flatten(1)
    forms = functional.linear(entries, matrix.new_tensor(_ROWS), matrix.new_tensor(_CONSTANTS))
    by_x, by_y, by_z, by_w = (forms[:, 4 * i : 4 * i + 4] for i in range(4))
    tests = functional.linear(entries, matrix.new_tensor(_TESTS))
    low = torch.where(tests[:, 1:2] > 0, by_x, by_y)
    high = torch.where(tests[:, 2:3] < 0, by_z, by_w)
    chosen = torch.where(tests[:, 0:1] < 0, low, high)
    return functional.normalize(chosen, dim=1)


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """Unit quaternions [n, 4] -> axis times angle [n, 3] in radians, angle in [0, pi]."""
    w, v = quaternion[:, 0:1], quaternion[:, 1:]
    square = (v * v).sum(1, keepdim=True)
    sine = torch.sqrt(torch.clamp(square, min=TINY_SQUARE))
    angle = 4 * torch.atan(sine / (1 + w.abs()))
    factor = torch.where(square > TINY_SQUARE, angle / sine, torch.full_like(angle, 2.0))
    return v * torch.where(w < 0, -factor, factor)


def _float_formula(x: Tensor) -> Tensor:
    return quaternion_to_axis_angle(matrix_to_quaternion(rotation_6d_to_matrix(x.float())))


gradient_of("rotation_vector", _float_formula)


def rotation_6d_to_axis_angle(x: Tensor) -> Tensor:
    """[n, 6] -> axis-angle float32 [n, 3] in radians, in a written order; finite for any finite input."""
    found: Tensor = torch.ops.bhpe.rotation_vector(x)
    return found

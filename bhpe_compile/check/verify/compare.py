"""Comparing two sets of network outputs in units that make sense.

Axis-angle vectors are compared as rotation matrices (near pi the vector flips its sign while the rotation
hardly moves), coefficients and features relative to the largest above 1, everything else by absolute difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCES: dict[str, float] = {
    # matrix entries: float32 sums over up to 16,995 features, then normalised twice; seeded full networks reach
    # 2.5e-3, and 1e-2 is half a degree, far below what such a network knows
    "rotation": 1e-2,
    "joint_img": 1e-2,  # heat-map cells; a cell is 32 pixels of the body image
    "bbox": 0.25,  # pixels of the 512x384 crop
    "cam_trans": 2e-2,  # metres, at about 25 m: t_z is sigmoid times 63 m
    # shape and expression coefficients, of order 1; of larger outputs as a part of the largest value, since a float16
    # rounding that falls the other way moves a value by 2^-11 of itself
    "other": 5e-3,
}
"""Largest absolute difference allowed between an artefact and its oracle given the same signs."""


def kind_of(name: str) -> str:
    """The tolerance class of an output."""
    if name.endswith("_pose"):
        return "rotation"
    for word in ("joint_img", "bbox", "cam_trans"):
        if word in name:
            return word
    return "other"


def rotation_matrices(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Axis-angle [..., 3k] in radians -> rotation matrices [n, 3, 3] (Rodrigues' formula).

    In NumPy: verifying needs neither torch (as `evaluate/body.py`, whose formula has a gradient) nor scipy.
    """
    flat = vectors.reshape(-1, 3).astype(np.float64)
    angle = np.linalg.norm(flat, axis=1)[:, None, None]
    axis = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    cross = np.zeros((len(flat), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    cross -= cross.transpose(0, 2, 1)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def difference(name: str, got: NDArray[Any], want: NDArray[Any]) -> float:
    """Largest absolute difference of one output, in its own unit; NaN on one side only is infinite."""
    if got.shape != want.shape:
        return float("inf")
    if kind_of(name) == "rotation":
        got, want = rotation_matrices(got), rotation_matrices(want)
    gap = np.abs(got.astype(np.float64) - want.astype(np.float64))
    if kind_of(name) == "other":
        gap /= max(1.0, np.abs(want).max(initial=0.0))
    return float("inf") if np.isnan(gap).any() else float(gap.max(initial=0.0))


def differences(got: Mapping[str, NDArray[Any]], want: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """`difference` of every output of `want`."""
    return {name: difference(name, got[name], want[name]) for name in want}


def beyond(gaps: Mapping[str, float]) -> dict[str, float]:
    """The outputs whose difference exceeds their tolerance."""
    return {name: gap for name, gap in gaps.items() if not gap <= TOLERANCES[kind_of(name)]}

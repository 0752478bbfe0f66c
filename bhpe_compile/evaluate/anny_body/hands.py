"""Hand poses: random grips -> components for those who pose hands by principal components.

The body's own mean hand is the flat one of the T-pose, 0: a finger's pose is then its rotation, nothing to be added.

In the T-pose fingers lie along x with the palm down, so bending turns them about z, and the thumb about y.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.skeleton import FINGERS

GRIPS = 500
_BEND = (1.3, 1.43, 0.91)
_THUMB_BEND = (0.6, 0.66, 0.42)
"""Radians at the three joints of a finger when it is bent all the way."""

_SPREAD, _NOISE = 0.08, 0.02


def hand_components(side: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Principal components [45,45] (rows) of axis-angle finger poses, joints in SMPL-X's order."""
    out = 1.0 if side == "left" else -1.0
    bent = rng.beta(1.2, 1.5, (GRIPS, len(FINGERS)))
    poses = rng.normal(0, _NOISE, (GRIPS, len(FINGERS), 3, 3))
    for f, finger in enumerate(FINGERS):
        axis, reach = (1, _THUMB_BEND) if finger == "thumb" else (2, _BEND)
        poses[:, f, :, axis] -= out * bent[:, f, None] * reach
    poses[:, :, 0, 1] += out * rng.normal(0, _SPREAD, (GRIPS, len(FINGERS)))
    flat = poses.reshape(GRIPS, -1)
    return np.asarray(np.linalg.svd(flat - flat.mean(0), full_matrices=True)[2])

"""Does a limb go through the body? Limbs and trunk as round bars between joints.

The clearance of two bars is the distance of their centre lines, sampled at a few points, less their radii: below 0
they overlap. Radii are those of an average adult scaled by the shape's own trunk.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.skeleton import INDEX as AT

POINTS = np.linspace(0, 1, 6)

TRUNK_RADIUS, HEAD_RADIUS = 0.115, 0.115
THIGH_RADIUS, SHIN_RADIUS, FOREARM_RADIUS, HAND_RADIUS = 0.075, 0.05, 0.038, 0.035


def _bar(
    joints: NDArray[np.float64], a: str, b: str, start: float = 0.0, end: float = 1.0
) -> NDArray[np.float64]:
    """[N, points, 3] along the way from joint a to b."""
    first, last = joints[:, AT[a], None], joints[:, AT[b], None]
    t = (start + (end - start) * POINTS)[:, None]
    return np.asarray(first + (last - first) * t)


def _gap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(a[:, :, None] - b[:, None], axis=-1).min((1, 2)))


def clearance(joints: NDArray[np.float64], girth: float = 1.0) -> NDArray[np.float64]:
    """[N] metres, of [N, 55, 3] joints: the least of all pairs of bars that should not meet."""
    g = girth
    across = joints[:, AT["left_hip"]] - joints[:, AT["right_hip"]]
    across = across / np.linalg.norm(across, axis=-1, keepdims=True) * 0.06 * g
    middle = _bar(joints, "pelvis", "neck", 0.0, 0.85)
    trunk = np.concatenate([middle + across[:, None], middle - across[:, None]], 1)
    crown = joints[:, AT["head"]] + 0.6 * (joints[:, AT["head"]] - joints[:, AT["neck"]])
    head = crown[:, None]
    legs = {}
    limbs = {}
    for side in ("left", "right"):
        legs[side, "thigh"] = _bar(joints, f"{side}_hip", f"{side}_knee", 0.25), THIGH_RADIUS * g
        legs[side, "shin"] = _bar(joints, f"{side}_knee", f"{side}_ankle"), SHIN_RADIUS * g
        limbs[side, "forearm"] = _bar(joints, f"{side}_elbow", f"{side}_wrist", 0.15), FOREARM_RADIUS
        limbs[side, "hand"] = _bar(joints, f"{side}_wrist", f"{side}_middle3"), HAND_RADIUS
    gaps = []
    for line, radius in limbs.values():
        gaps.append(_gap(line, trunk) - radius - TRUNK_RADIUS * g)
        gaps.append(_gap(line, head) - radius - HEAD_RADIUS)
        gaps += [_gap(line, leg) - radius - thick for leg, thick in legs.values()]
    for part in ("forearm", "hand"):
        for other in ("forearm", "hand"):
            (a, ra), (b, rb) = limbs["left", part], limbs["right", other]
            gaps.append(_gap(a, b) - ra - rb)
    for part in ("thigh", "shin"):
        for other in ("thigh", "shin"):
            (a, ra), (b, rb) = legs["left", part], legs["right", other]
            gaps.append(_gap(a, b) - ra - rb)
    for side in ("left", "right"):
        shin, radius = legs[side, "shin"]
        gaps.append(_gap(shin, trunk) - radius - TRUNK_RADIUS * g)
    return np.min(gaps, axis=0)

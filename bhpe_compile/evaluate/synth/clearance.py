"""Does a limb go through the body? Limbs and trunk as round bars between joints.

The clearance of two bars is the distance of their centre lines, sampled at a few points, less their radii: below 0
they overlap. Radii are those of an average adult scaled by the shape's own trunk.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.skeleton import INDEX as AT
from bhpe_compile.evaluate.skeleton import SIDES

Points = NDArray[np.float64]

POINTS = np.linspace(0, 1, 6)

TRUNK_RADIUS, HEAD_RADIUS = 0.115, 0.115
THIGH_RADIUS, SHIN_RADIUS, FOREARM_RADIUS, HAND_RADIUS = 0.075, 0.05, 0.038, 0.035


def _bar(joints: Points, a: str, b: str, start: float = 0.0, end: float = 1.0) -> Points:
    """[points, 3] along the way from joint a to b."""
    first, last = joints[AT[a]], joints[AT[b]]
    return np.asarray(first + (last - first) * (start + (end - start) * POINTS)[:, None])


def clearance(joints: Points, girth: float = 1.0) -> float:
    """Metres, of joints [55, 3]: the least of all pairs of bars that should not meet."""
    across = joints[AT["left_hip"]] - joints[AT["right_hip"]]
    across *= 0.06 * girth / np.linalg.norm(across)
    middle = _bar(joints, "pelvis", "neck", 0.0, 0.85)
    crown = joints[AT["head"]] + 0.6 * (joints[AT["head"]] - joints[AT["neck"]])
    bars = {
        "trunk": (np.concatenate([middle + across, middle - across]), TRUNK_RADIUS * girth),
        "head": (crown[None], HEAD_RADIUS),
    }
    for side in SIDES:
        bars[f"{side} thigh"] = _bar(joints, f"{side}_hip", f"{side}_knee", 0.25), THIGH_RADIUS * girth
        bars[f"{side} shin"] = _bar(joints, f"{side}_knee", f"{side}_ankle"), SHIN_RADIUS * girth
        bars[f"{side} forearm"] = _bar(joints, f"{side}_elbow", f"{side}_wrist", 0.15), FOREARM_RADIUS
        bars[f"{side} hand"] = _bar(joints, f"{side}_wrist", f"{side}_middle3"), HAND_RADIUS
    names = list(bars)
    points = np.concatenate([bars[name][0] for name in names])
    radii = np.concatenate([np.full(len(bars[name][0]), bars[name][1]) for name in names])
    owner = np.repeat(np.arange(len(names)), [len(bars[name][0]) for name in names])
    squared = (points * points).sum(1)
    distance = np.sqrt((squared[:, None] + squared - 2 * points @ points.T).clip(0))
    gaps = distance - radii[:, None] - radii
    return float(gaps[_compared(tuple(names))[owner[:, None], owner]].min())


@cache
def _compared(names: tuple[str, ...]) -> NDArray[np.bool_]:
    """[N, N]: whether two bars should not meet. Neighbours do, and head and trunk."""
    out = np.zeros((len(names), len(names)), bool)
    for i, a in enumerate(names):
        for j, b in enumerate(names[:i]):
            parts = {a.split()[-1], b.split()[-1]}
            same_side = " " in a and " " in b and a.split()[0] == b.split()[0]
            limb = parts & {"forearm", "hand"}
            leg = parts <= {"thigh", "shin"} and not same_side
            folded = parts == {"shin", "trunk"}
            joined = same_side and parts in ({"forearm", "hand"}, {"thigh", "shin"})
            out[i, j] = (bool(limb) and not joined) or leg or folded
    return out

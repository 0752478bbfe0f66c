"""Poses of the fingers: named shapes, blended, with every finger varied a little.

Angles of the left hand in the rest pose, which points along +x with the palm down (-y): a finger flexes about -z and
spreads about y; the thumb, which points between x and z, flexes about the axis that takes its tip towards the palm.
The right hand is the mirror image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.synth.rotations import Matrix, about, mirrored, swing

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
"""In the order of SMPL-X, three joints each."""

SHAPES: dict[str, tuple[float, float, float, float, float, float]] = {
    #             index middle pinky ring  thumb  spread
    "relaxed": (0.30, 0.38, 0.45, 0.42, 0.25, 0.15),
    "flat": (0.0, 0.0, 0.0, 0.0, 0.1, 0.1),
    "spread": (-0.05, -0.05, -0.05, -0.05, -0.2, 1.0),
    "fist": (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    "point": (0.02, 0.95, 1.0, 1.0, 0.9, 0.1),
    "grip": (0.62, 0.65, 0.7, 0.68, 0.55, 0.2),
    "two": (0.0, 0.0, 1.0, 1.0, 0.95, 0.7),
    "thumb up": (1.0, 1.0, 1.0, 1.0, -0.3, 0.0),
    "pinch": (0.55, 0.35, 0.2, 0.25, 0.65, 0.3),
    "three": (0.0, 0.0, 1.0, 0.05, 0.9, 0.6),
}
"""Flexion of each finger from stretched (0) to closed (1), and how far the fingers are spread."""

WEIGHTS = np.array([0.3, 0.12, 0.12, 0.12, 0.08, 0.1, 0.04, 0.04, 0.05, 0.03])

CLOSED = (1.25, 1.55, 1.0)
"""Radians of the three joints of a closed finger."""

THUMB_CLOSED = (0.45, 0.55, 0.75)

OUTWARD = {"index": 0.16, "middle": 0.03, "ring": -0.09, "pinky": -0.22, "thumb": 0.0}
"""Radians of a full spread, towards the thumb."""


def sample_hand(rng: np.random.Generator, side: str) -> Matrix:
    """[15, 3, 3] rotations of the finger joints of the "left" or "right" hand."""
    names = list(SHAPES)
    first, second = (np.array(SHAPES[names[rng.choice(len(names), p=WEIGHTS)]]) for _ in range(2))
    shape = first if rng.random() < 0.7 else first + (second - first) * rng.random()
    flexion = (shape[:5] + rng.normal(0, 0.07, 5)).clip(-0.3, 1.05)
    spread = shape[5] + rng.normal(0, 0.15)
    parts = []
    for i, name in enumerate(FINGERS):
        joints = thumb(flexion[i], rng) if name == "thumb" else finger(flexion[i], spread, name, rng)
        parts.append(joints)
    rotations = np.concatenate(parts)
    return rotations if side == "left" else mirrored(rotations)


def finger(flexion: float, spread: float, name: str, rng: np.random.Generator) -> Matrix:
    """[3, 3, 3] of a left finger. A flexed finger spreads less, and its joints bend together."""
    bend = flexion * np.array(CLOSED) + rng.normal(0, 0.05, 3) * (1, 1, 0.5)
    bend = bend.clip((-0.3, -0.05, -0.05), (1.5, 1.75, 1.2))
    sideways = OUTWARD[name] * spread * (1 - 0.8 * max(flexion, 0)) + rng.normal(0, 0.02)
    rotations = about("z", -bend)
    rotations[0] = about("y", -sideways) @ rotations[0]
    return rotations


THUMB_AXIS = swing([1.0, 0.0, 0.0], np.array([0.77, 0.0, -0.64]))
"""Takes x to the axis about which the left thumb flexes."""


def thumb(flexion: float, rng: np.random.Generator) -> Matrix:
    """[3, 3, 3] of the left thumb; below 0 it is stretched away from the hand."""
    bend = flexion * np.array(THUMB_CLOSED) + rng.normal(0, 0.06, 3)
    rotations = THUMB_AXIS @ about("x", bend.clip((-0.3, -0.2, -0.3), (0.7, 0.8, 1.1))) @ THUMB_AXIS.T
    inward = 0.35 * max(flexion, 0) - 0.3 * max(-flexion, 0) / 0.3 + rng.normal(0, 0.05)
    rotations[0] = about("y", inward) @ rotations[0]
    curl = np.array([0.0, 0.5, 0.6]) * max(
        flexion - 0.5, 0
    )  # over the closed fingers, towards the little one
    return np.asarray(about("y", curl) @ rotations)


def flexion_axis(side: str) -> NDArray[np.float64]:
    """[3]: about which a positive angle closes the fingers of a side."""
    return np.array([0.0, 0.0, -1.0 if side == "left" else 1.0])

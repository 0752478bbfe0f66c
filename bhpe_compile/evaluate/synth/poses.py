"""What the people do: all 55 rotations, inside the limits of human joints.

Angles are those of the left side in the T-pose (x to the person's left, y up, z forward), mirrored for the right:
a thigh lifts forward about -x and sideways about z, a knee bends about x, an elbow about -y. An upper arm is given by
the direction it points to and its roll about itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.skeleton import INDEX as AT
from bhpe_compile.evaluate.skeleton import SIDES
from bhpe_compile.evaluate.synth.hands import sample_hand
from bhpe_compile.evaluate.synth.rotations import Matrix, about, mirrored, swing

Random = np.random.Generator

T = TypeVar("T")

FLIP = np.diag([1.0, -1.0, -1.0])
"""From a body's space (y up, facing +z) to camera space (y down, z forward): the body then faces the camera."""


@dataclass(frozen=True)
class Leg:
    """Radians of a left leg: thigh forward, outward, turned out; knee bent; foot lifted."""

    forward: float
    outward: float
    turn: float
    knee: float
    foot: float

    def rotations(self) -> dict[str, Matrix]:
        """By joint, without the side."""
        hip = about("z", self.outward) @ about("x", -self.forward) @ about("y", self.turn)
        return {
            "hip": hip,
            "knee": about("x", self.knee),
            "ankle": about("x", -self.foot),
            "foot": about("x", -0.3 * max(0.0, -self.foot)),
        }


@dataclass(frozen=True)
class Arm:
    """A left arm: direction of the upper arm in the chest's space, its roll (inward), the elbow's bend, and the hand's
    turn (palm backward), bend towards the palm and towards the little finger, all in radians."""

    direction: NDArray[np.float64]
    roll: float
    elbow: float
    turn: float
    wrist: float
    deviation: float

    def rotations(self) -> dict[str, Matrix]:
        """By joint, without the side. The collar takes part of a lift; elbow and wrist share the hand's turn."""
        d = self.direction / np.linalg.norm(self.direction)
        lift = 0.30 * max(0.0, d[1] + 0.2)
        collar = about("z", lift) @ about("y", -0.25 * max(0.0, d[2]))
        shoulder = collar.T @ swing([1.0, 0.0, 0.0], d) @ about("x", self.roll)
        return {
            "collar": collar,
            "shoulder": shoulder,
            "elbow": about("y", -self.elbow) @ about("x", 0.4 * self.turn),
            "wrist": about("x", 0.6 * self.turn) @ about("z", -self.wrist) @ about("y", self.deviation),
        }


def _clip(value: float, low: float, high: float) -> float:
    return float(min(max(value, low), high))


def _leg(rng: Random, forward: float, outward: float, knee: float, spread: float = 0.1) -> Leg:
    return Leg(
        _clip(rng.normal(forward, spread), -0.5, 2.1),
        _clip(rng.normal(outward, 0.6 * spread), -0.25, 0.9),
        _clip(rng.normal(0.1, 0.15), -0.5, 0.7),
        _clip(abs(rng.normal(knee, spread)), 0.0, 2.3),
        _clip(rng.normal(0, 0.15), -0.7, 0.4),
    )


def stand(rng: Random) -> tuple[Leg, Leg]:
    """Both feet down, sometimes apart, sometimes one leg at ease."""
    apart = abs(rng.normal(0, 0.12)) - 0.05
    legs = [
        _leg(rng, 0.0, apart, 0.03, 0.05),
        _leg(rng, 0.1 * rng.random(), apart, 0.15 * rng.random(), 0.06),
    ]
    rng.shuffle(legs)
    return legs[0], legs[1]


def walk(rng: Random) -> tuple[Leg, Leg]:
    """One leg forward, one backward, from strolling to running."""
    stride = rng.uniform(0.2, 0.9)
    front = _leg(rng, stride, 0.0, 0.15 + 0.6 * stride * rng.random(), 0.1)
    back = _leg(rng, -0.45 * stride, 0.0, 0.2 + 1.0 * stride * rng.random(), 0.1)
    return (front, back) if rng.random() < 0.5 else (back, front)


def sit(rng: Random) -> tuple[Leg, Leg]:
    """As on a chair."""
    height = rng.uniform(1.2, 1.7)
    knee = rng.uniform(1.0, 1.8)
    apart = rng.uniform(0.0, 0.35)
    return _leg(rng, height, apart, knee, 0.12), _leg(rng, height, apart, knee, 0.12)


def squat(rng: Random) -> tuple[Leg, Leg]:
    """Crouching, kneeling on one knee, or a lunge."""
    depth = rng.uniform(0.5, 1.9)
    if rng.random() < 0.5:
        apart = rng.uniform(0.1, 0.45)
        return _leg(rng, depth, apart, 1.2 * depth), _leg(rng, depth, apart, 1.2 * depth)
    front, back = _leg(rng, 1.1, 0.1, 1.2, 0.2), _leg(rng, -0.1, 0.05, 1.2, 0.3)
    return (front, back) if rng.random() < 0.5 else (back, front)


def kick(rng: Random) -> tuple[Leg, Leg]:
    """Standing on one leg, the other anywhere."""
    ground = _leg(rng, 0.0, 0.0, 0.1, 0.08)
    raised = Leg(
        rng.uniform(-0.5, 1.7),
        rng.uniform(-0.1, 0.8),
        rng.normal(0.1, 0.3),
        rng.uniform(0, 1.7),
        rng.normal(0, 0.25),
    )
    return (ground, raised) if rng.random() < 0.5 else (raised, ground)


LEGS: tuple[tuple[float, Callable[[Random], tuple[Leg, Leg]]], ...] = (
    (0.42, stand),
    (0.22, walk),
    (0.12, sit),
    (0.11, squat),
    (0.13, kick),
)


def _direction(outward: float, up: float, forward: float, rng: Random, spread: float) -> NDArray[np.float64]:
    return np.array([outward, up, forward]) + rng.normal(0, spread, 3)


def hang(rng: Random) -> Arm:
    """Beside the body."""
    d = _direction(0.22, -1.0, 0.02, rng, 0.12)
    d[0] = max(d[0], 0.12)
    return _arm(rng, d, (0.15, 0.3), abs(rng.normal(0.2, 0.2)), (0.1, 0.4))


def swing_arm(rng: Random) -> Arm:
    """As in walking: forward or backward, bent."""
    d = _direction(0.2, -1.0, rng.uniform(-0.6, 0.7), rng, 0.08)
    d[0] = max(d[0], 0.1)
    return _arm(rng, d, (0.1, 0.25), rng.uniform(0.1, 1.6), (0.1, 0.4))


def before_chest(rng: Random) -> Arm:
    """The hand before belly or chest: talking, holding, working."""
    d = _direction(0.4, -0.9, 0.35, rng, 0.15)
    return _arm(rng, d, (0.35, 0.35), rng.uniform(1.0, 2.1), (-0.2, 0.7))


def reach(rng: Random) -> Arm:
    """Forward, at any height."""
    d = _direction(rng.uniform(-0.2, 0.5), rng.uniform(-0.5, 0.6), 1.0, rng, 0.1)
    return _arm(rng, d, (0.2, 0.4), rng.uniform(0.0, 0.9), (0.0, 0.7))


def sideways(rng: Random) -> Arm:
    """Out to the side, stretched or bent."""
    d = _direction(1.0, rng.uniform(-0.7, 0.5), rng.uniform(-0.2, 0.4), rng, 0.1)
    return _arm(rng, d, (-0.2, 0.7), abs(rng.normal(0.4, 0.6)), (0.0, 0.7))


def above(rng: Random) -> Arm:
    """Over shoulder or head: waving, stretching, cheering."""
    d = _direction(rng.uniform(0.1, 1.0), rng.uniform(0.4, 1.2), rng.uniform(-0.1, 0.6), rng, 0.1)
    return _arm(rng, d, (-0.6, 0.4), abs(rng.normal(0.5, 0.6)), (0.0, 0.6))


def to_head(rng: Random) -> Arm:
    """The hand near the head: a telephone, a salute, thinking."""
    d = _direction(rng.uniform(0.3, 1.0), rng.uniform(-0.5, 0.3), rng.uniform(0.2, 0.8), rng, 0.08)
    return _arm(rng, d, (-0.8, 0.3), rng.uniform(1.7, 2.35), (0.3, 0.6))


def hip(rng: Random) -> Arm:
    """The hand on the hip, or near it."""
    d = _direction(0.75, -0.85, -0.2, rng, 0.1)
    return _arm(rng, d, (1.0, 0.2), rng.uniform(1.0, 1.6), (-0.4, 0.4))


def anywhere(rng: Random) -> Arm:
    """Any direction a shoulder allows."""
    while True:
        d = rng.normal(0, 1, 3)
        d /= np.linalg.norm(d)
        if d[2] > -0.4 and d[0] > -0.35:
            return _arm(rng, d, (0.0, 0.6), rng.uniform(0, 2.0), (0.0, 0.8))


ARMS: tuple[tuple[float, Callable[[Random], Arm]], ...] = (
    (0.20, hang),
    (0.13, swing_arm),
    (0.18, before_chest),
    (0.12, reach),
    (0.10, sideways),
    (0.10, above),
    (0.06, to_head),
    (0.05, hip),
    (0.06, anywhere),
)


def _arm(
    rng: Random, d: NDArray[np.float64], roll: tuple[float, float], elbow: float, turn: tuple[float, float]
) -> Arm:
    return Arm(
        d,
        _clip(rng.normal(*roll), -1.5, 1.3),
        _clip(elbow, 0.0, 2.4),
        _clip(rng.normal(*turn), -1.4, 1.4),
        _clip(rng.normal(0.0, 0.3), -0.9, 0.9),
        _clip(rng.normal(0.0, 0.13), -0.3, 0.4),
    )


def _choose(rng: Random, table: tuple[tuple[float, T], ...]) -> T:
    weights = np.array([weight for weight, _ in table])
    return table[rng.choice(len(table), p=weights / weights.sum())][1]


def attempts(rng: Random) -> Iterator[Matrix]:
    """[55, 3, 3] each, without end: attempts at one pose, the root's rotation into camera space.

    They share the hands, the face, the direction and what legs and arms do, and differ in the angles.
    """
    legs = _choose(rng, LEGS)
    arms = [_choose(rng, ARMS), _choose(rng, ARMS)]
    if rng.random() < 0.25:
        arms[1] = arms[0]
    bent = rng.random() < 0.12
    common = np.tile(np.eye(3), (55, 1, 1))
    common[AT["pelvis"]] = facing(rng)
    common[AT["jaw"] : AT["right_eye"] + 1] = _jaw_and_eyes(rng)
    for first, side in ((25, "left"), (40, "right")):
        common[first : first + 15] = sample_hand(rng, side)
    while True:
        rotations = common.copy()
        for side, leg in zip(SIDES, legs(rng), strict=True):
            _set(rotations, side, leg.rotations())
        for side, arm in zip(SIDES, arms, strict=True):
            _set(rotations, side, arm(rng).rotations())
        _trunk(rotations, rng, bent, sitting=legs is sit)
        yield rotations


def _set(rotations: Matrix, side: str, joints: dict[str, Matrix]) -> None:
    for name, rotation in joints.items():
        rotations[AT[f"{side}_{name}"]] = rotation if side == "left" else mirrored(rotation)


def _trunk(rotations: Matrix, rng: Random, bent: bool, sitting: bool) -> None:
    """Spine, neck and head: a common bend and turn, shared out, and some of each joint's own."""
    forward = rng.uniform(0.4, 1.1) if bent else abs(rng.normal(0, 0.15)) + (0.15 if sitting else 0.0) - 0.05
    side, turn = rng.normal(0, 0.13), rng.normal(0, 0.22)
    for name in ("spine1", "spine2", "spine3"):
        x, y, z = np.array([forward, turn, side]) / 3 + rng.normal(0, 0.04, 3)
        rotations[AT[name]] = about("y", y) @ about("x", x) @ about("z", z)
    nod, look, tilt = rng.normal(0.05, 0.2), rng.normal(0, 0.35), rng.normal(0, 0.12)
    for name, share in (("neck", 0.4), ("head", 0.6)):
        x, y, z = share * np.array([_clip(nod - 0.3 * bent, -0.6, 0.6), _clip(look, -1.0, 1.0), tilt])
        rotations[AT[name]] = about("y", y) @ about("x", x) @ about("z", z)


def _jaw_and_eyes(rng: Random) -> Matrix:
    opening = 0.0 if rng.random() < 0.5 else rng.uniform(0.02, 0.35)
    gaze = about("y", _clip(rng.normal(0, 0.18), -0.4, 0.4)) @ about(
        "x", _clip(rng.normal(0, 0.1), -0.25, 0.25)
    )
    return np.stack([about("x", opening) @ about("y", rng.normal(0, 0.02)), gaze, gaze])


def facing(rng: Random) -> Matrix:
    """[3, 3]: how the person stands to the camera: mostly facing it, a twelfth anywhere; camera a little up or down."""
    kind = rng.random()
    if kind < 0.7:
        turn = rng.normal(0, 0.45)
    elif kind < 0.92:
        turn = rng.uniform(-np.pi / 2, np.pi / 2)
    else:
        turn = rng.uniform(-np.pi, np.pi)
    above_person, roll = rng.normal(0.08, 0.16), rng.normal(0, 0.07)
    if rng.random() < 0.02:
        roll = rng.uniform(-1.6, 1.6)  # leaning or lying
    return np.asarray(FLIP @ about("z", roll) @ about("x", _clip(above_person, -0.5, 0.7)) @ about("y", turn))

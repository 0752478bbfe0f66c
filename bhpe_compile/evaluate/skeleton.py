"""The 55 joints of SMPL-X and the 65 keypoints of Hand4Whole: names, order, and where a keypoint is on the body.

A keypoint is a joint of the skeleton, or a landmark: one vertex of the mesh (toes, heels, ears, eyes, nose, finger
tips). Which vertex depends on the mesh, so it comes with the body's file (`body_file`).
"""

from __future__ import annotations

from itertools import product

SIDES = ("left", "right")
FINGERS = ("index", "middle", "pinky", "ring", "thumb")
"""In the order of SMPL-X's joints: the little finger stands before the ring finger."""

_BODY = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2"),
    *("left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar"),
    *("right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist"),
    *("right_wrist", "jaw", "left_eye", "right_eye"),
)
JOINT_NAMES = (*_BODY, *(f"{side}_{finger}{i}" for side, finger, i in product(SIDES, FINGERS, (1, 2, 3))))
"""All joints. A finger has three, from the knuckle outwards; its tip is a landmark."""

JOINT_COUNT = len(JOINT_NAMES)
INDEX = {name: i for i, name in enumerate(JOINT_NAMES)}
FIRST_FINGER = INDEX["left_index1"]
"""The 30 finger joints are the last: 15 left, 15 right."""

BODY_KEYPOINTS = (
    *("Pelvis", "L_Hip", "R_Hip", "L_Knee", "R_Knee", "L_Ankle", "R_Ankle"),
    *("Neck", "L_Shoulder", "R_Shoulder", "L_Elbow", "R_Elbow", "L_Wrist", "R_Wrist"),
    *("L_Big_toe", "L_Small_toe", "L_Heel", "R_Big_toe", "R_Small_toe", "R_Heel", "L_Ear"),
    *("R_Ear", "L_Eye", "R_Eye", "Nose"),
)
HAND_KEYPOINTS = tuple(
    f"{finger}_{i}" for finger, i in product(("Thumb", "Index", "Middle", "Ring", "Pinky"), (1, 2, 3, 4))
)
"""Of one hand; number 4 is the tip."""

KEYPOINT_NAMES = (*BODY_KEYPOINTS, *(f"{side}_{name}" for side, name in product("LR", HAND_KEYPOINTS)))
"""All 65: body, left hand, right hand. The order in which Hand4Whole predicts them."""


def joint_of(keypoint: str) -> int | None:
    """The index of the joint that is this keypoint, or None where it is a landmark."""
    if keypoint in ("L_Eye", "R_Eye"):
        return None  # the eye as it is seen, not the centre of the eyeball
    name = keypoint.lower()
    if name[:2] in ("l_", "r_"):
        name = ("left_" if name[0] == "l" else "right_") + name[2:]
    stem, _, number = name.rpartition("_")
    return INDEX.get(stem + number if number.isdigit() else name)


LANDMARKS = tuple(name for name in KEYPOINT_NAMES if joint_of(name) is None)
"""The 21 keypoints that are vertices, in the order of `KEYPOINT_NAMES`."""

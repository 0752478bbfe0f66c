"""Names of the 65 keypoints and of the joints that rotations turn, in the network's order, and the bones drawn.

Keypoints are 25 of the body, 20 of the left hand, 20 of the right; joints are SMPL-X's.
"""

from __future__ import annotations

from bhpe_compile.networks.interface import Skeleton

SIDES = ("left", "right")

BODY = (
    *("pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "neck"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"),
    *("left_ear", "right_ear", "left_eye", "right_eye", "nose"),
)

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
"""Four keypoints each, from the palm to the tip."""

HANDS = tuple(f"{side}_{finger}{k}" for side in SIDES for finger in FINGERS for k in (1, 2, 3, 4))

KEYPOINTS = (*BODY, *HANDS)

BODY_JOINTS = (
    *("left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle"),
    *("spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
)
"""The 21 joints of SMPL-X's body below its root."""


def hand_joints(side: str) -> tuple[str, ...]:
    """The 15 joints of one hand, in SMPL-X's order: the little finger stands before the ring finger."""
    fingers = ("index", "middle", "pinky", "ring", "thumb")
    return tuple(f"{side}_{finger}{k}" for finger in fingers for k in (1, 2, 3))


_BODY_BONES = (
    ("pelvis", "neck"),
    ("neck", "nose"),
    *(
        bone
        for side in SIDES
        for bone in (
            ("pelvis", f"{side}_hip"),
            (f"{side}_hip", f"{side}_knee"),
            (f"{side}_knee", f"{side}_ankle"),
            (f"{side}_ankle", f"{side}_heel"),
            (f"{side}_ankle", f"{side}_big_toe"),
            (f"{side}_ankle", f"{side}_small_toe"),
            ("neck", f"{side}_shoulder"),
            (f"{side}_shoulder", f"{side}_elbow"),
            (f"{side}_elbow", f"{side}_wrist"),
            ("nose", f"{side}_eye"),
            (f"{side}_eye", f"{side}_ear"),
        )
    ),
)

_HAND_BONES = tuple(
    bone
    for side in SIDES
    for finger in FINGERS
    for bone in (
        (f"{side}_wrist", f"{side}_{finger}1"),
        *((f"{side}_{finger}{k}", f"{side}_{finger}{k + 1}") for k in (1, 2, 3)),
    )
)

SKELETON = Skeleton((*_BODY_BONES, *_HAND_BONES), HANDS)

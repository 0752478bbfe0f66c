"""The 65 joints of `joint_img`, in the order of Hand4Whole: 25 of the body, 20 of the left hand, 20 of the right."""

from __future__ import annotations

from typing import Literal

Side = Literal["left", "right", "middle"]

BODY = (
    *("pelvis", "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle", "neck"),
    *("left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist"),
    *("left big toe", "left small toe", "left heel", "right big toe", "right small toe", "right heel"),
    *("left ear", "right ear", "left eye", "right eye", "nose"),
)

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
"""Four joints each, from the palm to the tip."""

JOINTS = (
    *BODY,
    *(f"{side} {finger} {k}" for side in ("left", "right") for finger in FINGERS for k in (1, 2, 3, 4)),
)

_BODY_BONES = (
    ("pelvis", "neck"),
    ("neck", "nose"),
    *(
        bone
        for side in ("left", "right")
        for bone in (
            ("pelvis", f"{side} hip"),
            (f"{side} hip", f"{side} knee"),
            (f"{side} knee", f"{side} ankle"),
            (f"{side} ankle", f"{side} heel"),
            (f"{side} ankle", f"{side} big toe"),
            (f"{side} ankle", f"{side} small toe"),
            ("neck", f"{side} shoulder"),
            (f"{side} shoulder", f"{side} elbow"),
            (f"{side} elbow", f"{side} wrist"),
            ("nose", f"{side} eye"),
            (f"{side} eye", f"{side} ear"),
        )
    ),
)

_HAND_BONES = tuple(
    bone
    for side in ("left", "right")
    for finger in FINGERS
    for bone in (
        (f"{side} wrist", f"{side} {finger} 1"),
        *((f"{side} {finger} {k}", f"{side} {finger} {k + 1}") for k in (1, 2, 3)),
    )
)


def _indices(bones: tuple[tuple[str, str], ...]) -> tuple[tuple[int, int], ...]:
    return tuple((JOINTS.index(a), JOINTS.index(b)) for a, b in bones)


BODY_BONES = _indices(_BODY_BONES)
"""Pairs of joints of the body."""

HAND_BONES = _indices(_HAND_BONES)
"""Pairs of joints of the hands, each finger hanging on the body's wrist."""


def side_of(joint: int) -> Side:
    """Which side of the person a joint belongs to."""
    word = JOINTS[joint].split()[0]
    return "left" if word == "left" else "right" if word == "right" else "middle"

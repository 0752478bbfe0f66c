"""The body that SPIN and CLIFF pose, as far as a network has to know it: the names of SMPL's joints, in order."""

from __future__ import annotations

JOINTS = (
    "pelvis",
    *("left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle"),
    *("spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hand", "right_hand"),
)
"""Those whose rotations are told, the pelvis's being the body's in the camera."""

BETAS = 10

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's channels, red, green, blue, from 0 to 1: trunks that were trained there expect them."""

IGNORED = ("smpl.", "smpl_layer.")
"""Prefixes of a licensed body's buffers in checkpoints."""

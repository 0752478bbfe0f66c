"""What SPIN, CLIFF and BEDLAM share: the names of SMPL's joints, in order, outputs, and how pictures are scaled."""

from __future__ import annotations

from bhpe_compile.networks.interface import Output
from bhpe_compile.networks.layers.trunk import Trunk

JOINTS = (
    "pelvis",
    *("left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle"),
    *("spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hand", "right_hand"),
)
"""Those whose rotations are told, the pelvis's being the body's in the camera."""

SMPLX_JOINTS = JOINTS[:22]
"""The body's joints of SMPL-X: those of SMPL without the hands."""

BETAS, SMPLX_BETAS = 10, 11


def _outputs(joints: tuple[str, ...], betas: int) -> tuple[Output, ...]:
    return (
        Output("rotations", (1, len(joints), 3, 3), "rotation", names=joints),
        Output("betas", (1, betas), "coefficients"),
        Output("camera", (1, 3), "camera", "weak perspective of the crop: scale, shift x, shift y"),
    )


OUTPUTS = _outputs(JOINTS, BETAS)
SMPLX_OUTPUTS = _outputs(SMPLX_JOINTS, SMPLX_BETAS)

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's channels, red, green, blue, from 0 to 1: trunks that were trained there expect them."""

TINY = Trunk("bottleneck", 16, (1, 1, 1, 1), (1, 2, 2, 1))
"""The trunk of presets for examples and tests, before a regressor of `TINY_HIDDEN` channels; its last stage keeps its
resolution, since pictures are a fourth of the full presets'."""

TINY_HIDDEN = 256

IGNORED = ("smpl.", "smpl_layer.")
"""Prefixes of a licensed body's buffers in checkpoints."""

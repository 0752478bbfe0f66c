"""The same bodies through the smplx package, where it is installed: equal within 1e-5 m."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bhpe_compile.evaluate.body import BodyModel, axis_angle_to_matrix
from bhpe_compile.evaluate.skeleton import KEYPOINT_NAMES
from tests.evaluate.bodies import random_fields, write
from tests.evaluate.test_body import random_pose

smplx = pytest.importorskip("smplx")

CLOSE = 1e-5
PEOPLE = 3

ENOUGH = 9930
"""The package looks at vertices of the licensed mesh by number, so a made-up one has to have as many."""


def forward(
    path: Path, pose: torch.Tensor, betas: torch.Tensor, expression: torch.Tensor, **options: bool
) -> Any:
    """What the package makes of the same parameters."""
    model = smplx.create(
        str(path),
        model_type="smplx",
        gender="neutral",
        ext="npz",
        use_pca=False,
        batch_size=len(pose),
        **options,
    )
    parts = {
        **{"global_orient": (0, 1), "body_pose": (1, 22), "jaw_pose": (22, 23), "leye_pose": (23, 24)},
        **{"reye_pose": (24, 25), "left_hand_pose": (25, 40), "right_hand_pose": (40, 55)},
    }
    poses = {name: pose[:, first:last].flatten(1) for name, (first, last) in parts.items()}
    with torch.no_grad():
        return model(betas=betas, expression=expression, **poses)


@pytest.mark.parametrize("coefficients", [20, 400])
def test_random_body(tmp_path: Path, coefficients: int) -> None:
    path = write(tmp_path / "SMPLX_NEUTRAL.npz", random_fields(5, ENOUGH, coefficients))
    body = BodyModel.load(path)
    pose, betas, expression = random_pose(PEOPLE)
    theirs = forward(path, pose, betas, expression, flat_hand_mean=True)
    ours = body(axis_angle_to_matrix(pose), betas, expression)
    torch.testing.assert_close(ours.vertices, theirs.vertices, rtol=0, atol=CLOSE)
    torch.testing.assert_close(ours.joints, theirs.joints[:, :55], rtol=0, atol=CLOSE)


def test_landmarks_of_the_licensed_mesh(tmp_path: Path) -> None:
    """A file without `keypoint_vertices`: the package's own extra joints are the landmarks."""
    path = write(tmp_path / "SMPLX_NEUTRAL.npz", random_fields(6, ENOUGH))
    body = BodyModel.load(path)
    pose, betas, expression = random_pose(PEOPLE)
    theirs = forward(path, pose, betas, expression, flat_hand_mean=True).joints
    ours = body.keypoints(body(axis_angle_to_matrix(pose), betas, expression))
    order = [
        *("Nose", "R_Eye", "L_Eye", "R_Ear", "L_Ear"),
        *(f"{side}_{part}" for side in "LR" for part in ("Big_toe", "Small_toe", "Heel")),
        *(f"{side}_{finger}_4" for side in "LR" for finger in ("Thumb", "Index", "Middle", "Ring", "Pinky")),
    ]
    rows = [KEYPOINT_NAMES.index(name) for name in order]
    torch.testing.assert_close(ours[:, rows], theirs[:, 55:76], rtol=0, atol=CLOSE)


def test_default_body(body_path: Path, body: BodyModel) -> None:
    """All fields the package reads are there; it adds the mean of the hands, as Hand4Whole lets it."""
    pose, betas, expression = random_pose(PEOPLE, bend=0.3)
    theirs = forward(body_path, pose, betas, expression, use_face_contour=True)
    full = pose.clone()
    full[:, 25:] += body.hands_mean
    ours = body(axis_angle_to_matrix(full), betas, expression)
    torch.testing.assert_close(ours.vertices, theirs.vertices, rtol=0, atol=CLOSE)
    torch.testing.assert_close(ours.joints, theirs.joints[:, :55], rtol=0, atol=CLOSE)
    assert theirs.joints.shape == (PEOPLE, 55 + 21 + 51 + 17, 3)
    assert np.isfinite(theirs.joints.numpy()).all()

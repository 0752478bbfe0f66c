"""The iterative regressor of HMR (arXiv 1712.06584) as SPIN has it (arXiv 1909.12828), with the public parameter names.

Pose (6D), shape and camera start at constants and are corrected three times by the same layers, each of which sees the
features and the estimate so far. No activation stands between the layers; the dropout of training has no parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bhpe_compile.networks.layers.rotations import rotation_6d_to_matrix

ROUNDS = 3
CAMERA = 3
"""Scale and shift of a weak-perspective camera: s, tx, ty."""

START_ROOT, START_JOINT = (1.0, 0.0, 0.0, -1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
"""First rotations, where no checkpoint brings others: half a turn about x for the root, none for the joints."""

START_CAMERA = (0.9, 0.0, 0.0)


class IterativeRegressor(nn.Module):
    """The regressor's layers and starts; a network inherits them where published files have no prefix before them.

    A rotation's six numbers interleave the first two columns of its matrix: x1 x2 of row 1, row 2, row 3.
    """

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(self, features: int, joints: int = 24, betas: int = 10, hidden: int = 1024) -> None:
        super().__init__()
        self.joints = joints
        self.fc1 = nn.Linear(features + 6 * joints + betas + CAMERA, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.decpose = nn.Linear(hidden, 6 * joints)
        self.decshape = nn.Linear(hidden, betas)
        self.deccam = nn.Linear(hidden, CAMERA)
        pose = START_ROOT + START_JOINT * (joints - 1)
        self.register_buffer("init_pose", torch.tensor([pose]))
        self.register_buffer("init_shape", torch.zeros(1, betas))
        self.register_buffer("init_cam", torch.tensor([START_CAMERA]))

    def regress(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows [N, features] -> "rotations" [N, joints, 3, 3], "betas" [N, betas], "camera" [N, 3] (s, tx, ty)."""
        one = torch.ones_like(
            rows[:, :1]
        )  # one row a picture; a graph cannot expand a buffer by a traced number
        pose, shape, camera = one * self.init_pose, one * self.init_shape, one * self.init_cam
        for _ in range(ROUNDS):
            hidden = self.fc2(self.fc1(torch.cat((rows, pose, shape, camera), 1)))
            pose = self.decpose(hidden) + pose
            shape = self.decshape(hidden) + shape
            camera = self.deccam(hidden) + camera
        rotations = rotation_6d_to_matrix(pose).reshape(-1, self.joints, 3, 3)
        return {"rotations": rotations, "betas": shape, "camera": camera}

"""The heads of Hand4Whole (arXiv 2011.11534): positions, rotations, face."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bhpe_compile.networks.layers import written_torch as _  # noqa: F401 (registers torch.ops.bhpe.cell_mean)
from bhpe_compile.networks.layers.sampling import sample_features

BODY_JOINTS, HAND_JOINTS = 25, 20
BODY_ROTATIONS, HAND_ROTATIONS = 21, 15
MCP_JOINTS = (4, 8, 12, 16)
"""The knuckles among the 20 hand joints: what the wrists' rotation is read from."""

SHAPE, EXPRESSION = 10, 10


def _conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels), nn.ReLU())


class PositionNet(nn.Module):
    """Features [N, C, H, W] -> logits of a heat map for each joint, [N, J, D, H, W]."""

    def __init__(self, in_channels: int, joints: int, depth: int) -> None:
        super().__init__()
        self.joints, self.depth = joints, depth
        self.conv = nn.Sequential(nn.Conv2d(in_channels, joints * depth, 1))

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.conv(features).unflatten(1, (self.joints, self.depth))
        return out


def _hidden(in_channels: int, hidden: int) -> tuple[nn.Module, int]:
    """A hidden layer of `hidden` units and its width; nothing where that is 0, as in the published network."""
    if hidden == 0:
        return nn.Identity(), in_channels
    return nn.Sequential(nn.Linear(in_channels, hidden), nn.ReLU()), hidden


def _joint_rows(features: Tensor, joints: Tensor) -> Tensor:
    """Sampled features beside coordinates: [N, J, C + 3]."""
    return torch.cat((sample_features(features, joints[:, :, :2]), joints), 2)


class BodyRotationNet(nn.Module):
    """Root and body rotations (6D), shape and camera from body and hand features at their joints."""

    def __init__(self, in_channels: int, hand_channels: int, channels: int, hidden: int = 0) -> None:
        super().__init__()
        self.body_conv = _conv_norm_relu(in_channels, channels)
        self.lhand_conv = _conv_norm_relu(hand_channels, channels)
        self.rhand_conv = _conv_norm_relu(hand_channels, channels)
        self.hidden, rows = _hidden((BODY_JOINTS + 2 * len(MCP_JOINTS)) * (channels + 3), hidden)
        self.root_pose_out = nn.Sequential(nn.Linear(rows, 6))
        self.body_pose_out = nn.Sequential(nn.Linear(rows, BODY_ROTATIONS * 6))
        self.shape_out = nn.Sequential(nn.Linear(in_channels, SHAPE))
        self.cam_out = nn.Sequential(nn.Linear(in_channels, 3))

    def forward(
        self,
        body: Tensor,
        body_joints: Tensor,
        left: Tensor,
        left_mcp: Tensor,
        right: Tensor,
        right_mcp: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return root [N, 6], body [N, 126], shape [N, 10], camera [N, 3]."""
        pooled = torch.ops.bhpe.cell_mean(body)
        rows = torch.cat(
            (
                _joint_rows(self.body_conv(body), body_joints),
                _joint_rows(self.lhand_conv(left), left_mcp),
                _joint_rows(self.rhand_conv(right), right_mcp),
            ),
            1,
        ).flatten(1)
        rows = self.hidden(rows)
        return (
            self.root_pose_out(rows),
            self.body_pose_out(rows),
            self.shape_out(pooled),
            self.cam_out(pooled),
        )


class HandRotationNet(nn.Module):
    """Hand features and joints -> 15 rotations (6D), [N, 90]."""

    def __init__(self, in_channels: int, channels: int, hidden: int = 0) -> None:
        super().__init__()
        self.hand_conv = _conv_norm_relu(in_channels, channels)
        self.hidden, rows = _hidden(HAND_JOINTS * (channels + 3), hidden)
        self.hand_pose_out = nn.Sequential(nn.Linear(rows, HAND_ROTATIONS * 6))

    def forward(self, features: Tensor, joints: Tensor) -> Tensor:
        rows = self.hidden(_joint_rows(self.hand_conv(features), joints).flatten(1))
        out: Tensor = self.hand_pose_out(rows)
        return out


class FaceRegressor(nn.Module):
    """Face features [N, C, H, W] -> expression [N, 10], jaw rotation (6D) [N, 6]."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.expr_out = nn.Sequential(nn.Linear(in_channels, EXPRESSION))
        self.jaw_pose_out = nn.Sequential(nn.Linear(in_channels, 6))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        pooled = torch.ops.bhpe.cell_mean(features)
        return self.expr_out(pooled), self.jaw_pose_out(pooled)

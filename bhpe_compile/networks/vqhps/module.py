"""VQ-HPS (arXiv 2312.08291): a picture to the 54 codes of a body mesh, a rotation and a camera.

Parameter names are those of the public checkpoint. Two separate trunks of one kind see the picture, one for the mesh
and one for rotation and camera. The decoder from codes to vertices (Mesh-VQ-VAE) is outside: its connection tables are
downloaded apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bhpe_compile.networks.layers.hrnet import HRNet
from bhpe_compile.networks.layers.resnet import ResNet
from bhpe_compile.networks.layers.trunk import HRNET_W48_KEYPOINT, HighResolution, Size, Trunk
from bhpe_compile.networks.vqhps.transformer import Transformer

OUTPUTS = ("prob_indices", "pred_rot", "pred_cam")
"""Names of the outputs, in order."""

TOKENS, CODES = 54, 512
"""Parts of a mesh, and entries of the code book."""

POSE_NUMBERS = 51
"""17 joints of the Human3.6M regressor, x, y and z each."""


def unused_macs(width: int = 512) -> int:
    """Multiply-accumulates of the released head for one picture that change nothing: key, query, a softmax of one.

    Published counts include them; the network here does not compute them.
    """
    return TOKENS * 2 * (width * width + width)


class VQHPS(nn.Module):
    """Input float32 [N, 3, *size], RGB, already normalised: (x / 255 - mean) / deviation of ImageNet.

    `pose_init` holds the 17 joints of the body's T-pose, which the rotation's first layer reads beside the features.
    They are constants that no published file of weights holds, because the body is licensed; zeros leave them out, and
    rotation and camera are then not the published network's.
    """

    def __init__(
        self,
        trunk: Trunk | HighResolution = HRNET_W48_KEYPOINT,
        size: Size = (224, 224),
        pose_init: Sequence[float] = (0.0,) * POSE_NUMBERS,
        width: int = 512,
        hidden: int = 1024,
    ) -> None:
        super().__init__()
        channels = trunk.out_channels
        self.pose_init = tuple(float(number) for number in pose_init)
        self.transformer = Transformer(width, hidden, TOKENS, CODES, trunk.cells(size))
        self.mesh_token_embed = nn.Embedding(TOKENS, width)
        self.backbone_pose = _trunk(trunk)
        self.backbone_rot = _trunk(trunk)
        self.conv_1x1 = nn.Conv2d(channels, width, 1)
        self.fc1 = nn.Linear(channels + POSE_NUMBERS, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.rot_predictor = nn.Linear(hidden, 6)
        self.cam_predictor = nn.Linear(hidden, 3)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return "prob_indices" [N, 54, 512], "pred_rot" [N, 6], "pred_cam" [N, 3].

        prob_indices are logits: a part's code is their argmax. pred_rot holds the first two rows of a matrix, one
        after the other, before they are made orthonormal.
        """
        features = self.backbone_rot(image).mean((2, 3))
        pose = torch.ones_like(features[:, :1]) * features.new_tensor([self.pose_init])
        hidden = self.fc2(self.fc1(torch.cat((features, pose), 1)))
        picture = self.conv_1x1(self.backbone_pose(image)).flatten(2).transpose(1, 2)
        logits = self.transformer(picture, self.mesh_token_embed.weight.unsqueeze(0))
        return {
            "prob_indices": logits,
            "pred_rot": self.rot_predictor(hidden),
            "pred_cam": self.cam_predictor(hidden),
        }


def _trunk(trunk: Trunk | HighResolution) -> nn.Module:
    """HRNet by name; a ResNet as the numbered sequence of its parts, as published."""
    return HRNet(trunk) if isinstance(trunk, HighResolution) else nn.Sequential(*ResNet(trunk).children())

"""VQ-HPS (arXiv 2312.08291): a picture to the 54 codes of a body mesh, a rotation and a camera.

Parameter names are those of the public checkpoint. Two separate trunks of one kind see the picture, one for the mesh
and one for rotation and camera. The decoder from codes to vertices (Mesh-VQ-VAE) is outside: its connection tables are
downloaded apart (`mesh.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.networks.layers.hrnet import HRNet
from bhpe_compile.networks.layers.resnet import ResNet
from bhpe_compile.networks.layers.trunk import HighResolution, Trunk
from bhpe_compile.networks.vqhps.presets import FULL_HR48, POSE_NUMBERS, Preset
from bhpe_compile.networks.vqhps.transformer import Transformer

OUTPUTS = ("codes", "logits", "rotation", "camera")
"""Names of the outputs, in order."""


class VQHPS(nn.Module):
    """Input float32 [N, 3, *preset.size], RGB, already normalised: (x / 255 - mean) / deviation of ImageNet.

    `pose_init` holds the 17 joints of the body's T-pose, which the rotation's first layer reads beside the features.
    They are constants that no published file of weights holds, because the body is licensed. Zeros leave them out, and
    rotation and camera are then not the published network's.
    """

    pose_init: Tensor

    def __init__(self, preset: Preset = FULL_HR48) -> None:
        super().__init__()
        trunk, width, hidden = preset.trunk, preset.width, preset.hidden
        channels = trunk.out_channels
        self.register_buffer("pose_init", torch.zeros(1, POSE_NUMBERS), persistent=False)
        self.transformer = Transformer(
            width, preset.feedforward, preset.tokens, preset.codes, trunk.cells(preset.size)
        )
        self.mesh_token_embed = nn.Embedding(preset.tokens, width)
        self.backbone_pose = _trunk(trunk)
        self.backbone_rot = _trunk(trunk)
        self.conv_1x1 = nn.Conv2d(channels, width, 1)
        self.fc1 = nn.Linear(channels + POSE_NUMBERS, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.rot_predictor = nn.Linear(hidden, 6)
        self.cam_predictor = nn.Linear(hidden, 3)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return "codes" int64 [N, tokens], "logits" [N, tokens, codes], "rotation" [N, 3, 3], "camera" [N, 3].

        A part's code is the argmax of its logits, the first one of equal ones.
        """
        features = self.backbone_rot(image).mean((2, 3))
        pose = torch.ones_like(features[:, :1]) * self.pose_init
        hidden = self.fc2(self.fc1(torch.cat((features, pose), 1)))
        picture = self.conv_1x1(self.backbone_pose(image)).flatten(2).transpose(1, 2)
        logits = self.transformer(picture, self.mesh_token_embed.weight.unsqueeze(0))
        return {
            "codes": logits.argmax(2),
            "logits": logits,
            "rotation": rows_to_matrix(self.rot_predictor(hidden)),
            "camera": self.cam_predictor(hidden),
        }


def rows_to_matrix(x: Tensor) -> Tensor:
    """[N, 6], the first two rows of a matrix one after the other -> rotation matrices [N, 3, 3].

    The rows are made orthonormal, the first one keeps its direction; the third is their cross product (6D of arXiv
    1812.07035, by rows).
    """
    first, second = x[:, :3], x[:, 3:]
    b1 = functional.normalize(first, dim=1)
    b2 = functional.normalize(second - (b1 * second).sum(1, keepdim=True) * b1, dim=1)
    return torch.stack((b1, b2, torch.linalg.cross(b1, b2, dim=1)), 1)


def _trunk(trunk: Trunk | HighResolution) -> nn.Module:
    """HRNet by name; a ResNet as the numbered sequence of its parts, as published."""
    return HRNet(trunk) if isinstance(trunk, HighResolution) else nn.Sequential(*ResNet(trunk).children())

"""CLIFF (arXiv 2208.00571) and the networks of BEDLAM (arXiv 2306.16940), with the public parameter names.

CLIFF tells HMR's regressor where the person is in the full picture: three more numbers beside the features.
BEDLAM-CLIFF and BEDLAM-HMR share a trunk and the SMPL-X body: 22 joints and 11 coefficients of shape.
Bodies and the conversion of the camera to the full picture are outside.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bhpe_compile.networks.layers.hrnet import HRNet
from bhpe_compile.networks.layers.regressor import IterativeRegressor
from bhpe_compile.networks.layers.resnet import ResNet
from bhpe_compile.networks.layers.trunk import HRNET_W48_KEYPOINT, RESNET50, HighResolution, Trunk

OUTPUTS = ("rotations", "betas", "camera")
"""Names of the outputs, in order."""

BOX = 3
"""Numbers that say where the box is: centre x, centre y, size, each relative to the focal length."""

BEDLAM_JOINTS, BEDLAM_BETAS = 22, 11


class CLIFF(IterativeRegressor):
    """Inputs: image float32 [N, 3, 256, 192], RGB, already normalised with ImageNet's mean and deviation; bbox [N, 3].

    With f = sqrt(W^2 + H^2) of the full picture and a box of b pixels about (cx, cy) the second input holds
    2.8 (cx - W / 2) / f, 2.8 (cy - H / 2) / f and (b - 0.24 f) / (0.06 f).
    """

    def __init__(self, trunk: Trunk | HighResolution = RESNET50, hidden: int = 1024) -> None:
        super().__init__(trunk.out_channels + BOX, hidden=hidden)
        self.encoder = HRNet(trunk) if isinstance(trunk, HighResolution) else ResNet(trunk)

    def forward(self, image: Tensor, bbox: Tensor) -> dict[str, Tensor]:
        """Return "rotations" [N, 24, 3, 3], "betas" [N, 10], "camera" [N, 3] (s, tx, ty, about the box)."""
        return self.regress(torch.cat((self.encoder(image).mean((2, 3)), bbox), 1))


class BedlamHead(IterativeRegressor):
    """BEDLAM's regressor, and three convolutions that its files hold and no network here calls."""

    def __init__(self, channels: int, box: int, hidden: int) -> None:
        super().__init__(channels + box, BEDLAM_JOINTS, BEDLAM_BETAS, hidden)
        self.downsample_module = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(channels, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU())
                for _ in range(3)
            )
        )

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows [N, channels + box] -> the outputs of `IterativeRegressor.regress`."""
        return self.regress(rows)


class BedlamHMR(nn.Module):
    """Input float32 [N, 3, 224, 224], RGB, already normalised with ImageNet's mean and deviation."""

    def __init__(self, trunk: HighResolution = HRNET_W48_KEYPOINT, hidden: int = 1024) -> None:
        super().__init__()
        self.backbone = HRNet(trunk)
        self.head = BedlamHead(trunk.out_channels, 0, hidden)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return "rotations" [N, 22, 3, 3], "betas" [N, 11], "camera" [N, 3] (s, tx, ty)."""
        out: dict[str, Tensor] = self.head(self.backbone(image).mean((2, 3)))
        return out


class BedlamCLIFF(nn.Module):
    """Inputs: image as for `BedlamHMR`; bbox [N, 3] without CLIFF's constants.

    In the terms of `CLIFF` it holds (cx - W / 2) / f, (cy - H / 2) / f and b / f.
    """

    def __init__(self, trunk: HighResolution = HRNET_W48_KEYPOINT, hidden: int = 1024) -> None:
        super().__init__()
        self.backbone = HRNet(trunk)
        self.head = BedlamHead(trunk.out_channels, BOX, hidden)

    def forward(self, image: Tensor, bbox: Tensor) -> dict[str, Tensor]:
        """Return "rotations" [N, 22, 3, 3], "betas" [N, 11], "camera" [N, 3] (s, tx, ty, about the box)."""
        out: dict[str, Tensor] = self.head(torch.cat((self.backbone(image).mean((2, 3)), bbox), 1))
        return out

"""BoxNet: where hands and face are, from body features and heat maps; and cropping there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bhpe_compile.models import roi_align as _roi_align  # noqa: F401 (registers torch.ops.bhpe.roi_align)
from bhpe_compile.models.presets import Size, Trunk
from bhpe_compile.models.resnet import ResNet
from bhpe_compile.models.sampling import sample_features, soft_argmax_2d

UPSAMPLING = 8
"""Three transposed convolutions of stride 2."""

PARTS = ("lhand", "rhand", "face")


class BoxNet(nn.Module):
    """Body features and heat map -> centres and sizes of three boxes, in cells of the body's heat map."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before in (in_channels, channels, channels):
            layers += [
                nn.ConvTranspose2d(before, channels, 4, 2, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
        self.deconv = nn.Sequential(*layers)
        self.bbox_center = nn.Sequential(nn.Conv2d(channels, len(PARTS), 1))
        self.lhand_size = _size_head(channels)
        self.rhand_size = _size_head(channels)
        self.face_size = _size_head(channels)

    def forward(self, features: Tensor, heatmap: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """features [N, C, H, W], heatmap [N, J, D, H, W] -> (centre [N, 2], size [N, 2]) for each of PARTS."""
        x = self.deconv(torch.cat((features, heatmap.flatten(1, 2)), 1))
        centres = soft_argmax_2d(self.bbox_center(x))
        rows = sample_features(x, centres)
        heads = (self.lhand_size, self.rhand_size, self.face_size)
        return tuple((centres[:, i] / UPSAMPLING, head(rows[:, i])) for i, head in enumerate(heads))


def _size_head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 2))


def restore_box(
    centre: Tensor, size: Tensor, cells: Size, image: Size, aspect: float, enlarge: float
) -> Tensor:
    """A box in heat-map cells -> (x0, y0, x1, y1) in pixels of `image`, of `aspect` = width / height, enlarged.

    centre, size [N, 2] (x, y); the shorter side grows until the aspect fits, then both by `enlarge`.
    """
    factor = (image[1] / cells[1], image[0] / cells[0])
    x, y = centre[:, 0] * factor[0], centre[:, 1] * factor[1]
    width, height = size[:, 0] * factor[0], size[:, 1] * factor[1]
    wide = width > aspect * height
    half_width = torch.where(wide, width, height * aspect) * (enlarge / 2)
    half_height = torch.where(wide, width / aspect, height) * (enlarge / 2)
    return torch.stack((x - half_width, y - half_height, x + half_width, y + half_height), 1)


class RoiNet(nn.Module):
    """A trunk on crops of the picture."""

    def __init__(self, trunk: Trunk, size: Size) -> None:
        super().__init__()
        self.size = size
        self.backbone = ResNet(trunk)

    def crop(self, image: Tensor, boxes: Tensor) -> Tensor:
        """image [N, 3, H, W], one box [N, 4] each -> [N, 3, *size]."""
        index = torch.arange(boxes.shape[0], device=image.device)
        out: Tensor = torch.ops.bhpe.roi_align(image, boxes, index, self.size[0], self.size[1])
        return out

    def forward(self, crops: Tensor) -> Tensor:
        out: Tensor = self.backbone(crops)
        return out

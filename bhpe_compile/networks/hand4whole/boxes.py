"""BoxNet: where hands and face are, from body features and heat maps; and cropping there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bhpe_compile.networks.layers import crop as _crop  # noqa: F401 (registers torch.ops.bhpe.crop)
from bhpe_compile.networks.layers.binary import NEUTRAL
from bhpe_compile.networks.layers.grids import BOX, LARGEST, SMALLEST
from bhpe_compile.networks.layers.resnet import ResNet
from bhpe_compile.networks.layers.sampling import sample_features, soft_argmax_2d
from bhpe_compile.networks.layers.trunk import Size, Trunk

UPSAMPLING = 8
"""Three transposed convolutions of stride 2."""

PARTS = ("lhand", "rhand", "face")


class BoxNet(nn.Module):
    """Body features and heat map -> centres and sizes of three boxes, in cells of the body's heat map.

    `cells` is the number over which a joint's heat map sums to 1. A sign of the heat map says nothing, so the first
    layer carries the values that its inputs have where nothing is known, for a binary form to compare them with.
    """

    def __init__(self, features: int, heatmaps: int, channels: int, cells: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before in (features + heatmaps, channels, channels):
            layers += [
                nn.ConvTranspose2d(before, channels, 4, 2, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
        neutral = torch.tensor(
            [0.0] * features + [1 / cells] * heatmaps, device="cpu"
        )  # real on a meta network, too
        layers[0].register_buffer(NEUTRAL, neutral, persistent=False)
        self.deconv = nn.Sequential(*layers)
        self.bbox_center = nn.Sequential(nn.Conv2d(channels, len(PARTS), 1))
        self.lhand_size = _size_head(channels)
        self.rhand_size = _size_head(channels)
        self.face_size = _size_head(channels)

    def forward(self, features: Tensor, heatmap: Tensor) -> tuple[Tensor, Tensor]:
        """features [N, C, H, W], heatmap [N, J, D, H, W] -> centres and sizes [N, 3, 2] of PARTS."""
        x = self.deconv(torch.cat((features, heatmap.flatten(1, 2)), 1))
        centres = soft_argmax_2d(self.bbox_center(x))
        rows = sample_features(x, centres.detach())
        heads = (self.lhand_size, self.rhand_size, self.face_size)
        sizes = torch.stack([head(rows[:, i]) for i, head in enumerate(heads)], 1)
        return centres / UPSAMPLING, sizes


def _size_head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 2))


def restore_boxes(
    centres: Tensor,
    sizes: Tensor,
    cells: Size,
    image: Size,
    aspects: tuple[float, ...],
    enlarge: tuple[float, ...],
) -> Tensor:
    """Boxes in heat-map cells -> (x0, y0, x1, y1) in pixels of `image`, [N, B, 4].

    centres, sizes [N, B, 2] (x, y). For each of the B boxes the shorter side grows until width / height is its
    aspect, then both sides grow by its `enlarge`. Centres and half the sides are rounded to 1/16 pixel, half a width
    is 0.5 to 512 pixels.
    """
    factor = centres.new_tensor((image[1] / cells[1], image[0] / cells[0]))
    aspect, margin = centres.new_tensor(aspects), centres.new_tensor(enlarge)
    width, height = sizes[:, :, 0] * factor[0], sizes[:, :, 1] * factor[1]
    half = torch.maximum(width, height * aspect) * (margin * (BOX / 2))  # of the width, in 1/16 pixel
    half = torch.clamp(half, SMALLEST, LARGEST)
    halves = torch.round(torch.stack((half, half / aspect), 2))
    middle = torch.round(centres * (factor * BOX))
    return torch.cat((middle - halves, middle + halves), 2) / BOX


class RoiNet(nn.Module):
    """A trunk on crops of the picture."""

    def __init__(self, trunk: Trunk, size: Size) -> None:
        super().__init__()
        self.size = size
        self.backbone = ResNet(trunk)

    def crop(self, image: Tensor, boxes: Tensor) -> Tensor:
        """image [N, 3, H, W], one box [N, 4] each -> [N, 3, *size]."""
        out: Tensor = torch.ops.bhpe.crop(image, boxes, self.size[0], self.size[1])
        return out

    def forward(self, crops: Tensor) -> Tensor:
        out: Tensor = self.backbone(crops)
        return out

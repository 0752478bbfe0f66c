"""CSPNeXt (RTMDet, arXiv 2212.07784) with the public parameter names.

Every unit is a convolution without bias, a batch norm and SiLU. A cross-stage layer halves the channels twice by 1x1,
runs its blocks on one half, and joins both again; in the trunk a factor for every channel stands before the last 1x1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bhpe_compile.networks.layers.trunk import CrossStage

KERNEL = 5
"""Of the depthwise convolution of a block."""

POOLS = (5, 9, 13)
"""Windows of the spatial pyramid."""


class Unit(nn.Module):
    """Convolution without bias, of padding kernel // 2, batch norm and activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.activate = activation()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activate(self.bn(self.conv(x)))
        return out


class Separable(nn.Module):
    """Depthwise, then 1x1: a unit each."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.depthwise_conv = Unit(channels, channels, kernel, groups=channels)
        self.pointwise_conv = Unit(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out


class Block(nn.Module):
    """3x3, depthwise 5x5, 1x1; `identity` adds what came in."""

    def __init__(self, channels: int, identity: bool) -> None:
        super().__init__()
        self.conv1 = Unit(channels, channels, 3)
        self.conv2 = Separable(channels, KERNEL)
        self.identity = identity

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return y + x if self.identity else y


class ChannelAttention(nn.Module):
    """A factor in [0, 1] for every channel, from the means of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        factors: Tensor = self.act(self.fc(x.mean((2, 3), keepdim=True)))
        return x * factors


class CrossStageLayer(nn.Module):
    """[N, in_channels, H, W] -> [N, out_channels, H, W]."""

    def __init__(
        self, in_channels: int, out_channels: int, blocks: int, *, identity: bool, attention: bool
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.main_conv = Unit(in_channels, half, 1)
        self.short_conv = Unit(in_channels, half, 1)
        self.final_conv = Unit(2 * half, out_channels, 1)
        self.blocks = nn.Sequential(*(Block(half, identity) for _ in range(blocks)))
        self.attention = ChannelAttention(2 * half) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), 1)
        if self.attention is not None:
            joined = self.attention(joined)
        out: Tensor = self.final_conv(joined)
        return out


class SpatialPyramid(nn.Module):
    """Maxima over windows of several sizes beside the map itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = Unit(channels, half, 1)
        self.poolings = nn.ModuleList(nn.MaxPool2d(window, 1, window // 2) for window in POOLS)
        self.conv2 = Unit(half * (1 + len(POOLS)), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        out: Tensor = self.conv2(torch.cat((x, *(pooling(x) for pooling in self.poolings)), 1))
        return out


class CSPNeXt(nn.Module):
    """Picture [N, 3, H, W] -> maps of 1/8, 1/16 and 1/32 of its size; H and W are multiples of 32."""

    def __init__(self, trunk: CrossStage) -> None:
        super().__init__()
        widths = trunk.widths
        half = widths[0] // 2
        self.stem = nn.Sequential(Unit(3, half, 3, 2), Unit(half, half, 3), Unit(half, widths[0], 3))
        for index, blocks in enumerate(trunk.blocks):
            last = index == len(trunk.blocks) - 1
            channels = widths[index + 1]
            layers: list[nn.Module] = [Unit(widths[index], channels, 3, 2)]
            if last:
                layers.append(SpatialPyramid(channels))
            layers.append(CrossStageLayer(channels, channels, blocks, identity=not last, attention=True))
            self.add_module(f"stage{index + 1}", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.get_submodule("stage1")(self.stem(x))
        fine: Tensor = self.get_submodule("stage2")(x)
        middle: Tensor = self.get_submodule("stage3")(fine)
        coarse: Tensor = self.get_submodule("stage4")(middle)
        return fine, middle, coarse

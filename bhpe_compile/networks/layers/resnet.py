"""Residual trunks (ResNet, arXiv 1512.03385) with the public parameter names, without the classifier.

A bottleneck has its stride in the 3x3 convolution, as in the public weights.
"""

from __future__ import annotations

from torch import Tensor, nn

from bhpe_compile.networks.layers.trunk import Trunk


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.relu2 = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        out: Tensor = self.relu2(self.bn2(self.conv2(y)) + shortcut)
        return out


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3, 1x1 expand by four, and a shortcut."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu1 = nn.ReLU()
        self.relu2 = nn.ReLU()
        self.relu3 = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        out: Tensor = self.relu3(self.bn3(self.conv3(y)) + shortcut)
        return out


class ResNet(nn.Module):
    """Picture [N, 3, H, W] -> features [N, trunk.out_channels, *trunk.cells((H, W))]."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        block = Bottleneck if trunk.kind == "bottleneck" else BasicBlock
        self.conv1 = nn.Conv2d(3, trunk.width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(trunk.width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = trunk.width
        for index, (depth, stride) in enumerate(zip(trunk.depths, trunk.strides, strict=True)):
            width = trunk.width << index
            self.add_module(f"layer{index + 1}", stage(block, channels, width, depth, stride))
            channels = width * block.expansion

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for index in range(1, 5):
            x = self.get_submodule(f"layer{index}")(x)
        return x


def stage(
    block: type[BasicBlock] | type[Bottleneck], channels: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    """`depth` blocks, the first of `stride` and with a shortcut of its own where shapes change."""
    out = width * block.expansion
    downsample = None
    if stride != 1 or channels != out:
        downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    blocks = [block(channels, width, stride, downsample)]
    blocks += [block(out, width, 1, None) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)

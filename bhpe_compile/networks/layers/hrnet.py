"""High-resolution networks (HRNet, arXiv 1902.09212 and 1908.07919) with the public parameter names.

A module runs its branches, then every branch receives all others: coarser ones by 1x1 convolution and nearest
upsampling, finer ones by a chain of 3x3 convolutions of stride 2. A batch norm ends each of these paths; the sum of
all has the only activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from bhpe_compile.networks.layers.resnet import BasicBlock, Bottleneck, stage
from bhpe_compile.networks.layers.trunk import HighResolution


def _unit(
    in_channels: int, out_channels: int, stride: int, *, relu: bool = True, bias: bool = False
) -> nn.Sequential:
    """3x3 convolution, batch norm and, where said, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=bias),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


def _path(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """What takes branch `source` to the shape of branch `target`; branches are counted from the finest."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            nn.Conv2d(widths[source], widths[target], 1, bias=False),
            nn.BatchNorm2d(widths[target]),
            nn.Upsample(scale_factor=2.0 ** (source - target), mode="nearest"),
        )
    steps = [_unit(widths[source], widths[source], 2) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, _unit(widths[source], widths[target], 2, relu=False))


class Exchange(nn.Module):
    """One module: [N, C, H, W], [N, 2 C, H / 2, W / 2], ... to maps of the same shapes."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        branches = range(len(widths))
        self.branches = nn.ModuleList(stage(BasicBlock, width, width, blocks, 1) for width in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_path(widths, source, target) for source in branches) for target in branches
        )
        self.relu = nn.ReLU()

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        branches = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for target, paths in enumerate(self.fuse_layers):
            assert isinstance(paths, nn.ModuleList)
            parts = [x if source == target else paths[source](x) for source, x in enumerate(branches)]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            fused.append(self.relu(total))
        return fused


class HRNet(nn.Module):
    """Picture [N, 3, H, W] -> features [N, trunk.out_channels, H / 32, W / 32]; H and W are multiples of 32."""

    def __init__(self, trunk: HighResolution) -> None:
        super().__init__()
        widths, stem = trunk.widths, trunk.stem
        wide = stem * Bottleneck.expansion
        self.kind = trunk.kind
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.relu2 = nn.ReLU()
        self.layer1 = stage(Bottleneck, stem, stem, trunk.bottlenecks, 1)
        self.transition1 = nn.ModuleList(
            (_unit(wide, widths[0], 1), nn.Sequential(_unit(wide, widths[1], 2)))
        )
        self.transition2 = _new_branch(widths[:3])
        self.transition3 = _new_branch(widths)
        for index, count in enumerate(trunk.modules):
            modules = (Exchange(widths[: index + 2], trunk.blocks) for _ in range(count))
            self.add_module(f"stage{index + 2}", nn.Sequential(*modules))
        if trunk.kind == "classification":
            self._add_classification_head(trunk)
        else:
            self._add_keypoint_head(trunk)

    def _add_classification_head(self, trunk: HighResolution) -> None:
        outs = [Bottleneck.expansion * width for width in trunk.head]
        self.incre_modules = nn.ModuleList(
            stage(Bottleneck, channels, width, 1, 1)
            for channels, width in zip(trunk.widths, trunk.head, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(
            _unit(fine, coarse, 2, bias=True) for fine, coarse in pairwise(outs)
        )
        self.final_layer: nn.Module = nn.Sequential(
            nn.Conv2d(outs[-1], trunk.features, 1), nn.BatchNorm2d(trunk.features), nn.ReLU()
        )

    def _add_keypoint_head(self, trunk: HighResolution) -> None:
        for branch, steps in enumerate((3, 2, 1)):
            width = trunk.widths[branch]
            layers = [layer for _ in range(steps) for layer in _unit(width, width, 2)]
            self.add_module(f"downsample_stage_{branch + 1}", nn.Sequential(*layers))
        self.final_layer = nn.Conv2d(trunk.width, trunk.heat_maps, 1)  # never called; in every published file

    def branches(self, x: Tensor) -> list[Tensor]:
        """The four maps behind the last stage, the finest first."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.layer1(self.relu2(self.bn2(self.conv2(x))))
        maps = self.get_submodule("stage2")([transition(x) for transition in self.transition1])
        maps = self.get_submodule("stage3")([*maps, self.transition2[-1](maps[-1])])
        out: list[Tensor] = self.get_submodule("stage4")([*maps, self.transition3[-1](maps[-1])])
        return out

    def forward(self, x: Tensor) -> Tensor:
        maps = self.branches(x)
        if self.kind == "keypoint":
            down = [self.get_submodule(f"downsample_stage_{i + 1}")(maps[i]) for i in range(3)]
            return torch.cat((*down, maps[3]), 1)
        y: Tensor = self.incre_modules[0](maps[0])
        for i, down_sample in enumerate(self.downsamp_modules):
            y = self.incre_modules[i + 1](maps[i + 1]) + down_sample(y)
        out: Tensor = self.final_layer(y)
        return out


def _new_branch(widths: Sequence[int]) -> nn.ModuleList:
    """A transition: the branches there are stay, and one of `widths[-1]` channels starts from the last of them."""
    return nn.ModuleList(
        (*(nn.Identity() for _ in widths[:-1]), nn.Sequential(_unit(widths[-2], widths[-1], 2)))
    )

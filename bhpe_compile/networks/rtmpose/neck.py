"""The neck of RTMW (a path aggregation network, arXiv 1803.01534) with the public parameter names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bhpe_compile.networks.layers.cspnext import CrossStageLayer, Unit

BLOCKS = 2
"""Of every cross-stage layer."""


def _layer(in_channels: int, out_channels: int) -> CrossStageLayer:
    return CrossStageLayer(in_channels, out_channels, BLOCKS, identity=False, attention=False)


class PathAggregation(nn.Module):
    """Three maps, the finest first -> the two coarser ones of the same shapes.

    First down to the finest: each map receives the next coarser one, reduced to its channels and enlarged. Then up
    again: each receives the finer one by a 3x3 of stride 2. What arrives stands before what is there.
    """

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.upsample = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.reduce_layers = nn.ModuleList((Unit(coarse, middle, 1), Unit(middle, fine, 1)))
        self.top_down_blocks = nn.ModuleList((_layer(2 * middle, middle), _layer(2 * fine, fine)))
        self.downsamples = nn.ModuleList((Unit(fine, fine, 3, 2), Unit(middle, middle, 3, 2)))
        self.bottom_up_blocks = nn.ModuleList((_layer(2 * fine, middle), _layer(2 * middle, coarse)))

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        from_coarse = self.reduce_layers[0](coarse)
        middle = self.top_down_blocks[0](torch.cat((self.upsample(from_coarse), middle), 1))
        from_middle = self.reduce_layers[1](middle)
        fine = self.top_down_blocks[1](torch.cat((self.upsample(from_middle), fine), 1))
        middle = self.bottom_up_blocks[0](torch.cat((self.downsamples[0](fine), from_middle), 1))
        coarse = self.bottom_up_blocks[1](torch.cat((self.downsamples[1](middle), from_coarse), 1))
        return middle, coarse

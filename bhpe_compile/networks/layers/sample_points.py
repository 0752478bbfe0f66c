"""`bhpe::sample_points`: bilinear samples of a feature map, in a written order.

    place    limited to -1 .. size, so that nothing far away overflows an index; a number that is none counts as -1
    weights  (1 - fy)(1 - fx), (1 - fy) fx, fy (1 - fx), fy fx of the pixels (0,0), (0,1), (1,0), (1,1); 0 outside
    sample   ((w00 x00 + w01 x01) + w10 x10) + w11 x11, every product and every sum rounded to float32

Places that are multiples of 1/4096 (`grids.py`) have exact weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, library
from torch.nn import functional

from bhpe_compile.networks.layers.operator import batched, gradient_of, operator


def _axis(place: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Two neighbours of places [N, J] along an axis, int64, and their weights."""
    limited = torch.where(place > -1, place, -1.0)
    limited = torch.where(limited < size, limited, float(size))
    low = torch.floor(limited)
    part = limited - low
    first = low.to(torch.int64)
    indices, weights = [], []
    for index, weight in ((first, 1 - part), (first + 1, part)):
        inside = (index >= 0) & (index < size)
        indices.append(index.clamp(0, size - 1))
        weights.append(torch.where(inside, weight, 0.0))
    return (indices[0], indices[1]), (weights[0], weights[1])


@operator
def sample_points(x: Tensor, points: Tensor) -> Tensor:
    """x [N, C, H, W] at points [N, J, 2] (x, y in cells) -> float32 [N, J, C]; outside x is 0."""
    channels, height, width = x.shape[1:]
    rows = x.float().flatten(2)
    columns, across = _axis(points[:, :, 0].float(), width)
    lines, down = _axis(points[:, :, 1].float(), height)
    parts = []
    for line, weight_y in zip(lines, down, strict=True):
        for column, weight_x in zip(columns, across, strict=True):
            index = (line * width + column)[:, None].expand(-1, channels, -1)
            parts.append(rows.gather(2, index) * (weight_y * weight_x)[:, None])
    return (((parts[0] + parts[1]) + parts[2]) + parts[3]).transpose(1, 2).contiguous()


def _sample_points_shape(x: Tensor, points: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], points.shape[1], x.shape[1], dtype=torch.float32)


def _float_samples(x: Tensor, points: Tensor) -> Tensor:
    height, width = x.shape[2], x.shape[3]
    last = points.new_tensor((max(width - 1, 1), max(height - 1, 1)))
    grid = (points / last * 2 - 1).float()[:, :, None]
    sampled = functional.grid_sample(x.float(), grid, "bilinear", "zeros", align_corners=True)
    return sampled[:, :, :, 0].transpose(1, 2)


library.register_fake("bhpe::sample_points", _sample_points_shape)
batched("sample_points", 2)
gradient_of("sample_points", _float_samples)

"""Heat maps and features: soft-argmax and bilinear sampling at joints. Coordinates are cells, x before y."""

from __future__ import annotations

import torch
from torch import Tensor

from bhpe_compile.networks.layers import heat_maps, sample_points  # noqa: F401 (register the operators)


def soft_argmax_2d(logits: Tensor) -> Tensor:
    """[N, J, H, W] -> expected (x, y) under the softmax over all cells, [N, J, 2]."""
    found: Tensor = torch.ops.bhpe.soft_argmax(logits, 1, 2)
    return found


def soft_argmax_3d(logits: Tensor) -> tuple[Tensor, Tensor]:
    """[N, J, D, H, W] -> the softmax over all cells, and the expected (x, y, z) under it, [N, J, 3]."""
    joints, depth = logits.shape[1], logits.shape[2]
    maps = logits.flatten(1, 2)
    weight = torch.ops.bhpe.heat_map(maps, depth)
    return torch.unflatten(weight, 1, (joints, depth)), torch.ops.bhpe.soft_argmax(maps, depth, 3)


def sample_features(features: Tensor, points: Tensor) -> Tensor:
    """Features [N, C, H, W] at points [N, J, 2] (cells) -> [N, J, C]; bilinear, zero outside."""
    found: Tensor = torch.ops.bhpe.sample_points(features, points)
    return found

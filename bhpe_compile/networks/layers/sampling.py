"""Heat maps and features: soft-argmax and bilinear sampling at joints. Coordinates are cells, x before y."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def soft_argmax_2d(logits: Tensor) -> Tensor:
    """[N, J, H, W] -> expected (x, y) under the softmax over all cells, [N, J, 2]."""
    height, width = logits.shape[2], logits.shape[3]
    weight = torch.unflatten(functional.softmax(logits.flatten(2), 2), 2, (height, width))
    columns = torch.arange(width, dtype=logits.dtype, device=logits.device)
    rows = torch.arange(height, dtype=logits.dtype, device=logits.device)
    return torch.stack(((weight.sum(2) * columns).sum(2), (weight.sum(3) * rows).sum(2)), 2)


def soft_argmax_3d(logits: Tensor) -> tuple[Tensor, Tensor]:
    """[N, J, D, H, W] -> the softmax over all cells, and the expected (x, y, z) under it, [N, J, 3]."""
    depth, height, width = logits.shape[2], logits.shape[3], logits.shape[4]
    weight = torch.unflatten(functional.softmax(logits.flatten(2), 2), 2, (depth, height, width))
    means = [
        (weight.sum(other) * torch.arange(size, dtype=logits.dtype, device=logits.device)).sum(2)
        for other, size in (((2, 3), width), ((2, 4), height), ((3, 4), depth))
    ]
    return weight, torch.stack(means, 2)


def sample_features(features: Tensor, points: Tensor) -> Tensor:
    """Features [N, C, H, W] at points [N, J, 2] (cells) -> [N, J, C]; bilinear, zero outside."""
    height, width = features.shape[2], features.shape[3]
    x = points[:, :, 0] / (width - 1) * 2 - 1
    y = points[:, :, 1] / (height - 1) * 2 - 1
    grid = torch.stack((x, y), 2)[:, :, None, :]
    sampled = functional.grid_sample(features, grid, "bilinear", "zeros", align_corners=True)
    return sampled[:, :, :, 0].transpose(1, 2)

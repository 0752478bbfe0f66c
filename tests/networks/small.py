"""Trunks of a few thousand weights, and weights that leave no layer without effect."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from bhpe_compile.networks.layers.trunk import CrossStage, HighResolution, Trunk

RESIDUAL = Trunk("bottleneck", 8, (1, 1, 1, 1))
CLASSIFICATION = HighResolution(
    "classification", 8, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1, head=(4, 8, 8, 16), features=32
)
KEYPOINT = HighResolution("keypoint", 8, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1, heat_maps=5)
CROSS_STAGE = CrossStage(0.1, 0.125)

Network = TypeVar("Network", bound=nn.Module)


def scattered(model: Network, seed: int = 0) -> Network:
    """`model` in eval mode with batch norms that scale and shift, so that a norm left out would show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.7, 1.3, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                taps = module.weight[0].numel()
                module.weight.normal_(0, taps**-0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1, generator=generator)
    return model.eval()


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal values of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

"""The full-precision shortcut around one binary convolution (Local Convolution Residual of BiDRN).

A binary convolution loses the magnitude of its input; the residual carries it past every change of shape:

    same         C -> C      x
    repeat       C -> k C    k copies of x, one behind the other (Fusion Up, Down Sample)
    group_mean   C -> C / k  mean over k contiguous groups of channels (Fusion Down)
    pooled                   a 2x2 average pool of stride 2 first, when the convolution has stride 2

Source: BiDRB of BinaryHPE, arXiv 2311.14323.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

ResidualKind = Literal["same", "repeat", "group_mean"]


def residual_kind(in_channels: int, out_channels: int) -> ResidualKind | None:
    """Return how `in_channels` become `out_channels` without weights, or None where they cannot."""
    if in_channels == out_channels:
        return "same"
    if out_channels % in_channels == 0:
        return "repeat"
    if in_channels % out_channels == 0:
        return "group_mean"
    return None


class LocalResidual(nn.Module):
    """Maps x [N, Cin, H, W] to [N, Cout, H / stride, W / stride] (H and W even where `stride` is 2)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        kind = residual_kind(in_channels, out_channels)
        if kind is None:
            raise ValueError(f"no residual leads from {in_channels} to {out_channels} channels")
        if stride not in (1, 2):
            raise ValueError(f"a residual has stride 1 or 2, not {stride}")
        self.kind: ResidualKind = kind
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.pool = stride == 2

    def forward(self, x: Tensor) -> Tensor:
        if self.pool:
            x = functional.avg_pool2d(x, 2)
        if self.kind == "repeat":
            return torch.cat([x] * (self.out_channels // self.in_channels), 1)
        if self.kind == "group_mean":
            groups = self.in_channels // self.out_channels
            if self.training:  # the same but for rounding, and fast on channel-last tensors
                total = x[:, : self.out_channels]
                for first in range(self.out_channels, self.in_channels, self.out_channels):
                    total = total + x[:, first : first + self.out_channels]
                return total / groups
            return torch.unflatten(x, 1, (groups, self.out_channels)).mean(1)
        return x

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kind={self.kind}, pool={self.pool}"

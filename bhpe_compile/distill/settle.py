"""Norms that have not seen anything get the statistics of what they read, and compute what they computed before.

    norm(x) = g (x - 0) / sqrt(1 + e) + s       ->       g' (x - m) / sqrt(v + e) + s'
                                                         g' = g sqrt((v + e) / (1 + e)),  s' = s + g m / sqrt(1 + e)

with m, v the mean and the variance of x on pictures. Such are the norms that an ONNX file's convolutions get
(`frontends/trainable.py`). The network stays the same function, and a binary layer in the place of a convolution
begins with results that are normed to what the convolution's were.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from bhpe_compile.networks.layers.norms import is_frozen

LEAST = 1e-6
"""Of a variance, as a part of the largest of its norm: a channel that does not change keeps a gain."""


def unsettled(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The norms whose statistics are those of a new one."""
    return [
        one
        for one in network.modules()
        if isinstance(one, nn.BatchNorm2d)
        and one.running_mean is not None
        and one.running_var is not None
        and not is_frozen(one)
        and not bool(one.running_mean.any())
        and bool((one.running_var == 1).all())
    ]


class _Moments:
    """Sums over all pixels of what a norm reads, a channel each, float64."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, torch.zeros(()), torch.zeros(())

    def see(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach().double()
        self.count += x.numel() // x.shape[1]
        self.sum = self.sum + x.sum((0, 2, 3))
        self.squares = self.squares + x.square().sum((0, 2, 3))


def settle_norms(network: nn.Module, show: Callable[[nn.Module], None]) -> None:
    """Settle the norms of `network` in place. show: lets a network see pictures."""
    norms = unsettled(network)
    if not norms:
        return
    seen = [_Moments() for _ in norms]
    was_training = network.training
    network.eval()
    with torch.no_grad(), ExitStack() as hooks:
        for norm, moments in zip(norms, seen, strict=True):
            hooks.callback(norm.register_forward_pre_hook(moments.see).remove)
        show(network)
    for norm, moments in zip(norms, seen, strict=True):
        if moments.count:
            _settle(norm, moments)
    network.train(was_training)


@torch.no_grad()
def _settle(norm: nn.BatchNorm2d, moments: _Moments) -> None:
    mean = moments.sum / moments.count
    variance = (moments.squares / moments.count - mean.square()).clamp(min=0)
    variance = variance.clamp(min=max(float(variance.max()) * LEAST, 1e-12))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.double() / (1 + norm.eps) ** 0.5
    norm.bias.copy_(norm.bias + gain * mean)
    norm.weight.copy_(gain * (variance + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)

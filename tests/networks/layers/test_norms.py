"""Batch norms measured anew: the plain mean of the batches' statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bhpe_compile.networks.layers.norms import measuring_norms


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3, momentum=0.3))


def test_statistics_are_the_mean_over_batches() -> None:
    net = network().train()
    for _ in range(3):
        net(torch.randn(4, 2, 5, 5) * 9)  # to be forgotten
    batches = [torch.randn(4, 2, 5, 5) for _ in range(5)]
    with measuring_norms(net):
        for batch in batches:
            net(batch)
    with torch.no_grad():
        seen = [net[0](batch) for batch in batches]
    first, second = net[1], net[3]
    assert isinstance(first, nn.BatchNorm2d)
    assert isinstance(second, nn.BatchNorm2d)
    mean = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    variance = torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(first.running_mean, mean)
    torch.testing.assert_close(first.running_var, variance)
    assert (first.momentum, second.momentum) == (0.1, 0.3)
    assert not any(module.training for module in net.modules())


def test_momenta_come_back_after_an_error() -> None:
    net = network()
    with pytest.raises(RuntimeError), measuring_norms(net):
        net(torch.randn(1, 5, 4, 4))
    assert [m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)] == [0.1, 0.3]

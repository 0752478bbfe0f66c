"""The running mean: plain at first, then exponential."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bhpe_compile.distill.average import Average


def test_the_plain_mean_and_then_an_exponential_one() -> None:
    network = nn.BatchNorm1d(2)
    average, expected = Average(network, span=3), torch.zeros(2)
    for step in range(1, 8):
        with torch.no_grad():
            network.weight.fill_(float(step**2))
            network.running_mean.fill_(float(-step))  # type: ignore[union-attr, operator]
            network.num_batches_tracked.fill_(step)  # type: ignore[union-attr, operator]
        average.add(step)
        expected = expected + (step**2 - expected) / min(step, 3)
    assert average.state["weight"].tolist() == pytest.approx(expected.tolist())
    assert average.state["num_batches_tracked"] == 7
    assert network.weight.tolist() == [49.0, 49.0]
    average.give()
    assert network.weight.tolist() == pytest.approx(expected.tolist())
    assert network.running_mean.tolist() == average.state["running_mean"].tolist()  # type: ignore[union-attr, operator]


def test_one_goes_on_from_another() -> None:
    network = nn.Linear(2, 2)
    first, whole = Average(network, 5), Average(network, 5)
    for step in range(1, 5):
        with torch.no_grad():
            network.weight.fill_(step)
        whole.add(step)
        if step == 3:
            second = Average(network, 5)
            second.load(first.state)
            first = second
        first.add(step)
    assert torch.equal(first.state["weight"], whole.state["weight"])
    with pytest.raises(KeyError):
        first.load({})

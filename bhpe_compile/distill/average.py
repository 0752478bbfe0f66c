"""The mean of a network's last weights, often better than any of them (Izmailov et al. 2018, arXiv:1803.05407).

    m <- m + (w - m) / min(t, span)        after step t = 1, 2, ...

That is the plain mean of the first `span` steps, and from there on an exponential one over about `span` steps.
Statistics of batch norms are averaged alike; whole numbers are the last ones. Training does not see the mean. Of a
binary layer, the weights behind the signs are averaged: its signs are those of their mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """The running mean of one network's state, on its device; `add` after every step."""

    def __init__(self, network: nn.Module, span: int) -> None:
        self._network, self._span = network, span
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the `state` of another one. KeyError, RuntimeError where it is of another network."""
        for name, mean in self.state.items():
            mean.copy_(state[name])

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Take in the weights after `step` (from 1 on)."""
        part = 1 / min(step, self._span)
        for name, value in self._network.state_dict().items():
            mean = self.state[name]
            if mean.is_floating_point():
                mean.lerp_(value, part)
            else:
                mean.copy_(value)

    def give(self) -> None:
        """The network gets the mean."""
        self._network.load_state_dict(self.state)

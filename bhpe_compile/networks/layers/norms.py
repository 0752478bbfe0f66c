"""Batch norms measured anew.

Training keeps a running mean of the statistics of small batches while the weights still move; making a layer binary
changes what its norm sees. What should be stored are the statistics of the network as it is: their plain mean over
batches, in float32 (Precise BN; Wu and Johnson, arXiv 2105.07576).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def measuring_norms(network: nn.Module) -> Iterator[None]:
    """What `network` computes inside replaces the running statistics of its batch norms; then it is in eval mode.

    Norms whose weights are frozen keep theirs. A variance is the mean of the batches' variances: what the means of
    batches differ by is not in it.
    """
    norms = [
        module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and not is_frozen(module)
    ]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over what follows
        norm.train()
    try:
        with torch.no_grad():
            yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


def is_frozen(module: nn.Module) -> bool:
    """Whether `module` has weights of its own and none of them learns."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)

"""After the last step: batch norms measured anew, in float32 and over many pictures.

Training keeps a running mean of the statistics of micro-batches, computed in bfloat16 while the weights still moved. What
is stored should be the statistics of the network as it ends: their plain mean over micro-batches with the final
weights, in float32 (Precise BN; Wu and Johnson, arXiv 2105.07576).
"""

from __future__ import annotations

import torch
from torch import nn

from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.samples import Order, Samples, load

PICTURES = 2048


def measure_norms(network: nn.Module, samples: Samples, recipe: Recipe, workers: int) -> None:
    """Replace the running statistics of all batch norms of `network` (in place, left in eval mode)."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over what follows
    count = max(1, min(PICTURES, recipe.images) // recipe.micro_batch)
    order = Order(len(samples), recipe.micro_batch, 0, count, recipe.seed)
    device = next(network.parameters()).device
    network.train()
    with torch.no_grad():
        for sample in load(samples, order, workers):
            network(*(sample[name].to(device) for name in ("view", "hands", "face")))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()

"""After the last step: batch norms measured anew, over many pictures and with the final weights."""

from __future__ import annotations

from torch import nn

from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.samples import Order, Samples, load
from bhpe_compile.models.norms import measuring_norms

PICTURES = 2048


def measure_norms(network: nn.Module, samples: Samples, recipe: Recipe, workers: int) -> None:
    """Replace the running statistics of all batch norms of `network` (in place, left in eval mode)."""
    count = max(1, min(PICTURES, recipe.images) // recipe.micro_batch)
    order = Order(len(samples), recipe.micro_batch, 0, count, recipe.seed)
    device = next(network.parameters()).device
    with measuring_norms(network):
        for sample in load(samples, order, workers):
            network(*(sample[name].to(device) for name in ("view", "hands", "face")))

"""After the last step, with the final weights: batch norms measured anew, and the ranges of 8-bit layers."""

from __future__ import annotations

import torch
from torch import nn

from bhpe_compile.distill.engine import Task
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.samples import Order, SampleSet, load
from bhpe_compile.exchange.calibrate import Calibration
from bhpe_compile.networks.layers.norms import measuring_norms
from bhpe_compile.networks.layers.rounding import Range

PICTURES = 2048
PICTURES_FOR_RANGES = 64


def measure_norms(network: nn.Module, task: Task, recipe: Recipe, workers: int) -> None:
    """Replace the running statistics of all batch norms of `network` (in place, left in eval mode)."""
    with measuring_norms(network):
        show(network, task.inputs, task.samples, recipe, workers, PICTURES)


def measure_ranges(network: nn.Module, task: Task, recipe: Recipe, workers: int) -> dict[str, Range]:
    """The range of what every full-precision convolution of `network`, in eval mode, reads: by path."""
    calibration = Calibration()
    with torch.no_grad(), calibration.watching(network):
        show(network, task.inputs, task.samples, recipe, workers, PICTURES_FOR_RANGES)
    return calibration.ranges()


def show(
    network: nn.Module,
    inputs: tuple[str, ...],
    samples: SampleSet,
    recipe: Recipe,
    workers: int,
    pictures: int,
) -> None:
    """Let `network`, which takes `inputs` of a sample, see the first pictures that training sees."""
    count = max(1, min(pictures, recipe.images) // recipe.micro_batch)
    order = Order(len(samples), recipe.micro_batch, 0, count, recipe.seed)
    device = next(network.parameters()).device
    for sample in load(samples, order, workers):
        network(*(sample[name].to(device) for name in inputs))

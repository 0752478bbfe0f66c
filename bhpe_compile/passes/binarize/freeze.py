"""From a trained graph to the constants an artefact stores.

    alpha_o     becomes a constant buffer of each binary layer
    W           of each layer that is not binary becomes float16(W), held as float32: the artefact
                stores float16, so everything from here on computes with what will be stored;
                where all of W is tiny, 2^-e float16(2^e W): 8-bit layers have a step of their own, others are
                refused by name when their code is made

Biases and batch normalisation stay float32.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import fx, nn

from bhpe_compile.errors import InputError
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.networks.layers.rounding import FLOAT16_MAX, fits_float16


def freeze(graph: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of `graph` in eval mode, without gradients, with every weight as it will be stored.

    Raises InputError naming the layer where a weight is not finite or too large for float16.
    """
    frozen = copy.deepcopy(graph).eval().requires_grad_(False)
    for path, layer in frozen.named_modules():
        if isinstance(layer, BinaryLayer):
            layer.freeze()
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            _round_to_float16(path, layer.weight)
    return frozen


def _round_to_float16(path: str, weight: torch.Tensor) -> None:
    scale = 1.0 if fits_float16(weight) else 2.0 ** -math.frexp(weight.abs().max().item())[1]
    rounded = (weight * scale).to(torch.float16).to(weight.dtype) / scale
    largest = weight.abs().max().item()
    if not largest <= FLOAT16_MAX:
        raise InputError(
            f"{path}.weight: its largest magnitude {largest:g} does not fit float16 (at most "
            f"{FLOAT16_MAX:g}), in which layers that are not binary are stored; rescale the layer"
        )
    weight.copy_(rounded)

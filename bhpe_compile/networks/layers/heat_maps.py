"""Heat maps from logits, and the mean position under them, as operators of the domain `bhpe`.

    heat_map       the softmax over all cells of a joint
    soft_argmax    the expected (x, y) or (x, y, z) under it, in cells

Both are computed in integers (`grids.py`): the exponentials carry a relative error of 2^-11.5, positions are multiples
of 1/4096 cell. Gradients are those of the float formulas.

logits are [N, J D, H, W]: a joint has D channels, one for each cell of depth. Results are float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, library
from torch.nn import functional

from bhpe_compile.networks.layers.grids import CELL, LOWEST, OCTAVES, STEPS_PER_NAT, TABLE, TABLE_BITS
from bhpe_compile.networks.layers.operator import batched, gradient_of, operator


def exponentials(logits: Tensor, depth: int) -> Tensor:
    """logits [N, J D, H, W] -> 2^30 exp(l - max l) of every cell of a joint, int64 [N, J, D, H, W]."""
    batch, _, height, width = logits.shape
    rows = logits.float().reshape(batch, -1, depth * height * width)
    steps = (rows - rows.amax(2, keepdim=True)) * float(STEPS_PER_NAT)
    lowest = float(LOWEST)
    steps = torch.where(steps > lowest, steps, lowest)  # NaN, too: it is no index
    k = torch.round(steps).to(torch.int64) - int(LOWEST)
    table = torch.as_tensor(TABLE, device=logits.device)
    found = table[k & ((1 << TABLE_BITS) - 1)] >> (OCTAVES - (k >> TABLE_BITS))
    return found.reshape(batch, -1, depth, height, width)


def _softmax(logits: Tensor, depth: int) -> Tensor:
    """The float formula: [N, J D, H, W] -> [N, J, D, H, W]."""
    batch, _, height, width = logits.shape
    rows = logits.float().reshape(batch, -1, depth * height * width)
    return functional.softmax(rows, 2).reshape(batch, -1, depth, height, width)


# ---- heat maps -------------------------------------------------------------------------------------------


@operator
def heat_map(logits: Tensor, depth: int) -> Tensor:
    """logits [N, J D, H, W] -> their softmax over the D H W cells of each joint, float32 of the same shape."""
    cells = exponentials(logits, depth)
    sums = cells.sum((2, 3, 4), keepdim=True)
    return (cells.float() / sums.float()).reshape(logits.shape)


def _heat_map_shape(logits: Tensor, depth: int) -> Tensor:
    return logits.new_empty(logits.shape, dtype=torch.float32)


def _float_heat_map(logits: Tensor, depth: int) -> Tensor:
    return _softmax(logits, depth).reshape(logits.shape)


library.register_fake("bhpe::heat_map", _heat_map_shape)
batched("heat_map", 1)
gradient_of("heat_map", _float_heat_map)


# ---- positions -------------------------------------------------------------------------------------------


def _means(cells: Tensor, axes: int) -> Tensor:
    """cells [N, J, D, H, W] -> sums of cell times place along x, y and z, [N, J, axes]."""
    found = []
    for others in ((2, 3), (2, 4), (3, 4))[:axes]:
        line = cells.sum(others)
        found.append((line * torch.arange(line.shape[2], device=cells.device)).sum(2))
    return torch.stack(found, 2)


@operator
def soft_argmax(logits: Tensor, depth: int, axes: int) -> Tensor:
    """logits [N, J D, H, W] -> the expected place under the softmax, float32 [N, J, axes]; axes: 2 (x, y) or 3."""
    cells = exponentials(logits, depth)
    sums = cells.sum((2, 3, 4)).double()[:, :, None]
    places = torch.floor(_means(cells, axes).double() * CELL / sums + 0.5)
    return places.float() / CELL


def _soft_argmax_shape(logits: Tensor, depth: int, axes: int) -> Tensor:
    return logits.new_empty(logits.shape[0], logits.shape[1] // depth, axes, dtype=torch.float32)


def _float_soft_argmax(logits: Tensor, depth: int, axes: int) -> Tensor:
    return _means(_softmax(logits, depth), axes)


library.register_fake("bhpe::soft_argmax", _soft_argmax_shape)
batched("soft_argmax", 1)
gradient_of("soft_argmax", _float_soft_argmax)

"""`bhpe::crop`: a box of every picture, cut out and scaled by averaged bilinear samples, in integers.

A box lies on 1/16 pixel: `first` and `size` are whole numbers. A bin of an axis cut into `cells` averages n samples,

    n       = ceil(size / (16 cells)), from 1 to 8
    p(i, s) = 2 first + floor((2 (2 n i + 2 s + 1) size + n cells) / (2 n cells))     1/32 pixel, rounded

each between two neighbouring pixels; one more than a pixel outside counts 0, others are limited to the picture. The
axes separate: with W[i, r] = sum over s of max(0, 32 - |p(i, s) - 32 r|) and P = rint(255 x)

    crop = (Wy P Wx^T) / (255 32 32 ny nx)       sums of whole numbers below 2^24, then one division

No gradient is defined: Hand4Whole stops gradients at its boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor, library

from bhpe_compile.networks.layers.grids import BOX, FURTHEST, LEVELS, LONGEST, MOST_SAMPLES, SUB
from bhpe_compile.networks.layers.operator import batched, operator


def _corner(place: Tensor) -> Tensor:
    """Pixels -> whole 1/16 pixels, int64; numbers that are none lie far outside."""
    scaled = place.float() * BOX
    limited = torch.where(scaled > -FURTHEST, scaled, float(-FURTHEST))
    return torch.round(torch.where(limited < FURTHEST, limited, float(FURTHEST))).to(torch.int64)


def _axis(first: Tensor, last: Tensor, cells: int, pixels: int) -> tuple[Tensor, Tensor]:
    """Weights [N, cells, pixels] of boxes from `first` to `last` [N] pixels, whole numbers, and n [N]."""
    start = _corner(first)
    size = (_corner(last) - start).clamp(1, LONGEST)[:, None, None]
    count = ((size + (BOX * cells - 1)) // (BOX * cells)).clamp(1, MOST_SAMPLES)
    i = torch.arange(cells, device=first.device)[:, None]
    s = torch.arange(MOST_SAMPLES, device=first.device)
    inner = (2 * (2 * count * i + 2 * s + 1) * size + count * cells) // (2 * count * cells)
    place = 2 * start[:, None, None] + inner
    valid = (place >= -SUB) & (place <= SUB * pixels) & (s < count)
    place = place.clamp(0, SUB * (pixels - 1))
    low, part = place // SUB, place % SUB
    weights = torch.zeros(*place.shape[:2], pixels, dtype=torch.int64, device=first.device)
    weights.scatter_add_(2, low, (SUB - part) * valid)
    weights.scatter_add_(2, (low + 1).clamp(max=pixels - 1), part * valid)
    return weights, count[:, 0, 0]


@operator
def crop(x: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """x [N, C, H, W], values k / 255, at boxes [N, 4] (x0, y0, x1, y1 in pixels), one each.

    Returns float32 [N, C, height, width].
    """
    rows, down = _axis(boxes[:, 1], boxes[:, 3], height, x.shape[2])
    columns, across = _axis(boxes[:, 0], boxes[:, 2], width, x.shape[3])
    share = (down * across * (LEVELS * SUB * SUB)).float()
    kind = torch.float64 if x.is_cuda else torch.float32  # a GPU may round what it multiplies
    crops = x.new_empty(x.shape[0], x.shape[1], height, width, dtype=torch.float32)
    windows = zip(_support(rows), _support(columns), strict=True)
    with torch.autocast(x.device.type, enabled=False):
        for i, ((top, bottom), (left, right)) in enumerate(windows):
            levels = torch.round(x[i, :, top:bottom, left:right].float() * LEVELS).to(kind)
            total = rows[i, :, top:bottom].to(kind) @ levels @ columns[i, :, left:right].to(kind).T
            crops[i] = total.float() / share[i]
    return crops


def _support(weights: Tensor) -> list[tuple[int, int]]:
    """For each of weights [n, cells, pixels] the range of pixels outside which all are zero."""
    used = (weights != 0).any(1)
    count = used.shape[1]
    first = torch.where(used.any(1), used.to(torch.uint8).argmax(1), 0)
    last = torch.where(used.any(1), count - used.flip(1).to(torch.uint8).argmax(1), 0)
    return list(zip(first.tolist(), last.tolist(), strict=True))


def _crop_shape(x: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], height, width, dtype=torch.float32)


library.register_fake("bhpe::crop", _crop_shape)
batched("crop", 2)

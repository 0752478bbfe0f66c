"""`bhpe::roi_align`: crops by averaged bilinear samples, as ONNX RoiAlign (output_half_pixel, avg, adaptive) does.

The operation is separable: crop = Wy . image . Wx^T, where a row of W averages ceil(cell) equidistant samples of
one output cell, each a bilinear weight pair. A sample more than one pixel outside contributes nothing.
Source: Mask R-CNN, arXiv 1703.06870, and the ONNX operator's definition. No gradient is defined: Hand4Whole
stops gradients at its boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor, library

from bhpe_compile.networks.layers.operator import operator


def _axis_weights(start: Tensor, length: Tensor, cells: int, pixels: int) -> Tensor:
    """Weights [n, cells, pixels] along one axis for boxes that start at `start` [n] and measure `length` [n]."""
    cell = length.clamp(min=1.0) / cells
    count = torch.ceil(cell)
    most = max(1, int(count.max().item())) if count.numel() else 1
    sample = torch.arange(most, dtype=start.dtype, device=start.device)
    index = torch.arange(cells, dtype=start.dtype, device=start.device)
    offset = (sample + 0.5) / count[:, None]  # [n, most], in cells
    place = start[:, None, None] + (index[None, :, None] + offset[:, None, :]) * cell[:, None, None]
    valid = (sample < count[:, None])[:, None, :] & (place >= -1) & (place <= pixels)
    place = place.clamp(min=0)
    low = place.floor().clamp(max=pixels - 1)
    high = (low + 1).clamp(max=pixels - 1)
    fraction = torch.where(low >= pixels - 1, torch.zeros_like(place), place - low)
    weights = torch.zeros(*place.shape[:2], pixels, dtype=start.dtype, device=start.device)
    weights.scatter_add_(2, low.long(), (1 - fraction) * valid)
    weights.scatter_add_(2, high.long(), fraction * valid)
    return weights / count[:, None, None]


@operator
def roi_align(x: Tensor, boxes: Tensor, batch_index: Tensor, height: int, width: int) -> Tensor:
    """Crop x [N, C, H, W] at boxes [n, 4] (x0, y0, x1, y1 in pixels) of pictures batch_index int64 [n].

    Returns [n, C, height, width].
    """
    rows = _axis_weights(boxes[:, 1], boxes[:, 3] - boxes[:, 1], height, x.shape[2])
    columns = _axis_weights(boxes[:, 0], boxes[:, 2] - boxes[:, 0], width, x.shape[3])
    crops = x.new_empty(boxes.shape[0], x.shape[1], height, width)
    pictures = batch_index.tolist()
    windows = zip(_support(rows), _support(columns), strict=True)
    for i, ((top, bottom), (left, right)) in enumerate(windows):
        window = x[pictures[i], :, top:bottom, left:right].contiguous()
        crops[i] = rows[i, :, top:bottom] @ window @ columns[i, :, left:right].T
    return crops


def _support(weights: Tensor) -> list[tuple[int, int]]:
    """For each of weights [n, cells, pixels] the range of pixels outside which all are zero."""
    used = (weights != 0).any(1)
    count = used.shape[1]
    first = torch.where(used.any(1), used.to(torch.uint8).argmax(1), 0)
    last = torch.where(used.any(1), count - used.flip(1).to(torch.uint8).argmax(1), 0)
    return list(zip(first.tolist(), last.tolist(), strict=True))


def _roi_align_shape(x: Tensor, boxes: Tensor, batch_index: Tensor, height: int, width: int) -> Tensor:
    return x.new_empty(boxes.shape[0], x.shape[1], height, width)


library.register_fake("bhpe::roi_align", _roi_align_shape)

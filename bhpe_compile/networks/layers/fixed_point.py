"""A linear layer of fixed-point inputs and 8-bit weights, as every compiled form computes it.

    u = clip(rint(4096 x), -0x808080, 0x7F7F7F) + 0x808080         24 bits: three bytes q0, q1, q2
    d_p = sum of (q_p - 128) w                                     whole numbers below 2^31, exact
    y = d2 (65536 scale) + (d1 (256 scale) + (d0 scale + bias))    d as float32; every operation rounded by itself

so that x is sum of (q_p - 128) 256^p / 4096, to 1/8192, and `scale` the weights' step / 4096.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bhpe_compile.networks.layers.grids import FIXED, FIXED_OFFSET, PLANES


def fixed_point_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """x float32 [N, K], weight int8 [O, K], scale and bias float32 [O] -> float32 [N, O]."""
    whole = torch.round(x * FIXED)
    whole = torch.where(whole > -FIXED_OFFSET, whole, float(-FIXED_OFFSET))
    highest = (1 << 24) - 1 - FIXED_OFFSET
    whole = torch.where(whole < highest, whole, float(highest)).to(torch.int64) + FIXED_OFFSET
    y = bias
    for plane in range(PLANES):
        digits = ((whole >> (8 * plane)) & 255) - 128
        dot = (digits.double() @ weight.double().T).float()  # below 2^53: exact in every order
        y = dot * (scale * float(256**plane)) + y
    return y

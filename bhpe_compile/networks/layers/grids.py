"""The grids on which heat maps, positions, boxes and crops are computed; no torch here.

Sums are sums of integers, positions multiples of a power of two, and everything else is one float operation after
the other in a written order. So torch, ONNX Runtime and kernels for every CPU compute the same bits, in whatever
order they add up.

    exponential of a cell     z = max(float32(l - max l) * STEPS_PER_NAT, LOWEST)
                              k = rint(z) - LOWEST,   E = TABLE[k mod 1024] >> (OCTAVES - k div 1024)
    position                  floor(4096 T / S + 1/2) / 4096 cells,   T = sum of E * place, S = sum of E, in float64
    heat map                  float32(E) / float32(S)
"""

from __future__ import annotations

import numpy as np

TABLE_BITS = 10
"""2^x is tabled in steps of 1/1024."""

OCTAVES = 32
"""What lies further below the largest logit counts as 0."""

TABLE = np.rint(2.0 ** (30 + np.arange(1 << TABLE_BITS) / (1 << TABLE_BITS))).astype(np.int64)
"""[1024], below 2^31. The exponential of the largest logit is 2^30."""

STEPS_PER_NAT = np.float32((1 << TABLE_BITS) / np.log(2))
LOWEST = np.float32(-(OCTAVES << TABLE_BITS))

CELL = 4096
"""Positions are multiples of 1/4096 cell."""

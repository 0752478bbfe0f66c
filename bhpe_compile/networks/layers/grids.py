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

BOX = 16
"""Boxes lie on 1/16 pixel."""

SMALLEST, LARGEST = 8.0, 8192.0
"""Half a side of a box, in 1/16 pixel."""

SUB = 32
"""Samples of a crop lie on 1/32 pixel: the weights of a bin and axis add up to at most 256, so that sums of whole
levels up to 255 stay below 2^24 and are exact in float32."""

MOST_SAMPLES = 8
"""A bin and axis."""

FURTHEST, LONGEST = 1 << 17, 1 << 16
"""Corners beyond this and sides above this, in 1/16 pixel, are limited: any box ends in bounded time."""

LEVELS = 255
"""The value 1 of a picture."""

FIXED = 4096
"""Inputs of linear layers are whole numbers of 1/4096, in three bytes of balanced digits: a byte q means q - 128."""

FIXED_OFFSET = 0x808080
"""What makes the digits balanced; the numbers go from -0x808080 to 0x7F7F7F."""

PLANES = 3

MEAN = 4096
"""Means over cells add up whole numbers of 1/4096, in float64."""

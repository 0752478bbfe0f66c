"""What a trunk is, as data: nothing here needs torch, so that a network can be described without it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

Size = tuple[int, int]
"""Rows and columns."""


@dataclass(frozen=True)
class Trunk:
    """A residual network without its classifier: block kind, channels of the stem, blocks and stride of each stage."""

    kind: Literal["bottleneck", "basic"]
    width: int
    depths: tuple[int, int, int, int]
    strides: tuple[int, int, int, int] = (1, 2, 2, 2)

    @property
    def out_channels(self) -> int:
        """Channels of the last stage."""
        return self.width * 8 * (4 if self.kind == "bottleneck" else 1)

    def cells(self, size: Size) -> Size:
        """Rows and columns of the features of a picture of `size`; the stem and its pooling divide by 4."""
        stride = 4 * prod(self.strides)
        return size[0] // stride, size[1] // stride


RESNET50 = Trunk("bottleneck", 64, (3, 4, 6, 3))

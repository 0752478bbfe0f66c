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


@dataclass(frozen=True)
class HighResolution:
    """HRNet: branches of 1/4, 1/8, 1/16 and 1/32 of the picture side by side.

    `classification`: the branches are widened, taken down one after the other and end in `features` channels.
    `keypoint`: every branch is taken to the coarsest and all are put one behind the other.
    """

    kind: Literal["classification", "keypoint"]
    width: int = 48
    """Channels of the finest branch; each further one has twice as many."""

    stem: int = 64
    bottlenecks: int = 4
    modules: tuple[int, int, int] = (1, 4, 3)
    """Modules of the stages with 2, 3 and 4 branches."""

    blocks: int = 4
    """Basic blocks of a branch in a module."""

    head: tuple[int, int, int, int] = (32, 64, 128, 256)
    """`classification`: widths of the bottlenecks that widen the branches, each to four times that."""

    features: int = 2048
    """`classification`: channels of the result."""

    heat_maps: int = 24
    """`keypoint`: outputs of the convolution that published files hold and no network here calls."""

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Channels of the branches."""
        return self.width, 2 * self.width, 4 * self.width, 8 * self.width

    @property
    def out_channels(self) -> int:
        """Channels of the result."""
        return self.features if self.kind == "classification" else sum(self.widths)

    def cells(self, size: Size) -> Size:
        """Rows and columns of the features of a picture of `size`, whose sides are multiples of 32."""
        return size[0] // 32, size[1] // 32


HRNET_W48 = HighResolution("classification")
HRNET_W48_KEYPOINT = HighResolution("keypoint")


@dataclass(frozen=True)
class CrossStage:
    """CSPNeXt: stem and four stages; `depth` scales the blocks of the stages, `width` the channels."""

    depth: float
    width: float

    @property
    def widths(self) -> tuple[int, int, int, int, int]:
        """Channels behind the stem and behind each stage, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the picture."""
        stem, first, second, third, last = (
            int(channels * self.width) for channels in (64, 128, 256, 512, 1024)
        )
        return stem, first, second, third, last

    @property
    def blocks(self) -> tuple[int, int, int, int]:
        """Blocks of each stage, at least one."""
        first, second, third, last = (max(round(count * self.depth), 1) for count in (3, 6, 6, 3))
        return first, second, third, last

    @property
    def out_channels(self) -> int:
        """Channels of the last stage."""
        return self.widths[-1]

    def cells(self, size: Size) -> Size:
        """Rows and columns of the features of a picture of `size`, whose sides are multiples of 32."""
        return size[0] // 32, size[1] // 32


CSPNEXT = {
    "t": CrossStage(0.167, 0.375),
    "s": CrossStage(0.33, 0.5),
    "m": CrossStage(0.67, 0.75),
    "l": CrossStage(1.0, 1.0),
    "x": CrossStage(1.33, 1.25),
}
"""The published sizes."""

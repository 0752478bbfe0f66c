"""Sizes of the networks: `full` is the public Hand4Whole, `tiny` the same structure at a fraction of the cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bhpe_compile.errors import UsageError

STRIDE = 32
"""Pixels of a trunk's input per cell of its output."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Trunk:
    """A residual network without its classifier: block kind, channels of the stem, blocks per stage."""

    kind: Literal["bottleneck", "basic"]
    width: int
    depths: tuple[int, int, int, int]

    @property
    def out_channels(self) -> int:
        """Channels of the last stage."""
        return self.width * 8 * (4 if self.kind == "bottleneck" else 1)


@dataclass(frozen=True)
class Preset:
    """All sizes of one Hand4Whole; image sizes are (height, width) in pixels."""

    name: str
    body: Size
    hand: Size
    face: Size
    body_trunk: Trunk
    hand_trunk: Trunk
    face_trunk: Trunk
    head_channels: int
    box_channels: int
    heatmap_depth: int = 8
    image: Size = (512, 384)

    def cells(self, size: Size) -> Size:
        """Rows and columns of the heat map of a picture of `size`."""
        return size[0] // STRIDE, size[1] // STRIDE


FULL = Preset(
    name="full",
    body=(256, 192),
    hand=(256, 256),
    face=(192, 192),
    body_trunk=Trunk("bottleneck", 64, (3, 4, 6, 3)),
    hand_trunk=Trunk("bottleneck", 64, (3, 4, 6, 3)),
    face_trunk=Trunk("basic", 64, (2, 2, 2, 2)),
    head_channels=512,
    box_channels=256,
)
"""The public network: two ResNet-50 trunks, one ResNet-18."""

TINY = Preset(
    name="tiny",
    body=(256, 192),
    hand=(128, 128),
    face=(96, 96),
    body_trunk=Trunk("bottleneck", 16, (2, 2, 1, 1)),
    hand_trunk=Trunk("bottleneck", 16, (2, 2, 1, 1)),
    face_trunk=Trunk("basic", 16, (2, 1, 1, 1)),
    head_channels=24,
    box_channels=16,
)
"""Same structure, same input, under 8 MB of float32 weights: for examples and tests."""

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (FULL, TINY)}


def get_preset(name: str) -> Preset:
    """The preset `name`; UsageError where there is none."""
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}: known are {', '.join(PRESETS)}")
    return PRESETS[name]

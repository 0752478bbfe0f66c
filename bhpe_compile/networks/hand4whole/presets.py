"""Sizes of the networks, and what their layers are for: `full` is the public Hand4Whole, `tiny` the same in small."""

from __future__ import annotations

from dataclasses import dataclass

from bhpe_compile.errors import UsageError
from bhpe_compile.networks.layers.trunk import Size, Trunk
from bhpe_compile.networks.network import Roles


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
    joint_offset: float = 0.0
    """From a joint's x and y in a heat map (0 is its first cell) to its place in cells: 0 as published, 0.5 says that
    the middle of a cell is meant, and a mirrored hand then agrees with the other one."""

    head_hidden: int = 0
    """Width of a hidden layer between what is sampled at the joints and their rotations; 0: none, as published."""

    @property
    def body_step(self) -> int:
        """The body is seen in one pixel of so many of the picture."""
        return self.image[0] // self.body[0]

    @property
    def body_cells(self) -> Size:
        """Rows and columns of the body's heat map."""
        return self.body_trunk.cells(self.body)

    @property
    def hand_cells(self) -> Size:
        """Rows and columns of a hand's heat map."""
        return self.hand_trunk.cells(self.hand)


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
    body=(128, 96),
    hand=(64, 64),
    face=(64, 64),
    body_trunk=Trunk("basic", 20, (2, 2, 2, 1), strides=(1, 2, 2, 1)),
    hand_trunk=Trunk("bottleneck", 16, (2, 1, 1, 1), strides=(1, 2, 2, 1)),
    face_trunk=Trunk("basic", 16, (1, 1, 1, 1)),
    head_channels=24,
    box_channels=16,
    joint_offset=0.5,
    head_hidden=128,
)
"""The same structure and the same input at half the resolution, under 8 MB of float32 weights: for examples and tests.

The last stage of its trunks keeps its resolution, so that the heat maps have as many cells as the full network's
(a hand's: half as many on each side).
"""

FOCAL, CAMERA_HEIGHT = 5000.0, 256
"""Focal length of the camera in pixels of an input of so many rows."""

NAME = "hand4whole"
"""Of the network, wherever it is named."""

ENLARGE = (2.0, 2.0, 1.5)
"""Margins of the boxes of left hand, right hand, face."""

ROLES: Roles = (
    ("box_net.deconv.*", "branch"),
    ("box_net.*_size.*", "branch"),
    ("*_rotation_net.*_conv.*", "head"),  # convolution and norm, but not in a trunk
)
"""What the structure of the graph does not tell."""

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (FULL, TINY)}


def get_preset(name: str) -> Preset:
    """The preset `name`; UsageError where there is none."""
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}: known are {', '.join(PRESETS)}")
    return PRESETS[name]

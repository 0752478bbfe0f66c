"""Sizes of VQ-HPS, as data: nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bhpe_compile.networks.layers.trunk import HRNET_W48_KEYPOINT, RESNET50, HighResolution, Size, Trunk

POSE_NUMBERS = 51
"""17 joints of the Human3.6M regressor, x, y and z each."""


@dataclass(frozen=True)
class Preset:
    """A size of the network.

    size          rows and columns of the picture
    width         channels of a token, heads of 64
    feedforward   channels between the two linear layers behind an attention
    hidden        channels between the layers of rotation and camera
    tokens        parts of a mesh
    codes         entries of the code book
    """

    trunk: Trunk | HighResolution
    size: Size = (224, 224)
    width: int = 512
    feedforward: int = 1024
    hidden: int = 1024
    tokens: int = 54
    codes: int = 512


FULL_R50 = Preset(RESNET50)
FULL_HR48 = Preset(HRNET_W48_KEYPOINT)

_TINY = Preset(Trunk("bottleneck", 8, (1, 1, 1, 1)), (64, 64), 128, 96, 32, 6, 16)

PRESETS: dict[str, dict[str, Preset]] = {
    "vqhps-r50": {"full": FULL_R50, "tiny": _TINY},
    "vqhps-hr48": {
        "full": FULL_HR48,
        "tiny": replace(
            _TINY,
            trunk=HighResolution(
                "keypoint", 8, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1, heat_maps=5
            ),
        ),
    },
}
"""By network and preset."""

"""HMR of SPIN (arXiv 1712.06584, 1909.12828) as a description: a square picture in, SMPL parameters out.

The published code is under BSD-3-Clause; nothing of it, and no weights, are part of this program. The body is outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bhpe_compile.networks.interface import Crop, Input, Interface
from bhpe_compile.networks.network import Layout, Network
from bhpe_compile.networks.smpl import DEVIATION, IGNORED, MEAN, OUTPUTS, TINY, TINY_HIDDEN

if TYPE_CHECKING:
    from torch import nn

NAME = "spin"


SIZES = {"full": (224, 224), "tiny": (64, 64)}
"""Rows and columns of a preset's picture; tiny: a small trunk before the same regressor, for examples and tests."""


def targets(labels: Any, view: Any) -> Mapping[str, Any]:
    """What labels of drawn people mean for its outputs."""
    from bhpe_compile.networks.hmr import learning

    return learning.targets(labels, view)


def begin(model: nn.Module, people: Mapping[str, Any]) -> None:
    """A new network starts at the mean of the labels."""
    from bhpe_compile.networks.hmr import learning

    learning.begin(model, people)


def interface(preset: str) -> Interface:
    """Inputs and outputs: the box is taken as it is, made a square."""
    image = Input("image", (1, 3, *SIZES[preset]), "picture", Crop(1.0, mean=MEAN, deviation=DEVIATION))
    return Interface(NAME, preset, (image,), OUTPUTS)


def build(preset: str) -> nn.Module:
    """The network in full precision, with torch's random weights."""
    from bhpe_compile.networks.hmr.module import HMR

    return (HMR(TINY, TINY_HIDDEN) if preset == "tiny" else HMR()).eval()


NETWORK = Network(
    name=NAME,
    summary="HMR of SPIN, ResNet-50: a body's rotations, shape and camera (SMPL)",
    presets=tuple(SIZES),
    build=build,
    interface=interface,
    layouts=(
        Layout(
            preset="full",
            wrappers=("model",),
            ignored=IGNORED,
            signature=(
                "conv1.weight",
                "layer2.0.conv1.weight",
                "layer4.2.conv3.weight",
                "decpose.weight",
                "init_pose",
            ),
        ),
    ),
    targets=targets,
    begin=begin,
    stages=(("fc?", "regressor"), ("dec*", "regressor"), ("*", "trunk")),
)

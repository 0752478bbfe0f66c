"""CLIFF (arXiv 2208.00571) as a description: a picture, and where its box was, in; SMPL parameters out.

The published code is under Apache-2.0, with headers under MIT; nothing of it, and no weights, are part of this
program. The body, and the camera of the full picture, are outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bhpe_compile.networks.interface import BoxVector, Crop, Input, Interface
from bhpe_compile.networks.network import Layout, Network
from bhpe_compile.networks.smpl import DEVIATION, IGNORED, MEAN, OUTPUTS, TINY, TINY_HIDDEN

if TYPE_CHECKING:
    from torch import nn

NAME = "cliff-r50"


SIZES = {"full": (256, 192), "tiny": (64, 48)}
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
    """Inputs and outputs; the box's three numbers are those of the paper's section 3, scaled as in the public code."""
    image = Input("image", (1, 3, *SIZES[preset]), "picture", Crop(1.1, mean=MEAN, deviation=DEVIATION))
    bbox = Input("bbox", (1, 3), "box", vector=BoxVector(centre=2.8, size_offset=0.24, size_scale=0.06))
    return Interface(NAME, preset, (image, bbox), OUTPUTS)


def build(preset: str) -> nn.Module:
    """The network in full precision, with torch's random weights."""
    from bhpe_compile.networks.cliff.module import CLIFF

    return (CLIFF(TINY, TINY_HIDDEN) if preset == "tiny" else CLIFF()).eval()


NETWORK = Network(
    name=NAME,
    summary="CLIFF, ResNet-50: a body's rotations, shape and camera (SMPL) from a picture and its box",
    presets=tuple(SIZES),
    build=build,
    interface=interface,
    layouts=(
        Layout(
            preset="full",
            wrappers=("model",),
            prefix="module.",
            ignored=IGNORED,
            signature=(  # most of it of this trunk: HRNet's variant has the same regressor
                "encoder.layer2.0.conv1.weight",
                "encoder.layer3.0.conv1.weight",
                "encoder.layer4.2.conv3.weight",
                "decpose.weight",
            ),
        ),
    ),
    targets=targets,
    begin=begin,
    stages=(("encoder.*", "trunk"), ("*", "regressor")),
)

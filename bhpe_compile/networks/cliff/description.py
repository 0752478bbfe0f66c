"""CLIFF (arXiv 2208.00571) and the networks of BEDLAM (arXiv 2306.16940) as descriptions: a picture and, for all but
BEDLAM-HMR, where its box was, in; parameters of SMPL or SMPL-X out.

CLIFF's published code is under Apache-2.0, with headers under MIT; BEDLAM's has no licence file. Nothing of them, and
no weights, are part of this program. The bodies are outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bhpe_compile.networks.interface import BoxVector, Crop, Input, Interface, Output
from bhpe_compile.networks.network import Layout, Network
from bhpe_compile.networks.smpl import (
    DEVIATION,
    IGNORED,
    MEAN,
    OUTPUTS,
    SMPLX_OUTPUTS,
    TINY,
    TINY_HIDDEN,
)

if TYPE_CHECKING:
    from torch import nn

Ports = tuple[tuple[Input, ...], tuple[Output, ...]]
"""Inputs and outputs."""

BOX = BoxVector(centre=2.8, size_offset=0.24, size_scale=0.06)
"""The three numbers of CLIFF's section 3, scaled as in its public code."""

BEDLAM_BOX = BoxVector()
"""The same three without constants."""


def _image(rows: int, columns: int, enlarge: float) -> Input:
    crop = Crop(enlarge, mean=MEAN, deviation=DEVIATION)
    return Input("image", (1, 3, rows, columns), "picture", crop)


def _bbox(vector: BoxVector) -> Input:
    return Input("bbox", (1, 3), "box", vector=vector)


CLIFF_PORTS: Ports = ((_image(256, 192, 1.1), _bbox(BOX)), OUTPUTS)
TINY_PORTS: Ports = ((_image(64, 48, 1.1), _bbox(BOX)), OUTPUTS)
BEDLAM_HMR_PORTS: Ports = ((_image(224, 224, 1.0),), SMPLX_OUTPUTS)
BEDLAM_CLIFF_PORTS: Ports = ((_image(224, 224, 1.0), _bbox(BEDLAM_BOX)), SMPLX_OUTPUTS)
"""BEDLAM's public code takes a detector's box as it is, made a square."""


def _build_cliff_r50(preset: str) -> nn.Module:
    from bhpe_compile.networks.cliff.module import CLIFF

    return (CLIFF(TINY, TINY_HIDDEN) if preset == "tiny" else CLIFF()).eval()


def _build_cliff_hr48(preset: str) -> nn.Module:
    from bhpe_compile.networks.cliff.module import CLIFF
    from bhpe_compile.networks.layers.trunk import HRNET_W48

    return CLIFF(HRNET_W48).eval()


def _build_bedlam_hmr(preset: str) -> nn.Module:
    from bhpe_compile.networks.cliff.module import BedlamHMR

    return BedlamHMR().eval()


def _build_bedlam_cliff(preset: str) -> nn.Module:
    from bhpe_compile.networks.cliff.module import BedlamCLIFF

    return BedlamCLIFF().eval()


def _cliff_layout(*trunk: str) -> Layout:
    """trunk: layers that tell its trunk from the other one; the regressor is the same."""
    signature = (*(f"encoder.{layer}.weight" for layer in trunk), "decpose.weight")
    return Layout(preset="full", wrappers=("model",), prefix="module.", ignored=IGNORED, signature=signature)


def _bedlam_layout(columns: int) -> Layout:
    """columns: inputs of the regressor, all that tells the two networks' files apart."""
    signature = (
        "backbone.stage4.2.branches.3.3.conv2.weight",
        "backbone.downsample_stage_1.6.weight",
        "head.downsample_module.2.0.weight",
        "head.decpose.weight",
    )
    return Layout(
        preset="full",
        wrappers=("state_dict",),
        prefix="model.",
        ignored=IGNORED,
        signature=signature,
        shapes=(("head.fc1.weight", (1024, columns)),),
    )


def targets(labels: Any, view: Any) -> Mapping[str, Any]:
    """What labels of drawn people mean for SMPL's outputs."""
    from bhpe_compile.networks.hmr import learning

    return learning.targets(labels, view)


def begin(model: nn.Module, people: Mapping[str, Any]) -> None:
    """A new network starts at the mean of the labels."""
    from bhpe_compile.networks.hmr import learning

    learning.begin(model, people)


def _network(
    name: str,
    what: str,
    build: Callable[[str], nn.Module],
    ports: Ports,
    layout: Layout,
    trunk: str,
    tiny: Ports | None = None,
) -> Network:
    """A member of the family. trunk: the pattern of its trunk's layers. tiny: what the small preset reads."""

    def interface(preset: str) -> Interface:
        return Interface(name, preset, *(tiny if tiny is not None and preset == "tiny" else ports))

    labelled = ports[1] is OUTPUTS
    return Network(
        name=name,
        summary=what,
        presets=("full",) if tiny is None else ("full", "tiny"),
        targets=targets if labelled else None,
        begin=begin if labelled else None,
        build=build,
        interface=interface,
        layouts=(layout,),
        stages=((trunk, "trunk"), ("*", "regressor")),
    )


NETWORK = (
    _network(
        "cliff-r50",
        "CLIFF, ResNet-50: a body's rotations, shape and camera (SMPL) from a picture and its box",
        _build_cliff_r50,
        CLIFF_PORTS,
        _cliff_layout("layer2.0.conv1", "layer3.0.conv1", "layer4.2.conv3"),
        "encoder.*",
        TINY_PORTS,
    ),
    _network(
        "cliff-hr48",
        "CLIFF, HRNet-W48: a body's rotations, shape and camera (SMPL) from a picture and its box",
        _build_cliff_hr48,
        CLIFF_PORTS,
        _cliff_layout(
            "stage2.0.branches.1.0.conv1", "stage4.2.branches.3.3.conv2", "incre_modules.3.0.conv3"
        ),
        "encoder.*",
    ),
    _network(
        "bedlam-hmr",
        "BEDLAM-HMR, HRNet-W48: a body's rotations, shape and camera (SMPL-X)",
        _build_bedlam_hmr,
        BEDLAM_HMR_PORTS,
        _bedlam_layout(866),
        "backbone.*",
    ),
    _network(
        "bedlam-cliff",
        "BEDLAM-CLIFF, HRNet-W48: a body's rotations, shape and camera (SMPL-X) from a picture and its box",
        _build_bedlam_cliff,
        BEDLAM_CLIFF_PORTS,
        _bedlam_layout(869),
        "backbone.*",
    ),
)

"""VQ-HPS (arXiv 2312.08291) as a description: a square picture in, the codes of a mesh, a rotation and a camera out.

The published code is under MIT; nothing of it, and no weights, are part of this program. The decoder from codes to
vertices is outside the compiled network (`mesh.py`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bhpe_compile.networks.interface import Crop, Input, Interface, Output
from bhpe_compile.networks.network import Layout, Network
from bhpe_compile.networks.smpl import DEVIATION, MEAN
from bhpe_compile.networks.vqhps.presets import PRESETS, Preset

if TYPE_CHECKING:
    from torch import nn

R50, HR48 = "vqhps-r50", "vqhps-hr48"

SHARED = (
    "transformer.dec_head.blocks.0.attn.mask",
    "transformer.decoder.layers.0.multihead_attn.in_proj_weight",
    "mesh_token_embed.weight",
)
"""Keys of both networks that no other one has."""

TRUNKS = {
    R50: (
        "backbone_pose.4.0.conv1.weight",
        "backbone_pose.7.2.conv3.weight",
        "backbone_rot.7.2.conv3.weight",
    ),
    HR48: (
        "backbone_pose.transition1.0.0.weight",
        "backbone_pose.downsample_stage_1.0.weight",
        "backbone_rot.downsample_stage_1.0.weight",
    ),
}
"""Keys that tell one from the other."""


def interface(name: str, preset: str) -> Interface:
    """Inputs and outputs: the box is taken as it is, made a square."""
    size = PRESETS[name][preset]
    image = Input("image", (1, 3, *size.size), "picture", Crop(1.0, mean=MEAN, deviation=DEVIATION))
    outputs = (
        Output(
            "codes",
            (1, size.tokens),
            "codes",
            f"entries of a book of {size.codes}, one for each part of the mesh",
        ),
        Output("logits", (1, size.tokens, size.codes), "logits"),
        Output("rotation", (1, 3, 3), "rotation", names=("pelvis",)),
        Output("camera", (1, 3), "camera", "weak perspective of the crop: scale, shift x, shift y"),
    )
    return Interface(name, preset, (image,), outputs)


def build(name: str, preset: str) -> nn.Module:
    """The network in full precision, with torch's random weights."""
    from bhpe_compile.networks.vqhps.module import VQHPS

    return VQHPS(PRESETS[name][preset]).eval()


def _shapes(size: Preset) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """What tells the published one from small ones."""
    return (
        ("mesh_token_embed.weight", (size.tokens, size.width)),
        ("conv_1x1.weight", (size.width, size.trunk.out_channels, 1, 1)),
        ("fc2.weight", (size.hidden, size.hidden)),
    )


def _network(name: str, trunk: str) -> Network:
    return Network(
        name=name,
        summary=f"VQ-HPS, {trunk}: the codes of a body's mesh, a rotation and a camera",
        presets=tuple(PRESETS[name]),
        build=partial(build, name),
        interface=partial(interface, name),
        layouts=tuple(
            Layout(
                preset=preset,
                wrappers=("model",),
                prefix="module.",
                ignored=("*rotcam_feat*",),
                optional=("pose_init",),
                signature=(*TRUNKS[name], *SHARED) if preset == "full" else (),
                shapes=_shapes(PRESETS[name][preset]),
            )
            for preset in PRESETS[name]
        ),
        stages=(
            ("backbone_pose.*", "mesh trunk"),
            ("backbone_rot.*", "rotation trunk"),
            ("conv_1x1", "transformer"),
            ("transformer.*", "transformer"),
            ("*", "regressor"),
        ),
    )


NETWORK = (_network(R50, "ResNet-50"), _network(HR48, "HRNet-W48"))

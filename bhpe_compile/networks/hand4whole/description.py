"""Hand4Whole (arXiv 2011.11534) as a description: a picture of a person in, SMPL-X parameters of body, hands, face out.

The published code is under the MIT licence; nothing of it, and no weights, are part of this program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bhpe_compile.networks.hand4whole import keypoints as k
from bhpe_compile.networks.hand4whole.presets import (
    CAMERA_HEIGHT,
    ENLARGE,
    FOCAL,
    NAME,
    PRESETS,
    ROLES,
    get_preset,
)
from bhpe_compile.networks.interface import BodyOutputs, Crop, Input, Interface, Output
from bhpe_compile.networks.network import Layout, Network, Published

if TYPE_CHECKING:
    from torch import nn

    from bhpe_compile.distill.lesson import Lesson

BODY = BodyOutputs(
    root="smplx_root_pose",
    body="smplx_body_pose",
    jaw="smplx_jaw_pose",
    left_hand="smplx_lhand_pose",
    right_hand="smplx_rhand_pose",
    shape="smplx_shape",
    expression="smplx_expr",
)


def interface(preset: str) -> Interface:
    """Inputs and outputs of a preset. UsageError for an unknown one."""
    sizes = get_preset(preset)
    rows, columns = sizes.body_cells
    image = Input("image", (1, 3, *sizes.image), "picture", Crop(enlarge=1.25))
    margins = dict(zip(("left hand", "right hand", "face"), ENLARGE, strict=True))

    def pose(name: str, *joints: str) -> Output:
        return Output(name, (1, 3 * len(joints)), "axis-angle", "radians", joints)

    def box(name: str, part: str) -> Output:
        return Output(name, (1, 4), "boxes", "pixels of the input", part=part, margin=margins[part])

    return Interface(
        NAME,
        preset,
        (image,),
        (
            pose("smplx_root_pose", "pelvis"),
            pose("smplx_body_pose", *k.BODY_JOINTS),
            pose("smplx_lhand_pose", *k.hand_joints("left")),
            pose("smplx_rhand_pose", *k.hand_joints("right")),
            pose("smplx_jaw_pose", "jaw"),
            Output("smplx_shape", (1, 10), "coefficients"),
            Output("smplx_expr", (1, 10), "coefficients"),
            # at about 25 m: z is a sigmoid times 56 m
            Output("cam_trans", (1, 3), "camera", "metres", focal=FOCAL / CAMERA_HEIGHT * sizes.image[0]),
            Output(
                "joint_img",
                (1, len(k.KEYPOINTS), 3),
                "keypoints",
                "cells of the body's heat map",
                k.KEYPOINTS,
                grid=(columns, rows),
            ),
            box("lhand_bbox", "left hand"),
            box("rhand_bbox", "right hand"),
            box("face_bbox", "face"),
        ),
        k.SKELETON,
        BODY,
    )


def build(preset: str) -> nn.Module:
    """The network in full precision, with torch's random weights."""
    from bhpe_compile.networks.hand4whole.module import Hand4Whole

    return Hand4Whole(get_preset(preset)).eval()


def lesson(preset: str) -> Lesson:
    """How `train` and `distill` teach a preset."""
    from bhpe_compile.networks.hand4whole.training.lesson import Hand4WholeLesson

    return Hand4WholeLesson(get_preset(preset))


NETWORK = Network(
    name=NAME,
    summary="Hand4Whole: body, hands and face as SMPL-X parameters",
    presets=tuple(PRESETS),
    build=build,
    interface=interface,
    layouts=(
        Layout(
            preset="full",
            wrappers=("network",),
            prefix="module.",
            ignored=("smplx_layer.", "smplx.", "body_model."),
            signature=(
                "backbone.conv1.weight",
                "body_position_net.conv.0.weight",
                "body_rotation_net.root_pose_out.0.weight",
                "box_net.deconv.0.weight",
                "hand_roi_net.backbone.conv1.weight",
                "face_regressor.expr_out.0.weight",
            ),
        ),
    ),
    stages=(
        ("backbone.*", "body trunk"),
        ("box_net.*", "box net"),
        ("hand_roi_net.*", "hands"),
        ("face_roi_net.*", "face"),
        ("*_net.*", "heads"),
        ("face_regressor.*", "heads"),
    ),
    roles=ROLES,
    lesson=lesson,
    published=(
        Published("full", "float", 77.84, 16.85),
        Published("full", "bnn", 21.61, 2.63),
        Published("full", "reactnet", 21.66, 2.63),
        Published("full", "bidrn", 17.22, 2.50),
    ),
)

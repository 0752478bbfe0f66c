"""Hand4Whole (arXiv 2011.11534): one picture of a person in, SMPL-X parameters out.

Numbers in the comments are the steps of the published network. Parameter names are those of the public checkpoint
without its `module.` prefix.
"""

from __future__ import annotations

import math
from math import prod

import torch
from torch import Tensor, nn

from bhpe_compile.networks.hand4whole.boxes import BoxNet, RoiNet, restore_boxes
from bhpe_compile.networks.hand4whole.heads import (
    BODY_JOINTS,
    HAND_JOINTS,
    MCP_JOINTS,
    BodyRotationNet,
    FaceRegressor,
    HandRotationNet,
    PositionNet,
)
from bhpe_compile.networks.hand4whole.presets import CAMERA_HEIGHT, ENLARGE, FOCAL, ROLES, Preset
from bhpe_compile.networks.layers.resnet import ResNet
from bhpe_compile.networks.layers.rotations import rotation_6d_to_axis_angle
from bhpe_compile.networks.layers.sampling import soft_argmax_3d

CAMERA_SIZE, CAMERA_PIXELS = 2.5, CAMERA_HEIGHT * 192
"""Edge of the camera's cube in metres, area of the image that its focal length is declared for."""

CAMERA_DEPTH = math.sqrt(FOCAL**2 * CAMERA_SIZE**2 / CAMERA_PIXELS)
"""Largest camera distance in metres (56.4)."""

OUTPUTS = (
    "smplx_root_pose",
    "smplx_body_pose",
    "smplx_lhand_pose",
    "smplx_rhand_pose",
    "smplx_jaw_pose",
    "smplx_shape",
    "smplx_expr",
    "cam_trans",
    "joint_img",
    "lhand_bbox",
    "rhand_bbox",
    "face_bbox",
)
"""Names of the outputs, in order."""


class Hand4Whole(nn.Module):
    """The network of a preset. Input float32 [N, 3, 512, 384], RGB in [0, 1]."""

    roles = ROLES

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        body, hand = preset.body_trunk.out_channels, preset.hand_trunk.out_channels
        depth = preset.heatmap_depth
        self.backbone = ResNet(preset.body_trunk)
        self.body_position_net = PositionNet(body, BODY_JOINTS, depth)
        self.body_rotation_net = BodyRotationNet(body, hand, preset.head_channels, preset.head_hidden)
        self.box_net = BoxNet(body, BODY_JOINTS * depth, preset.box_channels, depth * prod(preset.body_cells))
        self.hand_roi_net = RoiNet(preset.hand_trunk, preset.hand)
        self.hand_position_net = PositionNet(hand, HAND_JOINTS, depth)
        self.hand_rotation_net = HandRotationNet(hand, preset.head_channels, preset.head_hidden)
        self.face_roi_net = RoiNet(preset.face_trunk, preset.face)
        self.face_regressor = FaceRegressor(preset.face_trunk.out_channels)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the outputs of `OUTPUTS`: poses in radians (axis-angle), boxes in pixels of the input.

        joint_img [N, 65, 3]: 25 body, 20 left and 20 right hand joints; x and y in cells of the body's heat map
        (hand joints are mapped there through their box), z in cells of depth of the part's own heat map.
        """
        p = self.preset
        step = p.body_step
        body = self.locate(image[:, :, ::step, ::step])  # 1 - 4
        boxes = self.boxes(body["centres"], body["sizes"])  # 5
        left_crop = torch.flip(self.hand_roi_net.crop(image, boxes[:, 0]), [3])  # 6
        right_crop = self.hand_roi_net.crop(image, boxes[:, 1])
        face_crop = self.face_roi_net.crop(image, boxes[:, 2])
        found = self.recognise(body, torch.cat((left_crop, right_crop), 0), face_crop)  # 7 - 13
        flipped, right = torch.chunk(found["hand_joints"], 2, 0)
        hands = torch.stack((self._unflip(flipped), right), 1)
        placed = _place(_moved(hands, p.joint_offset), boxes[:, :2], p, p.hand_cells, p.body_cells)
        six = torch.cat((found["root"], found["body"], found["hands"], found["jaw"]), 1)
        count = six.shape[1] // 6
        vectors = rotation_6d_to_axis_angle(six.reshape(-1, 6)).reshape(-1, count, 3)
        left_pose = vectors[:, 22:37] * image.new_tensor([1.0, -1.0, -1.0])  # 10
        values = (
            vectors[:, 0],
            vectors[:, 1:22].flatten(1),
            left_pose.flatten(1),
            vectors[:, 37:52].flatten(1),
            vectors[:, 52],
            found["shape"],
            found["expression"],
            found["camera"],
            torch.cat((_moved(body["joints"], p.joint_offset), placed), 1),
            boxes[:, 0],
            boxes[:, 1],
            boxes[:, 2],
        )
        return dict(zip(OUTPUTS, values, strict=True))

    def predict(self, view: Tensor, hands: Tensor, face: Tensor) -> dict[str, Tensor]:
        """Everything `locate` and `recognise` find where the crops are given: what training compares.

        view [N, 3, *preset.body]; hands [N, 2, 3, *preset.hand], the left one mirrored; face [N, 3, *preset.face].
        """
        body = self.locate(view)
        crops = torch.cat((hands[:, 0], hands[:, 1]), 0)
        return body | self.recognise(body, crops, face)

    def locate(self, view: Tensor) -> dict[str, Tensor]:
        """The body, and where hands and face are; view is the input at the body's resolution.

        features       of the trunk
        joint_logits   [N, 25, D, H, W] before the softmax
        joints         [N, 25, 3] in cells of the heat map
        centres, sizes [N, 3, 2] of the boxes of left hand, right hand, face, in cells of the heat map
        """
        features = self.backbone(view)  # 2
        logits = self.body_position_net(features)  # 3
        heatmap, joints = soft_argmax_3d(logits)
        centres, sizes = self.box_net(features, heatmap.detach())  # 4
        return {
            "features": features,
            "joint_logits": logits,
            "joints": joints,
            "centres": centres,
            "sizes": sizes,
        }

    def boxes(self, centres: Tensor, sizes: Tensor) -> Tensor:
        """Where to crop, [N, 3, 4] in pixels of the input; no gradient goes through."""
        p = self.preset
        aspects = tuple(width / height for height, width in (p.hand, p.hand, p.face))
        return restore_boxes(centres, sizes, p.body_cells, p.image, aspects, ENLARGE).detach()

    def recognise(self, body: dict[str, Tensor], crops: Tensor, face_crop: Tensor) -> dict[str, Tensor]:
        """Rotations, shape, expression and camera from what `locate` returned and the crops.

        crops [2N, 3, *preset.hand]: all left hands, mirrored, then all right ones; face_crop [N, 3, *preset.face].

            hand_features, face_features      of the trunks
            hand_logits, hand_joints          [2N, 20, ...] in cells of the crop
            root, body, hands, jaw            6D rotations, [N, 6 k]; hands: left mirrored, right
            shape, expression [N, 10], camera [N, 3] in metres
        """
        hands = self.hand_roi_net(crops)  # 7
        logits = self.hand_position_net(hands)
        _, hand_joints = soft_argmax_3d(logits)  # 8
        hand_pose = self.hand_rotation_net(hands, hand_joints.detach())  # 9
        flipped, right = torch.chunk(hands, 2, 0)
        flipped_joints, right_joints = torch.chunk(hand_joints.detach(), 2, 0)
        mcp = slice(MCP_JOINTS[0], MCP_JOINTS[-1] + 1, 4)
        root, pose, shape, camera = self.body_rotation_net(  # 11
            body["features"],
            body["joints"].detach(),
            torch.flip(flipped, [3]),
            self._unflip(flipped_joints)[:, mcp],
            right,
            right_joints[:, mcp],
        )
        face = self.face_roi_net(face_crop)
        expression, jaw = self.face_regressor(face)  # 12
        depth = torch.ops.bhpe.logistic(camera[:, 2:]) * CAMERA_DEPTH  # 13
        return {
            "hand_features": hands,
            "face_features": face,
            "hand_logits": logits,
            "hand_joints": hand_joints,
            "root": root,
            "body": pose,
            "hands": torch.cat(torch.chunk(hand_pose, 2, 0), 1),
            "jaw": jaw,
            "shape": shape,
            "expression": expression,
            "camera": torch.cat((camera[:, :2], depth), 1),
        }

    def _unflip(self, joints: Tensor) -> Tensor:
        """Joints [N, 20, 3] in cells of a mirrored hand crop -> in cells of the crop."""
        return torch.cat((self.preset.hand_cells[1] - 1 - joints[:, :, :1], joints[:, :, 1:]), 2)  # 10


def _moved(joints: Tensor, offset: float) -> Tensor:
    """Joints [..., 3] with `offset` added to x and y."""
    return joints if offset == 0 else joints + joints.new_tensor((offset, offset, 0.0))


def _place(
    joints: Tensor, boxes: Tensor, preset: Preset, hand_cells: tuple[int, int], cells: tuple[int, int]
) -> Tensor:
    """Joints [N, 2, 20, 3] of two hands, x, y in cells of their boxes [N, 2, 4] -> [N, 40, 3] in the body's cells."""
    to_box = joints.new_tensor((1 / hand_cells[1], 1 / hand_cells[0]))
    to_body = joints.new_tensor((cells[1] / preset.image[1], cells[0] / preset.image[0]))
    first, size = boxes[:, :, None, :2], boxes[:, :, None, 2:] - boxes[:, :, None, :2]
    place = (joints[:, :, :, :2] * to_box * size + first) * to_body
    return torch.cat((place, joints[:, :, :, 2:]), 3).flatten(1, 2)

"""What training compares, in units in which an error of 1 is large; all but heat maps and features are mean L1.

    joints      cells of the heat map                      boxes      centres and sizes in cells
    rotations   entries of the matrices                    shape      standard deviations, expression likewise
    skeleton    metres between joints of the posed body, from the pelvis; fingers from their wrist
    pixels      cells, the skeleton's joints projected with the predicted camera
    heat maps   Kullback-Leibler divergence from the teacher's, in nats a joint           (distillation)
    features    squared distance relative to the teacher's square                         (distillation)

Hand4Whole (arXiv 2011.11534) adds L1 losses of the same quantities; here they have weights. Comparing features and soft
targets is Hinton et al., arXiv 1503.02531, and Romero et al., FitNets, arXiv 1412.6550.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bhpe_compile.distill.engine import Terms
from bhpe_compile.evaluate.body import BodyModel, axis_angle_to_matrix
from bhpe_compile.networks.hand4whole.module import CAMERA_SIZE
from bhpe_compile.networks.hand4whole.presets import CAMERA_HEIGHT, FOCAL
from bhpe_compile.networks.layers.rotations import rotation_6d_to_matrix

Values = Mapping[str, Tensor]

WEIGHTS = {
    "joints": 1.0,
    "hand_joints": 0.5,
    "boxes": 1.0,
    "root": 4.0,
    "pose": 4.0,
    "hands": 2.0,
    "jaw": 1.0,
    "shape": 0.1,
    "expression": 0.1,
    "skeleton": 10.0,
    "fingers": 20.0,
    "pixels": 0.3,
    "heatmaps": 0.3,
    "features": 0.3,
}

FINGERS = (slice(25, 40), slice(40, 55))
WRIST_JOINTS = (20, 21)
BODY = slice(0, 25)

PROJECTED = {0: 0, 1: 1, 2: 2, 3: 4, 4: 5, 5: 7, 6: 8, 7: 12, 8: 16, 9: 17, 10: 18, 11: 19, 12: 20, 13: 21}
"""Keypoint -> joint of the body model: those that need no vertex."""


@dataclass(frozen=True)
class Comparison:
    """Loss terms of predictions against labels or a teacher, on one body, for heat maps of `cells` (rows, columns)."""

    body: BodyModel
    cells: tuple[int, int]

    def with_labels(self, found: Values, targets: Values) -> Terms:
        """`found` of `Hand4Whole.predict` against `targets` of `targets.make_targets`, both batched."""
        wanted = axis_angle_to_matrix(targets["rotations"])
        turned = rotations(found)
        terms = {
            "joints": _masked(found["joints"] - targets["joints"], targets["joints_seen"]),
            "hand_joints": _masked(
                _pair(found["hand_joints"]) - targets["hand_joints"], targets["hand_joints_seen"]
            ),
            "boxes": _masked(found["centres"] - targets["centres"], targets["boxes_seen"])
            + _masked(found["sizes"] - targets["sizes"], targets["boxes_seen"]),
            "shape": _l1(found["shape"], targets["shape"]),
            "expression": _l1(found["expression"], targets["expression"]),
        }
        skeleton = self._skeleton(turned, found)
        with torch.no_grad():
            true = self._skeleton(wanted, targets)
        projected = self._project(skeleton, found["camera"])
        keys = list(PROJECTED)
        terms["pixels"] = _masked(projected - targets["pixels"][:, keys], targets["pixels_seen"][:, keys])
        return terms | _rotation_terms(turned, wanted) | _skeleton_terms(skeleton, true)

    def with_teacher(self, found: Values, teacher: Values) -> Terms:
        """`found` of a student against the teacher's `found` on the same crops."""
        turned, wanted = rotations(found), rotations(teacher)
        names = (("boxes", ("centres", "sizes")), ("joints", ("joints",)), ("hand_joints", ("hand_joints",)))
        terms = {term: sum_of(_l1(found[n], teacher[n]) for n in fields) for term, fields in names}
        terms |= {name: _l1(found[name], teacher[name]) for name in ("shape", "expression")}
        skeleton, true = self._skeleton(turned, found), self._skeleton(wanted, teacher)
        terms["pixels"] = _l1(
            self._project(skeleton, found["camera"]), self._project(true, teacher["camera"])
        ).clamp(max=float(max(self.cells)))
        terms["heatmaps"] = sum_of(_divergence(found[n], teacher[n]) for n in ("joint_logits", "hand_logits"))
        terms["features"] = sum_of(
            _relative(found[n], teacher[n]) for n in ("features", "hand_features", "face_features")
        )
        return terms | _rotation_terms(turned, wanted) | _skeleton_terms(skeleton, true)

    def _skeleton(self, turned: Tensor, found: Values) -> Tensor:
        """Joints [N, 55, 3] from the pelvis, for rotations [N, 53, 3, 3] in the network's order."""
        count = len(turned)
        mirror = turned.new_tensor([-1.0, 1.0, 1.0])
        left = turned[:, 22:37] * mirror[:, None] * mirror
        eyes = torch.eye(3, device=turned.device, dtype=turned.dtype).expand(count, 2, 3, 3)
        full = torch.cat((turned[:, :22], turned[:, 52:], eyes, left, turned[:, 37:52]), 1)
        joints = self.body.joints(full, found["shape"], found["expression"])
        return joints - joints[:, :1]

    def _project(self, skeleton: Tensor, camera: Tensor) -> Tensor:
        """Keypoints of `PROJECTED` [N, k, 2] in cells; camera [N, 3] as the network returns it."""
        points = skeleton[:, list(PROJECTED.values())] + camera[:, None]
        focal = FOCAL / CAMERA_HEIGHT * self.cells[0]
        middle = points.new_tensor((self.cells[1] / 2, self.cells[0] / 2))
        return points[:, :, :2] / points[:, :, 2:].clamp(min=CAMERA_SIZE) * focal + middle


def rotations(found: Values) -> Tensor:
    """Matrices [N, 53, 3, 3]: root, body, left hand (mirrored), right hand, jaw."""
    six = torch.cat([found[name].float() for name in ("root", "body", "hands", "jaw")], 1)
    return rotation_6d_to_matrix(six.reshape(-1, 6)).reshape(len(six), -1, 3, 3)


def _pair(hands: Tensor) -> Tensor:
    """[2N, ...], first all left ones -> [N, 2, ...]."""
    return torch.stack(torch.chunk(hands, 2, 0), 1)


def sum_of(tensors: Iterable[Tensor]) -> Tensor:
    """The sum of scalars."""
    return torch.stack(list(tensors)).sum()


def _l1(a: Tensor, b: Tensor) -> Tensor:
    return (a.float() - b.float()).abs().mean()


def _masked(difference: Tensor, seen: Tensor) -> Tensor:
    """Mean |difference| [..., d] where `seen` [...] is 1."""
    each = difference.float().abs().mean(-1)
    return (each * seen).sum() / seen.sum().clamp(min=1)


def _rotation_terms(turned: Tensor, wanted: Tensor) -> Terms:
    parts = {"root": slice(0, 1), "pose": slice(1, 22), "hands": slice(22, 52), "jaw": slice(52, 53)}
    return {name: _l1(turned[:, part], wanted[:, part]) for name, part in parts.items()}


def _skeleton_terms(skeleton: Tensor, true: Tensor) -> Terms:
    fingers = [
        _l1(skeleton[:, hand] - skeleton[:, wrist : wrist + 1], true[:, hand] - true[:, wrist : wrist + 1])
        for hand, wrist in zip(FINGERS, WRIST_JOINTS, strict=True)
    ]
    return {"skeleton": _l1(skeleton[:, BODY], true[:, BODY]), "fingers": sum_of(fingers) / 2}


def _divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of heat maps [N, J, D, H, W], a joint."""
    ours = functional.log_softmax(logits.float().flatten(2), 2)
    theirs = functional.log_softmax(teacher.float().flatten(2), 2)
    return functional.kl_div(ours, theirs, reduction="sum", log_target=True) / (ours.shape[0] * ours.shape[1])


def _relative(features: Tensor, teacher: Tensor) -> Tensor:
    teacher = teacher.float()
    return (features.float() - teacher).square().mean() / teacher.square().mean()

"""Linear blend skinning for any body in the SMPL-X layout.

    shape      s = template + shape_dirs b + expression_dirs e
    joints     J = regressor s                               at rest
    pose       p = s + pose_dirs (R_1 - I, ..., R_54 - I)    pose correctives
    skeleton   G_j = G_parent(j) [R_j | J_j - J_parent(j)]   joint j is then at G_j 0
    vertices   v = sum_j w_vj (G_j p - G_j J_j)              (the rotation of G_j turns p - J_j)

J is linear in b and e, so it is computed from a template and directions of the joints: positions of joints need no
vertices. Loper et al., SMPL (2015); Pavlakos et al., SMPL-X (2019); written from the formulas. float32, metres,
differentiable. Batches are computed at once, at about 1 MB a person; cutting them up is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bhpe_compile.errors import InputError, ToolchainError
from bhpe_compile.evaluate.body_file import SMPL_X, read_body_file
from bhpe_compile.evaluate.skeleton import (
    BODY_KEYPOINTS,
    FIRST_FINGER,
    HAND_KEYPOINTS,
    INDEX,
    JOINT_NAMES,
    KEYPOINT_NAMES,
    LANDMARKS,
    SIDES,
    joint_of,
)

__all__ = ["BODY_KEYPOINTS", "HAND_KEYPOINTS", "BodyModel", "BodyOutput", "axis_angle_to_matrix"]

SMALL = 1e-4
"""Squared angles below this use the series of sin x / x and (1 - cos x) / x²: the next terms are below 1e-10."""

_KEYPOINT_JOINTS = [joint_of(name) or 0 for name in KEYPOINT_NAMES]
_LANDMARK_ROWS = [row for row, name in enumerate(KEYPOINT_NAMES) if name in LANDMARKS]


@dataclass(frozen=True)
class BodyOutput:
    """Posed bodies: vertices [N,V,3] and joints [N,55,3], metres."""

    vertices: Tensor
    joints: Tensor


@dataclass(frozen=True, eq=False)
class BodyModel:
    """A body. Arrays are torch float32 unless said; `to` moves all of them to a device."""

    v_template: Tensor  # [V,3]
    faces: Tensor  # int64 [F,3]
    shape_dirs: Tensor  # [V,3,10]
    expression_dirs: Tensor  # [V,3,10]
    pose_dirs: Tensor | None  # [486, V*3]; None where all are zero
    joint_regressor: Tensor  # [55,V]
    weights: Tensor  # [V,55]
    joint_template: Tensor  # [55,3]
    joint_dirs: Tensor  # [55,3,20]: shape, then expression
    hands_mean: (
        Tensor  # [30,3] axis-angle; what the smplx package adds to finger poses unless flat_hand_mean is set
    )
    regions: dict[str, Tensor]  # int64 vertices of left_hand, right_hand, face
    parents: tuple[int, ...]  # the root's is -1
    source: Path
    landmarks: dict[str, int] | None  # keypoint -> vertex, as far as the file says

    joint_names = JOINT_NAMES

    @classmethod
    def load(cls, path: Path, family: str = SMPL_X) -> BodyModel:
        """Read a body in the SMPL-X npz layout: the default body, or a licensed SMPLX_*.npz as it is; or one of SMPL,
        which has 24 joints in the place of 55 and no expression (E = 0), an .npz or a licensed .pkl.

        Raises UsageError where there is no file and InputError with one line for anything else that is wrong.
        """
        file = read_body_file(path, family)
        directions = np.concatenate([file.shape_dirs, file.expression_dirs], axis=2)
        J = file.joint_regressor
        return cls(
            v_template=_float(file.template),
            faces=torch.from_numpy(file.faces),
            shape_dirs=_float(file.shape_dirs),
            expression_dirs=_float(file.expression_dirs),
            pose_dirs=None
            if file.pose_dirs is None
            else _float(file.pose_dirs.reshape(J.shape[1] * 3, -1).T),
            joint_regressor=_float(J),
            weights=_float(file.weights),
            joint_template=_float(J @ file.template),
            joint_dirs=_float(np.tensordot(J, directions, 1)),
            hands_mean=_float(file.hands_mean),
            regions=_regions(file.weights) if family == SMPL_X else {},
            parents=file.parents,
            source=path,
            landmarks=file.landmarks,
        )

    @property
    def vertex_count(self) -> int:
        """V."""
        return len(self.v_template)

    def to(self, device: torch.device | str) -> BodyModel:
        """The same body on `device`."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device)
        moved["regions"] = {name: vertices.to(device) for name, vertices in self.regions.items()}
        return replace(self, **moved)

    def __call__(
        self, rotations: Tensor, betas: Tensor, expression: Tensor, translation: Tensor | None = None
    ) -> BodyOutput:
        """Pose `rotations` [N,55,3,3], `betas` [N,10], `expression` [N,10], then move by `translation` [N,3]."""
        N, V = len(rotations), self.vertex_count
        coefficients = torch.cat([betas, expression], 1)
        rest = self._rest_joints(coefficients)
        turned, joints = self._skeleton(rotations, rest)
        directions = torch.cat([self.shape_dirs, self.expression_dirs], 2).reshape(3 * V, -1)
        posed = self.v_template.reshape(-1) + coefficients @ directions.T
        if self.pose_dirs is not None:
            bends = rotations[:, 1:] - torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            posed = posed + bends.reshape(N, -1) @ self.pose_dirs
        shift = joints - (turned @ rest[..., None])[..., 0]
        transforms = torch.cat([turned, shift[..., None]], 3).reshape(N, -1, 12)
        blended = (transforms.transpose(1, 2) @ self.weights.T).reshape(N, 3, 4, V)
        planes = posed.reshape(N, V, 3).transpose(1, 2)
        vertices = ((blended[:, :, :3] * planes[:, None]).sum(2) + blended[:, :, 3]).transpose(1, 2)
        if translation is not None:
            vertices, joints = vertices + translation[:, None], joints + translation[:, None]
        return BodyOutput(vertices.contiguous(), joints)

    def joints(self, rotations: Tensor, betas: Tensor, expression: Tensor) -> Tensor:
        """Joints [N,55,3] as `__call__` gives them, without computing vertices."""
        return self._skeleton(rotations, self._rest_joints(torch.cat([betas, expression], 1)))[1]

    def keypoints(self, output: BodyOutput) -> Tensor:
        """Hand4Whole's keypoints [N,65,3]: 25 of the body, 20 of the left, 20 of the right hand.

        Landmarks are vertices the file names. A licensed file names none: then the installed smplx package does.
        Raises ToolchainError where that is needed and missing, InputError where the mesh is another one.
        """
        vertices = self.landmarks or _smplx_landmarks(self.source, self.vertex_count)
        points = output.joints[:, _KEYPOINT_JOINTS]
        points[:, _LANDMARK_ROWS] = output.vertices[
            :, [vertices[KEYPOINT_NAMES[row]] for row in _LANDMARK_ROWS]
        ]
        return points

    def _rest_joints(self, coefficients: Tensor) -> Tensor:
        """Joints [N,55,3] of a shape in the rest pose."""
        moved = coefficients @ self.joint_dirs.reshape(-1, coefficients.shape[1]).T
        return self.joint_template + moved.reshape(-1, *self.joint_template.shape)

    def _skeleton(self, rotations: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations [N,55,3,3] and positions [N,55,3] in the root's space, one generation of joints after another."""
        generation, turned, places = [0], [rotations[:, :1]], [rest[:, :1]]
        order = [0]
        while children := [j for j, parent in enumerate(self.parents) if parent in generation]:
            parents = [self.parents[j] for j in children]
            at = [generation.index(parent) for parent in parents]
            turn = turned[-1][:, at]
            bone = (rest[:, children] - rest[:, parents])[..., None]
            places.append(places[-1][:, at] + (turn @ bone)[..., 0])
            turned.append(turn @ rotations[:, children])
            order += children
            generation = children
        back = np.argsort(order).tolist()
        return torch.cat(turned, 1)[:, back], torch.cat(places, 1)[:, back]


def axis_angle_to_matrix(vectors: Tensor) -> Tensor:
    """Rotation vectors [...,3] in radians -> matrices [...,3,3] (Rodrigues); smooth at zero, also its gradient.

    In torch, because losses of the distillation are differentiated through it.
    """
    squared = (vectors * vectors).sum(-1)
    small = squared < SMALL
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    a = torch.where(small, 1 - squared / 6 + squared**2 / 120, angle.sin() / angle)
    b = torch.where(small, 0.5 - squared / 24 + squared**2 / 720, (1 - angle.cos()) / safe)
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    K = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vectors.shape, 3)
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return identity + a[..., None, None] * K + b[..., None, None] * (K @ K)


def _float(array: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _regions(weights: NDArray[np.float64]) -> dict[str, Tensor]:
    """Vertices by the joint that moves them most: a hand is its wrist and fingers, the face is head, jaw and eyes."""
    leader = weights.argmax(1)
    owners = {"face": [INDEX[name] for name in ("head", "jaw", "left_eye", "right_eye")]}
    for side in SIDES:
        fingers = [i for i in range(FIRST_FINGER, len(JOINT_NAMES)) if JOINT_NAMES[i].startswith(side)]
        owners[f"{side}_hand"] = [INDEX[f"{side}_wrist"], *fingers]
    return {
        name: torch.from_numpy(np.flatnonzero(np.isin(leader, joints))) for name, joints in owners.items()
    }


def _smplx_landmarks(source: Path, vertex_count: int) -> dict[str, int]:
    """Landmarks of the licensed mesh, from the user's own smplx package."""
    try:
        from smplx.vertex_ids import vertex_ids
    except ImportError as error:
        raise ToolchainError(
            f"{source} names no keypoint vertices, as licensed files do not; the smplx package knows them: "
            "pip install '.[smplx]'"
        ) from error
    feet = {"Big_toe": "BigToe", "Small_toe": "SmallToe", "Heel": "Heel"}
    keys = {name: name.removesuffix("_4").replace("_", "").lower() for name in LANDMARKS}
    keys |= {f"{side}_{part}": side + key for side in "LR" for part, key in feet.items()}
    landmarks = {name: int(vertex_ids["smplx"][key]) for name, key in keys.items()}
    if max(landmarks.values()) >= vertex_count:
        raise InputError(
            f"{source} names no keypoint vertices, and {vertex_count} vertices are not the mesh of SMPL-X"
        )
    return landmarks

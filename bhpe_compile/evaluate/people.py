"""From what a network says, or what labels say, to meshes, joints and boxes that can be compared.

    pose [55, 3] = root, 21 body joints, jaw, two eyes (0), 15 left and 15 right finger joints
    mesh         = body(pose, betas, expression)             in camera space but for a translation
    joints       = regressor mesh                            of both sides, so that a mesh alone is ground truth enough

Boxes are compared as the network's crops without their margin: its own is shrunk by the margin it was given, a labelled
one grows to the crop's shape, a square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bhpe_compile.errors import InputError
from bhpe_compile.evaluate.body import BodyModel, BodyOutput, axis_angle_to_matrix
from bhpe_compile.evaluate.dataset import Labels
from bhpe_compile.evaluate.metrics import People
from bhpe_compile.evaluate.skeleton import BODY_KEYPOINTS, HAND_KEYPOINTS
from bhpe_compile.networks.interface import BodyOutputs, Interface

Outputs = Mapping[str, NDArray[Any]]
"""The network's outputs by name, each [N, ...]; boxes may be missing."""

PARTS = ("left hand", "right hand", "face")
"""What boxes are around, in the order of labels."""

EYES = 2


class Bodies:
    """Poses one body model."""

    def __init__(self, body: BodyModel) -> None:
        self.body = body
        self.regions = {name: vertices.numpy() for name, vertices in body.regions.items()}

    def predicted(self, outputs: Outputs, interface: Interface, *, relative_hands: bool = False) -> People:
        """What a network's outputs say; `interface` tells which of them pose the body.

        relative_hands: finger poses count from the body's mean hand, as in networks that were trained through the smplx
        package with its defaults. Raises InputError for values that are no numbers.
        """
        names = require_body(interface, "the network")
        for name in names.names:
            if not np.isfinite(outputs[name]).all():
                raise InputError(
                    f"the network returned {name} with values that are no numbers: its weights are broken"
                )
        count = len(outputs[names.root])
        root, body, jaw, left, right = (_tensor(outputs[name]).reshape(count, -1, 3) for name in names.pose)
        fingers = torch.cat((left, right), 1)
        if relative_hands:
            fingers = fingers + self.body.hands_mean
        pose = torch.cat((root, body, jaw, torch.zeros(count, EYES, 3), fingers), 1)
        shape, expression = _tensor(outputs[names.shape]), _tensor(outputs[names.expression])
        boxes = np.full((count, len(PARTS), 4), np.nan)
        for one in interface.outputs:
            if one.kind == "boxes" and one.part in PARTS and one.name in outputs:
                boxes[:, PARTS.index(one.part)] = scale_boxes(outputs[one.name], 1 / one.margin)
        return self._people(self._vertices(pose, shape, expression), boxes)

    def labelled(
        self, labels: Sequence[Labels], vertices: Sequence[NDArray[np.float32] | None] | None = None
    ) -> People:
        """What labels say; `vertices` [V, 3] of a person replace the mesh of the parameters where they are given.

        Raises InputError where such a mesh has another number of vertices than the body, and for labels that give
        neither a mesh nor a pose and a shape.
        """
        pose, shape, expression = (
            _tensor(np.stack([getattr(one, name) for one in labels]))
            for name in ("pose", "betas", "expression")
        )
        meshes = self._vertices(pose, shape, expression)
        for i, mesh in enumerate(vertices or ()):
            if mesh is None:
                continue
            if mesh.shape != meshes[i].shape:
                raise InputError(
                    f"the set's meshes have {len(mesh)} vertices, the body {self.body.source} has "
                    f"{self.body.vertex_count}; name the set's body with --body"
                )
            meshes[i] = _tensor(mesh)
        if not bool(torch.isfinite(meshes).all()):
            raise InputError("the set gives a person neither a mesh nor a whole pose and shape")
        return self._people(meshes, square_boxes(np.stack([one.boxes for one in labels])))

    def _vertices(self, pose: Tensor, shape: Tensor, expression: Tensor) -> Tensor:
        return self.body(axis_angle_to_matrix(pose), shape, expression).vertices

    def _people(self, vertices: Tensor, boxes: NDArray[np.floating[Any]]) -> People:
        joints = self.body.joint_regressor @ vertices
        keypoints = self.body.keypoints(BodyOutput(vertices, joints))[:, len(BODY_KEYPOINTS) :]
        hands = keypoints.reshape(len(vertices), 2, len(HAND_KEYPOINTS), 3)
        return People(vertices.numpy(), joints.numpy(), hands.numpy(), boxes)


def require_body(interface: Interface, what: str) -> BodyOutputs:
    """Which outputs pose a body; InputError where none do."""
    if interface.body is None:
        raise InputError(
            f"{what}: has no outputs that pose a whole body, so there are no millimetres to measure; an artefact's "
            "`eval --against FILE --images PICTURES` tells how far it is from the network it was made of"
        )
    return interface.body


def scale_boxes(boxes: NDArray[np.floating[Any]], factor: float) -> NDArray[np.float64]:
    """Boxes [..., 4] (x0, y0, x1, y1), both sides times `factor` about their centres."""
    first, last = np.asarray(boxes[..., :2], np.float64), np.asarray(boxes[..., 2:], np.float64)
    middle, half = (first + last) / 2, (last - first) / 2 * factor
    return np.concatenate([middle - half, middle + half], -1)


def square_boxes(boxes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Boxes [..., 4], the shorter side grown about its centre to the length of the longer."""
    first, last = np.asarray(boxes[..., :2], np.float64), np.asarray(boxes[..., 2:], np.float64)
    middle, half = (first + last) / 2, (last - first).max(-1, keepdims=True) / 2
    return np.concatenate([middle - half, middle + half], -1)


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))

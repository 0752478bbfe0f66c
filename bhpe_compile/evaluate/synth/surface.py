"""What painters know of a body's surface: normals, parts, and where clothes end."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.skeleton import INDEX as AT
from bhpe_compile.evaluate.synth.appearance import Measures


def normals(vertices: torch.Tensor, faces: torch.Tensor) -> NDArray[np.float32]:
    """[V, 3] unit normals: the sum of those of the faces around, weighted by area."""
    corners = vertices[faces]
    flat = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(0, faces[:, k], flat)
    return np.asarray(torch.nn.functional.normalize(total, dim=1).numpy())


def vertex_parts(body: BodyModel) -> NDArray[np.float32]:
    """[V, 3]: how much of a vertex is head, eye, arm."""
    weights = body.weights.numpy()

    def share(names: list[str]) -> NDArray[np.float32]:
        return np.asarray(weights[:, [AT[name] for name in names]].sum(1))

    eyes = share(["left_eye", "right_eye"])
    arms = [n for n in AT if n.endswith(("shoulder", "elbow", "wrist")) or AT[n] >= AT["left_index1"]]
    return np.stack([share(["head", "jaw"]) + eyes, eyes, share(arms)], 1).astype(np.float32)


def measure(body: BodyModel) -> Measures:
    """Where clothes end, from the joints of the template."""
    joints = (body.joint_regressor @ body.v_template).numpy()
    eyes = joints[[AT["left_eye"], AT["right_eye"]]]
    front = body.v_template[body.weights[:, AT["left_eye"]] > 0.5]
    depth = float(front[:, 2].max()) if len(front) else float(eyes[:, 2].max())

    def height(name: str) -> float:
        return float(joints[AT[name], 1])

    return Measures(
        eyes=(float(eyes[:, 1].mean()), depth, float(abs(eyes[0, 0] - eyes[1, 0]))),
        neck=height("neck"),
        waist=0.5 * (height("spine1") + height("pelvis")) + 0.02,
        hips=height("left_hip"),
        knee=height("left_knee"),
        ankle=height("left_ankle"),
        shoulder=float(abs(joints[AT["left_shoulder"], 0])),
        elbow=float(abs(joints[AT["left_elbow"], 0])),
        wrist=float(abs(joints[AT["left_wrist"], 0])),
        floor=float(body.v_template[:, 1].min()),
    )

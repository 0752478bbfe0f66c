"""Anny at rest: vertices and bone heads for given phenotypes, facial actions, and which face belongs to which part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bhpe_compile.errors import ToolchainError

ADULT = 0.7
"""Anny's age runs from 0, newborn, to 1, old."""

BATCH = 50


@dataclass(frozen=True)
class Anny:
    """The parametric body as it is loaded; see `load_anny`."""

    model: torch.nn.Module
    bones: tuple[str, ...]
    bone_parents: tuple[int, ...]  # -1 for the root
    faces: NDArray[np.int64]  # [F,3]
    bone_weights: NDArray[np.float64]  # [V,B]
    phenotypes: tuple[str, ...]
    actions: dict[str, NDArray[np.float64]]  # facial action -> [V,3] metres at full strength
    parts: dict[str, NDArray[np.bool_]]  # part of the mesh -> faces [F]
    coco: dict[str, NDArray[np.float64]]  # keypoint -> weights of the vertices [V], their sum is 1
    mirror: NDArray[np.int64]  # [V] the vertex on the other side

    def at_rest(
        self, phenotypes: Mapping[str, NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Vertices [N,V,3] and bone heads [N,B,3] of N people; every phenotype is a vector [N] of numbers 0 .. 1."""
        count = len(next(iter(phenotypes.values())))
        vertices, heads = [], []
        for start in range(0, count, BATCH):
            batch = {
                name: torch.from_numpy(value[start : start + BATCH]) for name, value in phenotypes.items()
            }
            with torch.no_grad():
                out = self.model(phenotype_kwargs=batch)
            vertices.append(_y_up(out["rest_vertices"]))
            heads.append(_y_up(out["rest_bone_heads"]))
        return np.concatenate(vertices), np.concatenate(heads)

    def average(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Vertices [V,3] and bone heads [B,3] of an adult between all extremes."""
        middle = {name: np.full(1, ADULT if name == "age" else 0.5) for name in self.phenotypes}
        vertices, heads = self.at_rest(middle)
        return vertices[0], heads[0]


def load_anny() -> Anny:
    """Load it from the installed package. Raises ToolchainError where that is missing."""
    try:
        import anny
        from anny.face_segmentation import get_face_segmentation_mask
        from anny.keypoints import KeypointsRegressor
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise ToolchainError(
            f"the default body is made from the package anny, and {error.name} is missing: "
            "pip install '.[eval]', or name a body file of your own"
        ) from error
    # skinning_method: the other ones compile a kernel that rest poses do not need
    model = anny.Anny(rig="makehuman", facial_actions="all", local_changes="none", skinning_method="lbs")
    template = _y_up(model.template_vertices)
    parts = ("eye_cavity.L", "eye_cavity.R", "mouth_cavity", "tongue")
    actions = {
        label.removeprefix("facial_action:"): _y_up(offsets)
        for label, offsets in zip(model.blendshape_labels, model.blendshapes, strict=True)
        if label.startswith("facial_action:")
    }
    weights = np.zeros((len(template), len(model.bone_labels)))
    rows = np.arange(len(template))[:, None]
    np.add.at(weights, (rows, model.vertex_bone_indices.numpy()), model.vertex_bone_weights.double().numpy())
    coco = KeypointsRegressor.coco(model)
    return Anny(
        model=model,
        bones=tuple(model.bone_labels),
        bone_parents=tuple(-1 if p is None else int(p) for p in model.bone_parents),
        faces=model.get_triangular_faces().numpy(),
        bone_weights=weights / weights.sum(1, keepdims=True),
        phenotypes=tuple(model.phenotype_labels),
        actions=actions,
        parts={name: _mask(get_face_segmentation_mask(model, [name])) for name in parts},
        coco=dict(zip(coco.labels, coco.regression_weights.double().numpy(), strict=True)),
        mirror=cKDTree(template).query(template * [-1, 1, 1])[1].astype(np.int64),
    )


def _y_up(points: torch.Tensor) -> NDArray[np.float64]:
    """Anny's z-up, facing -y -> y-up, facing +z; the left stays at +x."""
    x, y, z = points.double().unbind(-1)
    return torch.stack([x, z, -y], -1).numpy()


def _mask(mask: torch.Tensor) -> NDArray[np.bool_]:
    return mask.numpy().astype(np.bool_)

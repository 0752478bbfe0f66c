"""Cloth as a shape: it bridges hollows of the body, stands off it, hangs and folds; shoes have no toes.

Labels are of the body beneath. Nothing here moves a vertex by more than a few centimetres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.synth.appearance import Measures
from bhpe_compile.evaluate.synth.photo.grain import sample_grain
from bhpe_compile.evaluate.synth.surface import vertex_parts

Array = NDArray[np.float32]

BRIDGING = 6
"""Times that cloth is pulled towards the mean of its neighbours."""

TOES = 200
"""The same for shoes."""

SOLE = 0.007
"""Metres that a shoe stands off the foot."""

HOLLOWS = 8
"""Noise fields on the body to choose folds from."""


def smooth(low: float, high: float, value: NDArray[Any]) -> Array:
    """GLSL's smoothstep."""
    t = ((value - low) / (high - low)).clip(0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _sums(matrix: Any) -> Array:
    """Of the rows of a sparse matrix."""
    return np.asarray(matrix.sum(1), np.float32).ravel()


@dataclass(frozen=True)
class Dressed:
    """Of the clothed body: positions and unit normals [V, 3]; how much of each vertex is cloth, and how squeezed the
    surface is there (0: as on the T-pose), [V]."""

    positions: Array
    normals: Array
    cloth: Array
    squeezed: Array


class Garments:
    """Clothes for one body."""

    def __init__(self, body: BodyModel, measures: Measures) -> None:
        from scipy.sparse import coo_matrix, diags

        self._faces = body.faces.numpy()
        self._corners = np.ascontiguousarray(self._faces.T)
        self._rest = body.v_template.numpy()
        self._parts = vertex_parts(body)
        count = len(self._rest)
        a, b = np.concatenate([self._faces[:, [0, 1]], self._faces[:, [1, 2]], self._faces[:, [2, 0]]]).T
        ones = np.ones(2 * len(a), np.float32)
        links = coo_matrix((ones, (np.r_[a, b], np.r_[b, a])), (count, count)).tocsr()
        links.data[:] = 1
        self._mean = (diags(1 / np.maximum(_sums(links), 1)) @ links).tocsr().astype(np.float32)
        corners = np.arange(3 * len(self._faces)) // 3
        self._around = coo_matrix(
            (np.ones(len(corners), np.float32), (self._faces.ravel(), corners)), (count, len(self._faces))
        ).tocsr()
        self._valence = np.maximum(_sums(self._around), 1)
        self._flat = np.linalg.norm(self._crosses(self._rest), axis=1) + 1e-9
        self._feet = [
            np.flatnonzero((self._rest[:, 1] < measures.ankle + 0.06) & (side * self._rest[:, 0] > 0))
            for side in (1, -1)
        ]
        self._shoes = [self._shoe(foot, measures.ankle) for foot in self._feet]
        places = self._rest.astype(np.float64)
        self._hollows = np.stack(
            [sample_grain(places * (14.0, 9.0, 14.0) + 5.1 * k, k % 3) for k in range(HOLLOWS)]
        )

    def _shoe(self, foot: NDArray[np.int64], ankle: float) -> Array:
        """[N, N]: pulls every vertex of a foot towards its neighbours, again and again; the ankle stays."""
        same = np.eye(len(foot), dtype=np.float32)
        step = 0.4 * same + 0.6 * self._mean[foot][:, foot].toarray()
        fixed = self._rest[foot, 1] > ankle - 0.01
        step[fixed] = same[fixed]
        return np.asarray(np.linalg.matrix_power(step, TOES), np.float32)

    def _crosses(self, points: NDArray[Any]) -> Array:
        """[F, 3]: normals of the triangles, as long as twice their area."""
        a, b, c = (points[corner].T for corner in self._corners)
        (x, y, z), (u, v, w) = b - a, c - a
        return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], 1)

    def _normals(self, points: Array) -> Array:
        total = self._around @ self._crosses(points)
        return np.asarray(total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-12), np.float32)

    def dress(self, placed: Array, u: Mapping[str, Any], up: NDArray[np.float64]) -> Dressed:
        """Clothes for a body `placed` [V, 3] in camera space. `u`: the uniforms of a look; `up`: against gravity."""
        r, arm = self._rest, self._parts[:, 2]
        shirt, trousers, feet, hair = (u[name] for name in ("shirt", "trousers", "feet", "hair"))
        neck = np.where(arm >= 0.5, 1.0, shirt[2] - r[:, 1])
        shirted = np.minimum(np.minimum(r[:, 1] - shirt[0], shirt[1] - abs(r[:, 0])), neck)
        trousered = np.minimum(np.minimum(trousers[0] - r[:, 1], r[:, 1] - trousers[1]), 0.5 - arm)
        shirt_edge, trouser_edge = smooth(0, 0.04, shirted), smooth(0, 0.04, trousered)
        cloth = np.maximum(shirt_edge, trouser_edge)
        shod = smooth(0.01, -0.01, r[:, 1] - feet[0])

        points = placed.astype(np.float32)
        squeezed = np.linalg.norm(self._crosses(points), axis=1) / self._flat
        squeezed = (self._around @ squeezed) / self._valence
        squeezed = (1.0 - squeezed / np.median(squeezed)).clip(0, 0.7)
        weight = (0.6 * cloth)[:, None]
        for _ in range(BRIDGING):
            points = points + weight * (self._mean @ points - points)
        if feet[0] > r[:, 1].min():
            for at, shoe in zip(self._feet, self._shoes, strict=True):
                foot = points[at]
                points[at] = foot + shod[at, None] * (shoe @ foot - foot)

        normals = self._normals(points)
        down = (normals @ -up.astype(np.float32)).clip(0, 1)
        loose = (
            0.01 * np.maximum(u["loose"][0] * shirt_edge, u["loose"][1] * trouser_edge) * (0.75 + 0.5 * down)
        )
        first, second, phase = u["hollows"]
        field = phase * self._hollows[int(first)] + (1 - phase) * self._hollows[int(second)]
        loose = loose + u["swell"] * cloth * field * (0.4 + 1.2 * squeezed)
        q = (r - (0, u["head"][0], u["head"][1])) / u["head"][2]
        line = hair[0] + (hair[1] - hair[0]) * smooth(-1.5, -0.55, q[:, 2])
        hairy = smooth(0, 0.5, np.minimum(q[:, 1] - line, 1.6 - abs(q[:, 0])))
        loose = np.maximum(
            loose, max(hair[2], 0.0) * hairy * (1 + 0.35 * u["tousled"] * self._hollows[int(second)])
        )
        loose = np.maximum(loose, SOLE * shod)
        points = points + normals * loose[:, None].astype(np.float32)
        return Dressed(points, self._normals(points), cloth, (self._mean @ squeezed).astype(np.float32))

    def soften(self, values: Array, times: int = 2) -> Array:
        """Values at the vertices [V], each mixed with its neighbours'."""
        for _ in range(times):
            values = 0.5 * values + 0.5 * (self._mean @ values)
        return values

"""Points on a mesh, found by looking at it from the front: along -z, x to the right of the picture, y up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class SurfacePoints:
    """Points [...] on a mesh: the face each lies in, and weights [...,3] of its corners, which sum to 1."""

    faces: Indices
    weights: Floats


@dataclass(frozen=True)
class Surface:
    """Vertices [V,3], all faces [F,3], and which of them are looked at [n]."""

    vertices: Floats
    faces: Indices
    seen: Indices

    def places(self, points: SurfacePoints) -> Floats:
        """Where they are [...,3]."""
        corners = self.vertices[self.faces[points.faces]]
        return np.asarray((corners * points.weights[..., None]).sum(-2))

    def at_vertices(self, vertices: Indices) -> SurfacePoints:
        """Vertices [n] as points of any face they are a corner of."""
        hits = self.faces[None] == vertices[:, None, None]
        faces = hits.any(2).argmax(1)
        return SurfacePoints(faces, hits[np.arange(len(vertices)), faces].astype(np.float64))

    def from_front(self, xy: Floats) -> SurfacePoints:
        """The foremost point at each x, y [n,2]. Raises ValueError where there is none."""
        corners = self.vertices[self.faces[self.seen]]
        a, b, c = (corners[None, :, k, :2] - xy[:, None] for k in range(3))
        weights = np.stack([_cross(b, c), _cross(c, a), _cross(a, b)], 2)
        area = weights.sum(2)
        front = (weights >= 0).all(2) & (area > 0)
        weights /= np.where(area > 0, area, 1.0)[..., None]
        depth = np.where(front, (weights * corners[None, :, :, 2]).sum(2), -np.inf)
        best = depth.argmax(1)
        if not front[np.arange(len(xy)), best].all():
            raise ValueError("the mesh does not cover every point")
        return SurfacePoints(self.seen[best], weights[np.arange(len(xy)), best])

    def depth(self, x: float, y: Floats) -> Floats:
        """z of the foremost points in the column `x`, at heights `y` [n]."""
        return self.places(self.from_front(np.stack([np.full_like(y, x), y], 1)))[:, 2]

    def silhouette(self, centre: Floats, angles: Floats) -> SurfacePoints:
        """The outermost points around `centre` [2] in directions `angles` [n], radians from +x towards +y.

        They lie on edges: the border of what is seen, or where it turns away.
        """
        corners = self.vertices[self.faces[self.seen]][:, :, :2] - centre
        start, end = corners, np.roll(corners, -1, axis=1)
        along = np.stack([np.cos(angles), np.sin(angles)], 1)[:, None, None]
        side_start, side_end = _cross(along, start[None]), _cross(along, end[None])
        crossing = (side_start > 0) != (side_end > 0)
        share = side_start / np.where(crossing, side_start - side_end, 1.0)
        reach = (((1 - share)[..., None] * start[None] + share[..., None] * end[None]) * along).sum(-1)
        reach = np.where(crossing & (reach > 0), reach, -np.inf).reshape(len(angles), -1)
        face, edge = np.divmod(reach.argmax(1), 3)
        n = np.arange(len(angles))
        weights = np.zeros((len(angles), 3))
        weights[n, edge] = 1 - share[n, face, edge]
        weights[n, (edge + 1) % 3] = share[n, face, edge]
        return SurfacePoints(self.seen[face], weights)


def join(*parts: SurfacePoints) -> SurfacePoints:
    """One after another along the first axis."""
    return SurfacePoints(
        np.concatenate([part.faces for part in parts]), np.concatenate([part.weights for part in parts])
    )


def _cross(a: Floats, b: Floats) -> Floats:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])

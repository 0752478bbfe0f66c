"""The outline of the face, 17 points, for every degree the head may be turned by.

What is seen of a face's outline depends on the view. The layout stores it for 79 views: row k, 0 <= k <= 39, for a
head that is turned by k degrees to its right, row 39 + k by k degrees to its left. Here it is the silhouette of the
mean head, turned and seen from the front, without its ears and the underside of its chin: points in directions 15
degrees apart, from beside the right eye over the chin to the left eye.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bhpe_compile.evaluate.anny_body.face import head_surface
from bhpe_compile.evaluate.anny_body.source import Anny
from bhpe_compile.evaluate.anny_body.surface import Floats, SurfacePoints

COUNT = 17
FARTHEST = 39
"""Degrees to either side."""

_DIRECTIONS = np.deg2rad(np.linspace(150, 390, COUNT))
_BEFORE_EAR = 0.015
"""Metres in front of the ear's keypoint where the face begins."""

_UNDERSIDE = 0.55
"""Faces whose normals point down by more than this (1 is straight down) are under the chin, not on its outline."""


def face_contour(anny: Anny, weights: Floats, mean: Floats, ear: int, nose: int) -> SurfacePoints:
    """Points [79,17], from the mean body [V,3] and the vertices of an ear and the nose."""
    surface = head_surface(anny, weights, mean, in_front_of=mean[ear, 2] + _BEFORE_EAR)
    corners = mean[surface.faces[surface.seen]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    below = normals[:, 1] < -_UNDERSIDE * np.linalg.norm(normals, axis=1)
    surface = replace(surface, seen=surface.seen[~below])
    centre = np.array([0.0, mean[nose, 1], (mean[ear, 2] + mean[nose, 2]) / 2])
    rows = []
    for degrees in (*range(0, -FARTHEST - 1, -1), *range(1, FARTHEST + 1)):
        angle = np.deg2rad(degrees)  # about y: turns +z, where the face looks, towards +x, the person's left
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        turned = replace(surface, vertices=(mean - centre) @ turn.T)
        rows.append(turned.silhouette(np.zeros(2), _DIRECTIONS))
    return SurfacePoints(np.stack([row.faces for row in rows]), np.stack([row.weights for row in rows]))

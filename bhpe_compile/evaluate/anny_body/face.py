"""Face landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.anny_body.source import Anny


@dataclass(frozen=True)
class SurfacePoints:
    """Points on the mesh: a face [...] and barycentric weights [...,3] each."""

    faces: NDArray[np.int64]
    weights: NDArray[np.float64]


def landmarks(anny: Anny, weights: NDArray[np.float64], mean: NDArray[np.float64]) -> SurfacePoints:
    return SurfacePoints(np.zeros(51, np.int64), np.full((51, 3), 1 / 3))


def contour(anny: Anny, weights: NDArray[np.float64], mean: NDArray[np.float64]) -> SurfacePoints:
    return SurfacePoints(np.zeros((79, 17), np.int64), np.full((79, 17, 3), 1 / 3))

"""Where the camera is: a true perspective camera whose picture is the person's crop, as a network's input is.

    x = focal X / Z + principal x      the same for y; Z forward, pixels of the picture

Hand4Whole's crop is the person's box enlarged 1.25 times; here the enlargement and the place vary, as boxes of
detectors do, and some crops end at the knees or the hips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.frame import ENLARGE, HEIGHT, WIDTH

FOCAL = (1.2, 2.5)
"""Focal lengths in heights of the picture."""

JITTER = 0.05
"""Standard deviation of the centre in widths of the picture."""

CLOSEST = 0.3
"""Metres before the camera that are left free."""


@dataclass(frozen=True)
class View:
    """A camera and where the body stands before it."""

    focal: float
    principal: NDArray[np.float64]
    translation: NDArray[np.float64]

    def project(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """[..., 2] pixels of [..., 3] metres in camera space (translated already)."""
        return np.asarray(self.focal * points[..., :2] / points[..., 2:] + self.principal)


def sample_view(rng: np.random.Generator, vertices: NDArray[Any], upper: NDArray[Any]) -> View:
    """Place the body `vertices` [V, 3] (camera directions, not translated yet) so that it fills the picture.

    `upper` are the vertices above the hips, which a cut picture is centred on.
    """
    focal = HEIGHT * float(np.exp(rng.uniform(*np.log(FOCAL))))
    middle = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    principal = middle + rng.normal(0, 12, 2)
    cut = rng.random() < 0.1
    enlarge = ENLARGE * float(rng.uniform(0.86, 1.12))
    shown = upper if cut else vertices
    if cut:
        enlarge *= float(rng.uniform(0.95, 1.4))
    target = middle + rng.normal(0, JITTER * WIDTH, 2)

    centre = (vertices.min(0) + vertices.max(0)) / 2
    size = np.ptp(shown[:, :2], axis=0)
    translation = -centre
    translation[2] += focal * enlarge * max(size[0] / WIDTH, size[1] / HEIGHT)
    for _ in range(4):
        translation[2] = max(translation[2], CLOSEST - vertices[:, 2].min())
        points = shown + translation
        pixels = focal * points[:, :2] / points[:, 2:] + principal
        low, high = pixels.min(0), pixels.max(0)
        depth = translation[2] + centre[2]
        ratio = enlarge * max((high[0] - low[0]) / WIDTH, (high[1] - low[1]) / HEIGHT)
        translation[:2] += (target - (low + high) / 2) * depth / focal
        translation[2] += depth * (ratio - 1)
    translation[2] = max(translation[2], CLOSEST - vertices[:, 2].min())
    return View(focal, principal, translation)

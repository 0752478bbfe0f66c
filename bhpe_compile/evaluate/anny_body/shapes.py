"""Shape: random adults, T-posed and centred at the pelvis -> a mean and ten principal directions.

A coefficient of 1 is one standard deviation. A direction has no sign of its own: here positive makes a body larger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.anny_body.rig import Rig
from bhpe_compile.evaluate.anny_body.source import Anny
from bhpe_compile.evaluate.anny_body.tpose import TPose
from bhpe_compile.evaluate.body_file import COEFFICIENTS

PEOPLE = 400
_SPREAD = (0.05, 0.95)
_AGES = (0.55, 0.95)
_HEIGHT = (0.375, 0.08)
"""Mean and deviation of Anny's height, whose whole range is 1.3 to 2.4 m: people of 1.68 m, with 0.11 m deviation."""


@dataclass(frozen=True)
class People:
    """Bodies in the T-pose, pelvis at the origin: vertices [N,V,3], joints [N,55,3]."""

    vertices: NDArray[np.float64]
    joints: NDArray[np.float64]


def sample_people(anny: Anny, rig: Rig, tpose: TPose, count: int, rng: np.random.Generator) -> People:
    """Random adults: phenotypes evenly spread, gender towards its ends, height and proportions normal."""
    phenotypes = {name: rng.uniform(*_SPREAD, count) for name in anny.phenotypes}
    phenotypes["age"] = rng.uniform(*_AGES, count)
    phenotypes["gender"] = rng.beta(0.4, 0.4, count)
    phenotypes["height"] = rng.normal(*_HEIGHT, count).clip(*_SPREAD)
    phenotypes["proportions"] = rng.normal(0.5, 0.1, count).clip(0, 1)
    vertices, heads = anny.at_rest(phenotypes)
    vertices, joints = tpose(vertices, rig.joints(heads, vertices))
    pelvis = joints[:, :1].copy()
    return People(vertices - pelvis, joints - pelvis)


def principal_directions(
    offsets: NDArray[np.float64], positive: NDArray[np.float64], count: int = COEFFICIENTS
) -> NDArray[np.float64]:
    """Offsets [N,V,3] from the origin -> [V,3,count], scaled so that coefficients have variance 1.

    Signs are chosen so that no direction points away from `positive` [V,3].
    """
    N, V, _ = offsets.shape
    flat = offsets.reshape(N, -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)  # N x N is far smaller than 3V x 3V
    largest = np.argsort(values)[::-1][:count]
    directions = vectors[:, largest].T @ flat / np.sqrt(N)
    signs = np.where(directions @ positive.reshape(-1) < 0, -1.0, 1.0)
    return np.moveaxis((directions * signs[:, None]).reshape(-1, V, 3), 0, 2)

"""Who the people are: shape coefficients, disjoint between the splits.

The space of the first three coefficients is divided into cells of width CELL like a three-dimensional chessboard:
white cells belong to training, black ones to testing. So both splits have the same distribution and no person in
common, whatever the seeds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.synth.streams import SPLITS, Split

CELL = 0.5
LIMIT = 2.5
SPREAD = 0.9


def split_of(betas: NDArray[np.float32]) -> Split:
    """The split that a person of shape `betas` [10] belongs to."""
    return SPLITS[int(np.floor(betas[:3] / CELL).sum()) % 2]


def sample_betas(rng: np.random.Generator, split: Split) -> NDArray[np.float32]:
    """float32 [10], standard deviations of the body's shape space, within +-LIMIT."""
    while True:
        betas = rng.normal(0, SPREAD, 10).clip(-LIMIT, LIMIT).astype(np.float32)
        if split_of(betas) == split:
            return betas


def sample_expression(rng: np.random.Generator) -> NDArray[np.float32]:
    """float32 [10]: a third of the people is nearly neutral."""
    strength = rng.choice([0.2, 0.8, 1.2], p=[0.35, 0.4, 0.25])
    return np.asarray((strength * rng.normal(0, 0.8, 10)).clip(-2, 2).astype(np.float32))

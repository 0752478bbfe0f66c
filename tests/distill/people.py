"""Made-up people for training: noise as pictures, random but consistent labels; no renderer, no body package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.dataset import Labels
from tests.evaluate.bodies import keypoint_field, random_fields, write

HEIGHT, WIDTH = 512, 384


class People:
    """`count` people; person i is the same in every process."""

    name = "made up"

    def __init__(self, count: int = 12) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @property
    def body(self) -> Path | None:
        return None

    def image(self, index: int) -> NDArray[np.uint8]:
        coarse = np.random.default_rng(index).integers(0, 256, (16, 12, 3)).astype(np.uint8)
        return coarse.repeat(HEIGHT // 16, 0).repeat(WIDTH // 12, 1)

    def labels(self, index: int) -> Labels:
        rng = np.random.default_rng((7, index))
        keypoints = np.concatenate(
            (rng.uniform((30, 30), (WIDTH - 30, HEIGHT - 30), (65, 2)), rng.normal(0, 0.2, (65, 1))), 1
        )
        low = rng.uniform(20, 250, (3, 2))
        return Labels(
            pose=rng.normal(0, 0.3, (55, 3)).astype(np.float32),
            betas=rng.normal(0, 1, 10).astype(np.float32),
            expression=rng.normal(0, 1, 10).astype(np.float32),
            translation=np.array([0, 0, 4], np.float32),
            focal=np.array([800, 800], np.float32),
            principal=np.array([192, 256], np.float32),
            keypoints=keypoints.astype(np.float32),
            visible=rng.random(65) < 0.9,
            boxes=np.concatenate((low, low + rng.uniform(20, 60, (3, 2))), 1).astype(np.float32),
        )

    def vertices(self, index: int) -> None:
        return None


def random_body(folder: Path) -> BodyModel:
    """A body of 90 vertices, every array random."""
    fields = random_fields() | {"keypoint_vertices": keypoint_field()}
    return BodyModel.load(write(folder / "SMPLX_RANDOM.npz", fields))

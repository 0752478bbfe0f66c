"""What a painter gets of a person, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bhpe_compile.evaluate.synth.camera import View


@dataclass(frozen=True)
class Scene:
    """A posed person before a camera.

    `stream` gives the random numbers of an aspect. `vertices` [V, 3] of the posed body, `placed` the same in camera
    space, `rotations` [55, 3, 3], `joints` [55, 3] in camera space, `keypoints` [65, 3]. `frame`: of a film, whose
    background and camera stand still.
    """

    stream: Callable[[str], np.random.Generator]
    vertices: torch.Tensor
    placed: NDArray[np.float32]
    rotations: NDArray[np.float32]
    joints: NDArray[Any]
    betas: NDArray[np.float32]
    view: View
    keypoints: NDArray[np.float32]
    frame: int | None = None


class Painter(Protocol):
    """Makes pictures of people."""

    def paint(self, scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The picture, uint8 [512, 384, 3], and which keypoints a thing in front hides, bool [65]."""

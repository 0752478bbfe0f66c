"""What a painter gets of a person, and the painters by version of the generator.

2   `drawn`: flat light, clothes painted on the skin, backgrounds from formulas
3   `photo`: light and shadows, cloth, hair, lens and sensor of a camera, photographs behind the people
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.synth.camera import View
from bhpe_compile.evaluate.synth.streams import Split


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


def open_painter(version: int, body: BodyModel, split: Split, backgrounds: Sequence[Path] = ()) -> Painter:
    """The painter of a version. Raises ToolchainError where there is no OpenGL."""
    if version == 2:
        from bhpe_compile.evaluate.synth.drawn import DrawnPainter

        return DrawnPainter(body, split)
    from bhpe_compile.evaluate.synth.photo.painter import PhotoPainter

    return PhotoPainter(body, split, backgrounds)

"""The ground: where it lies, and the shadows on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bhpe_compile.evaluate.frame import HEIGHT, WIDTH
from bhpe_compile.evaluate.synth.photo.light import GAMMA, Light

SHARE = 0.75
"""Of the people cast a shadow on the ground."""

STEEPEST = 0.6
"""Radians that the ground's normal leans from the picture's; beyond that it is the person who leans."""

Vector = NDArray[np.float64]


def upright(root: NDArray[np.floating]) -> Vector:
    """The ground's normal in camera space for a body whose root turns by `root` [3, 3]."""
    up = root[:, 1].astype(np.float64)
    up /= np.linalg.norm(up)
    return up if -up[1] > np.cos(STEEPEST) else np.array([0.0, -1.0, 0.0])


def foot_of(points: NDArray[np.float32], up: Vector) -> Vector:
    """[3]: the lowest of the points [V, 3]."""
    return np.asarray(points[int((points @ up.astype(np.float32)).argmin())], np.float64)


def shaded(
    rng: np.random.Generator, background: NDArray[np.uint8], shadows: NDArray[np.uint8], light: Light
) -> NDArray[np.uint8]:
    """A background with the renderer's shadows, [256, 192, 2], on it; as it was for some."""
    strength, close = light.hardness * rng.uniform(0.6, 0.95), rng.uniform(0.35, 0.8)
    reach, wide = float(rng.uniform(0.5, 3.0)), float(rng.uniform(1.5, 5.0))
    if rng.random() >= SHARE:
        return background
    cast, near = (Image.fromarray(np.ascontiguousarray(shadows[..., k])) for k in range(2))
    cast, near = cast.filter(ImageFilter.BoxBlur(reach)), near.filter(ImageFilter.BoxBlur(wide))
    keep = (1 - strength * np.asarray(cast, np.float32) / 255) * (
        1 - close * np.asarray(near, np.float32) / 255
    )
    keep **= 1 / GAMMA
    mask = Image.fromarray((255 * keep).astype(np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    product = background.astype(np.uint16) * np.asarray(mask)[..., None]
    return np.asarray((product + 127) // 255, np.uint8)

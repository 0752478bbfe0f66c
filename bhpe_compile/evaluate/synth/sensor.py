"""What a camera does to a picture: blur, exposure, colour cast, noise, JPEG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

QUALITY = 92

Random = np.random.Generator


def expose(rng: Random, rgb: NDArray[np.uint8], noise: Random | None = None) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] of the same size, blurred, toned and noisy. `noise`: where the noise comes from, in the frames of
    one camera, whose `rng` is the same."""
    image = Image.fromarray(rgb)
    kind = rng.random()
    if kind < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.0))))
    elif kind < 0.32:  # motion along one axis
        reach = float(rng.uniform(0.8, 2.5))
        image = image.filter(ImageFilter.BoxBlur((reach, 0) if rng.random() < 0.6 else (0, reach)))
    contrast, brightness, gamma = rng.normal(1, 0.11), rng.normal(4, 10), np.exp(rng.normal(0, 0.1))
    cast = rng.normal(1, 0.04, 3)
    ramp = 255 * (np.arange(256) / 255) ** gamma
    table = [((ramp * c - 127) * contrast + 127 + brightness).clip(0, 255).astype(np.uint8) for c in cast]
    image = image.point([int(v) for channel in table for v in channel])
    pixels = np.asarray(image)
    strength = int(rng.choice([0, 1, 2, 3, 4, 6], p=[0.15, 0.3, 0.25, 0.15, 0.1, 0.05]))
    if strength == 0:
        return pixels
    raw = np.frombuffer((noise or rng).bytes(pixels.size), np.uint8).reshape(pixels.shape)
    added = _NOISE[strength][raw]  # a byte, looked up: a quarter of the price of normal numbers
    return np.asarray((pixels.astype(np.int16) + added).clip(0, 255).astype(np.uint8))


def _quantiles(deviation: float) -> NDArray[np.int16]:
    """256 equally likely values of a normal distribution, as integers."""
    from statistics import NormalDist

    normal = NormalDist(0, deviation)
    return np.array([round(normal.inv_cdf((i + 0.5) / 256)) for i in range(256)], np.int16)


_NOISE = {strength: _quantiles(1.3 * strength) for strength in (1, 2, 3, 4, 6)}


def jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """The file's bytes: quality 92, colours at full resolution."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()

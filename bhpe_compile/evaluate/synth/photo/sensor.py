"""What a sensor and its program do: noise that grows with the light, softening, tones, sharpening, resolution, JPEG."""

from __future__ import annotations

import io
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Random = np.random.Generator
Pixels = NDArray[np.uint8]

QUALITY = (30, 95)

LEVELS = 16
"""Levels of brightness that differ in noise."""


def expose(rng: Random, rgb: Pixels, noise: Random) -> Pixels:
    """The picture as a file shows it. `noise`: where the noise comes from; all else is from `rng`."""
    picture = _coarse(rng, Image.fromarray(_noisy(rng, rgb, noise)))
    picture = picture.point(_tones(rng))
    sharpness, radius = int(rng.uniform(20, 160)), float(rng.uniform(0.6, 1.6))
    if rng.random() < 0.6:
        picture = picture.filter(ImageFilter.UnsharpMask(radius, sharpness, 2))
    quality, chroma = int(rng.integers(QUALITY[0], QUALITY[1] + 1)), 2 if rng.random() < 0.7 else 0
    if rng.random() < 0.85:
        picture = _squeezed(picture, quality, chroma)
    return np.asarray(picture)


def _noisy(rng: Random, rgb: Pixels, noise: Random) -> Pixels:
    """Shot and read noise, then the softening of the colours' interpolation, which makes it grainy."""
    shot, read = float(np.exp(rng.uniform(np.log(0.15), np.log(1.6)))), float(rng.uniform(0.2, 2.5))
    soft, blotchy = float(rng.uniform(0.3, 0.8)), float(rng.uniform(0.5, 1.5))
    if rng.random() < 0.85:
        raw = np.frombuffer(noise.bytes(rgb.size), np.uint8).reshape(rgb.shape)
        rgb = (rgb + _noise_table(shot, read)[rgb // (256 // LEVELS), raw]).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        return rgb
    light, blue, red = Image.fromarray(rgb).convert("YCbCr").split()
    light = light.filter(ImageFilter.BoxBlur(soft))
    blue, red = (band.filter(ImageFilter.BoxBlur(blotchy)) for band in (blue, red))
    return np.asarray(Image.merge("YCbCr", (light, blue, red)).convert("RGB"))


def _noise_table(shot: float, read: float) -> NDArray[np.int16]:
    """[LEVELS, 256]: equally likely values at every level; the deviation is sqrt(shot² level + read²)."""
    level = np.linspace(0, 16, LEVELS)[:, None]
    return np.asarray(np.rint(np.sqrt(shot * shot * level + read * read) * _quantiles()), np.int16)


@cache
def _quantiles() -> NDArray[np.float64]:
    return np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])


def _coarse(rng: Random, picture: Image.Image) -> Image.Image:
    """A quarter: the person was small in the photograph, and enlarged."""
    factor = float(np.exp(rng.uniform(np.log(1.2), np.log(4.0))))
    if rng.random() >= 0.25:
        return picture
    small = picture.resize([round(side / factor) for side in picture.size], Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def _tones(rng: Random) -> list[int]:
    """Tables for three colours: white balance, exposure, a curve with a foot and a shoulder."""
    exposure, balance = np.exp(rng.normal(0, 0.12)), np.exp(rng.normal(0, 0.05, 3) * (1, 0.3, 1))
    curve, black = float(rng.normal(0.25, 0.3)), float(rng.uniform(-6, 14))
    ramp = np.arange(256) / 255
    values = []
    for gain in exposure * balance:
        x = (ramp * gain).clip(0, 1)
        x = x + curve * (x * x * (3 - 2 * x) - x)
        values += (black + (255 - black) * x).clip(0, 255).round().astype(int).tolist()
    return [int(v) for v in values]


def _squeezed(picture: Image.Image, quality: int, chroma: int) -> Image.Image:
    """Through a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=chroma)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")

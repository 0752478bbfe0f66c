"""What a lens does: depth of field, movement while the shutter is open, colours apart at the edges, dark corners.

Every kernel is symmetric, so labels are those of the middle of the exposure, and nothing is shifted.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bhpe_compile.evaluate.frame import HEIGHT, WIDTH

Random = np.random.Generator
Pixels = NDArray[np.uint8]

APART = 0.0025
"""How much larger or smaller one colour is drawn than another at most: half a pixel at the edge."""


def depth_of_field(rng: Random, background: Pixels) -> Pixels:
    """Two thirds: the background out of focus, a disc of up to 8 pixels a point."""
    radius = float(np.exp(rng.uniform(np.log(0.8), np.log(8.0))))
    return disc(background, radius) if rng.random() < 0.65 else background


def disc(image: Pixels, radius: float) -> Pixels:
    """The mean of light (not of values) over a disc around every pixel; at half the size for large ones."""
    half = radius > 3
    small = Image.fromarray(image)
    if half:
        small = small.resize((image.shape[1] // 2, image.shape[0] // 2), Image.Resampling.BOX)
    reach = radius / 2 if half else radius
    whole = int(reach + 0.5)
    light = np.asarray(small).astype(np.int64) ** 2
    padded = np.pad(light, ((whole, whole), (whole + 1, whole), (0, 0)), "edge").cumsum(1)
    height, width = light.shape[:2]
    total, count = np.zeros_like(light), 0
    for dy in range(-whole, whole + 1):
        across = int(max(reach * reach - dy * dy, 0) ** 0.5 + 0.5)
        rows = padded[whole + dy : whole + dy + height]
        total += rows[:, whole + across + 1 : whole + across + 1 + width]
        total -= rows[:, whole - across : whole - across + width]
        count += 2 * across + 1
    mean = Image.fromarray(np.sqrt(total / count).astype(np.uint8))
    return np.asarray(mean.resize(image.shape[1::-1], Image.Resampling.BILINEAR))


def movement(rng: Random, image: Image.Image, share: float) -> Image.Image:
    """In `share` of the pictures: drawn out along a line of up to five pixels."""
    turn, length = float(rng.uniform(0, np.pi)), float(rng.uniform(1.2, 5.0))
    if rng.random() >= share:
        return image
    kernel = np.zeros((5, 5))
    for step in np.linspace(-0.5, 0.5, 21) * (length - 1):
        x, y = 2 + step * np.cos(turn), 2 + step * np.sin(turn)
        i, j = min(int(y), 3), min(int(x), 3)
        kernel[i : i + 2, j : j + 2] += np.outer((1 - (y - i), y - i), (1 - (x - j), x - j))
    line = ImageFilter.Kernel((5, 5), [float(v) for v in kernel.ravel() / kernel.sum()], scale=1)
    return Image.merge(image.mode, [band.filter(line) for band in image.split()])


def apart(rng: Random, image: Image.Image) -> Image.Image:
    """Half of the pictures: red and blue are a little larger or smaller than green."""
    scales = 1 + rng.uniform(-APART, APART, 2)
    if rng.random() >= 0.5:
        return image
    red, green, blue = image.split()
    moved = []
    for band, scale in zip((red, blue), scales, strict=True):
        matrix = (scale, 0.0, (1 - scale) * WIDTH / 2, 0.0, scale, (1 - scale) * HEIGHT / 2)
        moved.append(band.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))
    return Image.merge("RGB", (moved[0], green, moved[1]))


def vignette(rng: Random, image: Pixels) -> Pixels:
    """Half of the pictures: darker towards the corners."""
    strength = float(rng.uniform(0.05, 0.4))
    if rng.random() >= 0.5:
        return image
    gain = (256 * (1 - strength * _squared())).astype(np.uint16)
    return ((image * gain[..., None]) >> 8).astype(np.uint8)


@cache
def _squared() -> NDArray[np.float64]:
    """[512, 384]: squared distance from the middle, 1 in the corners."""
    y, x = np.linspace(-1, 1, HEIGHT), np.linspace(-1, 1, WIDTH)
    return np.asarray((y[:, None] ** 2 * HEIGHT**2 + x**2 * WIDTH**2) / (HEIGHT**2 + WIDTH**2))

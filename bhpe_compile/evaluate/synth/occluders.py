"""Things in front of the people: boxes, poles, arms of others. Which pixels they cover decides what is visible."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bhpe_compile.evaluate.frame import HEIGHT, WIDTH

Random = np.random.Generator

SHARE = 0.2
"""Of the people that have something before them."""


def sample_occluder(rng: Random, keypoints: NDArray[np.float64]) -> Image.Image | None:
    """An RGBA layer of 384x512, or None. `keypoints` [65, 2] pixels: one of them is near the thing's middle."""
    if rng.random() >= SHARE:
        return None
    layer = Image.new("RGBA", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(layer)
    x, y = keypoints[rng.integers(len(keypoints))] + rng.normal(0, 25, 2)
    r, g, b = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.8), rng.uniform(0.1, 0.95))
    colour = int(255 * r), int(255 * g), int(255 * b), 255
    kind = rng.choice(3, p=[0.45, 0.15, 0.4])
    if kind == 0:  # a box or a board
        w, h = rng.uniform(25, 110), rng.uniform(25, 130)
        turn = rng.uniform(-0.6, 0.6)
        c, s = np.cos(turn), np.sin(turn)
        corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ np.array([[c, s], [-s, c]]) + (x, y)
        draw.polygon([tuple(p) for p in corners], fill=colour)
        for t in rng.uniform(0, 1, int(rng.integers(0, 4))):
            a, b_ = corners[0] + t * (corners[1] - corners[0]), corners[3] + t * (corners[2] - corners[3])
            draw.line([tuple(a), tuple(b_)], fill=(*(int(0.7 * v) for v in colour[:3]), 255), width=3)
    elif kind == 1:  # a table, a wall: all below
        edge = max(y, 0.66 * HEIGHT)
        draw.polygon(
            [(0, edge + rng.normal(0, 12)), (WIDTH, edge + rng.normal(0, 12)), (WIDTH, HEIGHT), (0, HEIGHT)],
            fill=colour,
        )
    else:  # an arm, a pole
        turn, length, width = rng.uniform(0, np.pi), rng.uniform(120, 500), rng.uniform(10, 34)
        step = np.array([np.cos(turn), np.sin(turn)]) * length
        for k, shade in enumerate((0.7, 1.0, 1.15)):
            part = width * (1 - 0.3 * k)
            tone = (*(min(255, int(v * shade)) for v in colour[:3]), 255)
            draw.line([(x, y), (x + step[0], y + step[1])], fill=tone, width=int(part))
            draw.ellipse((x - part / 2, y - part / 2, x + part / 2, y + part / 2), fill=tone)
    return layer


def put_in_front(
    rng: Random, image: NDArray[np.uint8], keypoints: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture [512, 384, 3] with a thing in front, or as it was; and which keypoints [65, 3] it hides, [65]."""
    layer = sample_occluder(rng, keypoints[:, :2].astype(np.float64))
    if layer is None:
        return image, np.zeros(len(keypoints), bool)
    front = Image.fromarray(image)
    front.paste(layer, mask=layer)
    mask = np.asarray(layer)[..., 3] > 0
    x = keypoints[:, 0].round().clip(0, WIDTH - 1).astype(int)
    y = keypoints[:, 1].round().clip(0, HEIGHT - 1).astype(int)
    return np.asarray(front), mask[y, x]

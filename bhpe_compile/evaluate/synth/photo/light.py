"""Light like that of the background: a sun or lamp, the sky, what the ground throws back. Linear, white = 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAMMA = 2.0
"""Values of a picture are square roots of light: near enough, and cheap."""

OVERCAST = 0.35
"""Of the pictures have next to no sun."""

REFLECTED = 0.22
"""What the things of a background throw back of the light, about: so bright is the light where they are."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """In camera space (y down): `up` from the ground; `sun` the direction to it, its colour; colours of sky and ground;
    a weak second lamp. `soft`: reach of half shadows, in texels of the shadow map."""

    up: Vector
    sun: Vector
    sun_colour: Vector
    sky: Vector
    ground: Vector
    fill: Vector
    fill_colour: Vector
    soft: float

    def uniforms(self) -> dict[str, Any]:
        """For the shaders."""
        values = {name: tuple(getattr(self, name)) for name in ("up", "sun", "sky", "ground", "fill")}
        return {
            **values,
            "sun_colour": tuple(self.sun_colour),
            "fill_colour": tuple(self.fill_colour),
            "soft": self.soft,
        }

    @property
    def hardness(self) -> float:
        """0 .. 1: how much of the light on the ground is the sun's."""
        sun = float(self.sun_colour.mean()) * max(0.0, float(self.sun @ self.up))
        return sun / (sun + float(self.sky.mean()))


def sample_light(rng: np.random.Generator, up: Vector, background: NDArray[np.uint8], tint: float) -> Light:
    """Light for a background, uint8 [H, W, 3]. `tint`: how much of its colour the light takes, 0 .. 1."""
    rows = (background[::8, ::8].astype(np.float64) / 255) ** GAMMA
    third = len(rows) // 3
    above, below = rows[:third].mean((0, 1)), rows[-third:].mean((0, 1))
    level = float(np.exp(0.6 * np.log((rows.mean() + 0.02) / REFLECTED) + rng.normal(0, 0.2)))
    level = min(max(level, 0.55), 1.5)

    def coloured(colour: Vector) -> Vector:
        hue = (colour + 0.02) / (colour.mean() + 0.02)
        return np.asarray(1 + tint * (hue.clip(0.4, 1.8) - 1))

    overcast = rng.random() < OVERCAST
    share = float(rng.uniform(0.0, 0.15) if overcast else rng.uniform(0.35, 0.8))
    warm = 1 + rng.normal(0.06, 0.07) * np.array([1.0, 0.1, -1.0])
    rise = float(rng.uniform(0.3, 1.35))
    azimuth = float(rng.normal(0, 1.0) if rng.random() < 0.85 else rng.uniform(-np.pi, np.pi))
    forward = np.array([0.0, 0.0, -1.0])
    forward -= (forward @ up) * up
    forward /= np.linalg.norm(forward)
    side = np.cross(up, forward)
    sun = np.cos(rise) * (np.cos(azimuth) * forward + np.sin(azimuth) * side) + np.sin(rise) * up
    fill = rng.normal(0, 1, 3) - (0, 0, 0.8)
    bounce = float(rng.uniform(0.25, 0.7))
    return Light(
        up=up,
        sun=sun,
        sun_colour=np.asarray(1.7 * level * share * warm * coloured(0.5 * (above + rows.mean((0, 1))))),
        sky=np.asarray(level * (1.05 - 0.75 * share) * coloured(above)),
        ground=np.asarray(level * bounce * (1.05 - 0.6 * share) * coloured(below)),
        fill=np.asarray(fill / np.linalg.norm(fill)),
        fill_colour=np.asarray(
            level * rng.uniform(0, 0.25) * np.ones(3) if rng.random() < 0.6 else np.zeros(3)
        ),
        soft=float(rng.uniform(0.5, 3.0)),
    )

"""What the people wear and look like: numbers for the shaders, drawn per person.

Hues of clothes are disjoint between the splits: the circle of hues is divided into 2 HUE_CELLS cells, which belong to
training and testing by turns.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.synth.streams import SPLITS, Split

HUE_CELLS = 12

Random = np.random.Generator
Colour = tuple[float, float, float]

SKIN = np.array(
    [[0.98, 0.84, 0.75], [0.93, 0.74, 0.61], [0.80, 0.58, 0.43], [0.60, 0.40, 0.28], [0.36, 0.23, 0.16]]
)
"""Tones from light to dark; a person's lies between two neighbours."""

HAIR = np.array(
    [[0.04, 0.03, 0.03], [0.13, 0.08, 0.05], [0.30, 0.18, 0.10], [0.55, 0.38, 0.18], [0.55, 0.22, 0.10]]
)


@dataclass(frozen=True)
class Measures:
    """Heights and lengths of the template that clothes end at, in metres of the T-pose."""

    eyes: tuple[float, float, float]
    neck: float
    waist: float
    hips: float
    knee: float
    ankle: float
    shoulder: float
    elbow: float
    wrist: float
    floor: float


@dataclass(frozen=True)
class Appearance:
    """`uniforms` go to the shaders by name; `skirt` is (y of the hem, widening) or None; `hues` are for tests."""

    uniforms: dict[str, Any]
    skirt: tuple[float, float] | None
    hues: tuple[float, ...]


def split_of_hue(hue: float) -> Split:
    """The split that clothes of a hue in [0, 1) belong to."""
    return SPLITS[int(hue * 2 * HUE_CELLS) % 2]


def _hue(rng: Random, split: Split) -> float:
    cell = 2 * int(rng.integers(HUE_CELLS)) + SPLITS.index(split)
    return (cell + float(rng.uniform(0.02, 0.98))) / (2 * HUE_CELLS)


def _cloth(rng: Random, hue: float, dark: bool = False) -> Colour:
    if rng.random() < 0.3:  # white, grey, black, faintly tinted
        value, saturation = rng.uniform(0.05, 0.95), rng.uniform(0.0, 0.12)
    else:
        value, saturation = rng.uniform(0.15, 0.95), rng.uniform(0.2, 0.95)
    return colorsys.hsv_to_rgb(hue, saturation, value * (0.6 if dark else 1.0))


def _between(rng: Random, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _pattern(rng: Random, chest: bool) -> tuple[float, float, float, float]:
    kinds = [0, 1, 2, 3, 4, 5, 6, 7, 8] if chest else [0, 1, 2, 3, 4, 5, 7]
    weights = np.array(
        [0.45, 0.13, 0.06, 0.06, 0.05, 0.08, 0.05, 0.06, 0.06]
        if chest
        else [0.7, 0.04, 0.07, 0.05, 0.03, 0.06, 0.05]
    )
    kind = int(rng.choice(kinds, p=weights / weights.sum()))
    return float(kind), _between(rng, 4, 14), _between(rng, 0, 1), _between(rng, 0.4, 1.0)


def sample_appearance(rng: Random, split: Split, body: Measures) -> Appearance:
    """Skin, hair, clothes and shoes of one person, and the light."""
    hues = tuple(_hue(rng, split) for _ in range(5))
    u: dict[str, Any] = {"head": body.eyes}
    _head(rng, u, body)
    skirt = _clothes(rng, u, body, hues)
    _light(rng, u)
    return Appearance(u, skirt, hues)


def _head(rng: Random, u: dict[str, Any], body: Measures) -> None:
    place = _between(rng, 0, len(SKIN) - 1.001)
    i = int(place)
    skin = (SKIN[i] + (place - i) * (SKIN[i + 1] - SKIN[i])) * rng.normal(1, 0.04, 3)
    grey = rng.random() < 0.15
    hair = (
        np.full(3, _between(rng, 0.3, 0.85))
        if grey
        else HAIR[rng.integers(len(HAIR))] * _between(rng, 0.6, 1.3)
    )
    u["skin"] = tuple(skin)
    u["lips"] = tuple(skin * (0.85, 0.62, 0.62) * rng.normal(1, 0.05, 3))
    u["iris"] = ((0.25, 0.15, 0.08), (0.2, 0.35, 0.5), (0.25, 0.35, 0.2))[rng.integers(3)]
    u["shine"] = _between(rng, 0.02, 0.3)
    kind = rng.choice(["bald", "short", "full", "long", "cap"], p=[0.07, 0.35, 0.25, 0.25, 0.08])
    line = _between(rng, 0.85, 1.25)
    if kind == "bald":
        u["hair"] = (20.0, 20.0, -1.0, 0.0)
    elif kind == "short":
        u["hair"] = (_between(rng, -1.3, -0.6), line, _between(rng, 0.002, 0.012), 0.1)
    elif kind == "full":
        u["hair"] = (_between(rng, -1.8, -1.0), line, _between(rng, 0.015, 0.04), _between(rng, 0.1, 0.4))
    elif kind == "long":
        u["hair"] = (_between(rng, -5.5, -2.0), line, _between(rng, 0.01, 0.03), _between(rng, 0.0, 0.3))
    else:
        u["hair"] = (_between(rng, -0.4, 0.1), _between(rng, 0.45, 0.9), _between(rng, 0.006, 0.015), 0.0)
        hair = np.array(
            colorsys.hsv_to_rgb(_between(rng, 0, 1), _between(rng, 0, 0.9), _between(rng, 0.1, 0.9))
        )
    u["hair_colour"] = tuple(hair)
    u["beard"] = _between(rng, 0.3, 0.8) if rng.random() < 0.18 and kind != "long" else 0.0


def _clothes(
    rng: Random, u: dict[str, Any], b: Measures, hues: tuple[float, ...]
) -> tuple[float, float] | None:
    sleeve = {
        "none": b.shoulder - _between(rng, 0.0, 0.03),
        "short": b.shoulder + _between(rng, 0.25, 0.85) * (b.elbow - b.shoulder),
        "half": b.elbow + _between(rng, -0.1, 0.6) * (b.wrist - b.elbow),
        "long": b.wrist + _between(rng, -0.04, 0.01),
    }[str(rng.choice(["none", "short", "half", "long"], p=[0.12, 0.34, 0.14, 0.4]))]
    hem = b.waist + _between(rng, -0.13, 0.03)
    neck = b.neck + _between(rng, -0.06, -0.01) if rng.random() < 0.8 else b.neck + _between(rng, 0.0, 0.05)
    u["shirt"] = (hem, sleeve, neck, _between(rng, 0.02, 0.13) if rng.random() < 0.3 else 0.0)
    waist = b.waist + _between(rng, -0.05, 0.05)
    leg = float(rng.choice([0, 1, 2, 3], p=[0.58, 0.2, 0.06, 0.16]))  # long, shorts, briefs, a skirt
    end = {
        0: b.ankle + _between(rng, -0.01, 0.1),
        1: b.knee + _between(rng, -0.12, 0.25),
        2: b.hips - _between(rng, 0.02, 0.06),
        3: b.hips - 0.06,
    }[int(leg)]
    u["trousers"] = (waist, end, abs(rng.normal(0.5, 0.9)), abs(rng.normal(0.4, 0.8)))
    u["shirt_a"], u["shirt_b"] = _cloth(rng, hues[0]), _cloth(rng, hues[1])
    u["trousers_a"], u["trousers_b"] = (
        _cloth(rng, hues[2], dark=True),
        _cloth(rng, hues[3], dark=rng.random() < 0.5),
    )
    u["shirt_pattern"], u["trousers_pattern"] = _pattern(rng, True), _pattern(rng, False)
    if rng.random() < 0.12:  # overalls, a dress, sportswear: all of one cloth
        for name in ("a", "b", "pattern"):
            u[f"trousers_{name}"] = u[f"shirt_{name}"]
    jacket = rng.random() < 0.15
    u["opening"] = (
        _between(rng, 0.015, 0.09) if jacket else -1.0,
        hem + 0.005,
    )
    u["wrinkles"] = (abs(rng.normal(0.12, 0.12)), _between(rng, 25, 70))
    barefoot = rng.random() < 0.12
    top = b.floor - 1 if barefoot else b.ankle + _between(rng, -0.02, 0.12)
    socks = b.floor - 1 if barefoot or rng.random() < 0.4 else top + _between(rng, 0.0, 0.3)
    u["feet"] = (top, socks, b.floor + _between(rng, 0.01, 0.03), u.pop("beard"))
    u["shoe"], u["sock"] = _cloth(rng, hues[4], dark=True), (_between(rng, 0.1, 0.95),) * 3
    u["sole"] = (_between(rng, 0.05, 0.95),) * 3
    if leg < 3:
        return None
    return b.knee + _between(rng, -0.3, 0.3), _between(rng, 0.0, 0.5)


def _light(rng: Random, u: dict[str, Any]) -> None:
    """One main light, a weaker one from elsewhere, and light from all around; in camera space, y down."""

    def direction(spread: float) -> NDArray[np.float64]:
        d = np.array([0.0, -0.5, -0.8]) + rng.normal(0, spread, 3) * (1, 0.6, 0.5)
        return np.asarray(d / np.linalg.norm(d))

    warmth = rng.normal(0, 0.06)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    share = _between(rng, 0.25, 0.75)
    strength = _between(rng, 0.8, 1.2)
    u["light"] = tuple(direction(0.6))
    u["light_colour"] = tuple(strength * (1.15 - share) * tint)
    u["sky"] = tuple(strength * share * rng.uniform(0.85, 1.1) * np.array([1.0, 1.0, 1.0]))
    u["ground"] = tuple(strength * share * _between(rng, 0.4, 0.8) * rng.normal(1, 0.05, 3))
    u["fill"] = tuple(direction(1.5))
    u["fill_colour"] = tuple(_between(rng, 0.0, 0.25) * rng.normal(1, 0.1, 3).clip(0.5, 1.5))

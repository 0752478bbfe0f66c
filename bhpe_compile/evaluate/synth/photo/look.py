"""Who wears what: skin, hair and clothes of version 2, and what the effects of version 3 need beside them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bhpe_compile.evaluate.synth.appearance import Appearance, Measures, sample_appearance
from bhpe_compile.evaluate.synth.photo.fabrics import sample_pattern
from bhpe_compile.evaluate.synth.photo.garment import HOLLOWS
from bhpe_compile.evaluate.synth.photo.light import GAMMA
from bhpe_compile.evaluate.synth.scene import Scene
from bhpe_compile.evaluate.synth.streams import Split

Random = np.random.Generator

COLOURS = (
    "skin",
    "lips",
    "iris",
    "hair_colour",
    "shoe",
    "sole",
    "sock",
    "shirt_a",
    "shirt_b",
    "trousers_a",
    "trousers_b",
)
"""Uniforms that are colours: shaders want light."""


def sample_look(scene: Scene, split: Split, measures: Measures) -> Appearance:
    """Uniforms for clothes and shaders of the person of a scene."""
    look = sample_appearance(scene.stream("appearance"), split, measures)
    u = dict(look.uniforms)
    u["waistline"] = measures.waist
    u["joints"] = (measures.knee, measures.elbow, measures.wrist)
    _cloth(scene.stream("photo cloth"), u, measures)
    _skin(scene.stream("photo skin"), u)
    _hair(scene.stream("photo hair"), u)
    top, socks, _, beard = u["feet"]
    sole = measures.floor + float(scene.stream("photo shoes").uniform(0.004, 0.012))  # lower than the toes
    u["feet"] = (top, socks, sole, beard)
    for name in COLOURS:
        u[name] = tuple(np.clip(u[name], 0.0, 1.0) ** GAMMA)
    return Appearance(u, look.skirt, look.hues)


def _sometimes(rng: Random, share: float, low: float, high: float) -> float:
    """A strength, or 0 in all but `share` of the pictures."""
    value = float(rng.uniform(low, high))
    return value if rng.random() < share else 0.0


def _cloth(rng: Random, u: dict[str, Any], measures: Measures) -> None:
    same = u["shirt_pattern"] == u["trousers_pattern"] and u["shirt_a"] == u["trousers_a"]
    u["shirt_pattern"], u["trousers_pattern"] = sample_pattern(rng, True), sample_pattern(rng, False)
    if same:  # overalls, a dress
        u["trousers_pattern"] = u["shirt_pattern"]
    u["loose"] = 0.5 + abs(rng.normal(0.3, 0.9)), 0.4 + abs(rng.normal(0.3, 0.9))
    u["hollows"] = float(rng.integers(HOLLOWS)), float(rng.integers(HOLLOWS)), float(rng.uniform(0.2, 0.8))
    u["swell"] = _sometimes(rng, 0.8, 0.001, 0.006)
    u["folds"] = (  # metres: hanging, squeezed; then where in the noise, and folds a metre
        _sometimes(rng, 0.75, 0.001, 0.006),
        _sometimes(rng, 0.85, 0.002, 0.009),
        float(rng.uniform(0, 1)),
        float(rng.uniform(0.7, 1.5)),
    )
    u["weave"] = _sometimes(rng, 0.5, 0.0002, 0.0008), float(rng.uniform(90, 220)), float(rng.integers(3))
    u["cloth_gloss"] = _sometimes(rng, 0.4, 0.02, 0.25)
    u["fuzz"] = _sometimes(rng, 0.5, 0.1, 0.6)
    collar = rng.random() < 0.35 and u["shirt"][2] < measures.neck
    u["details"] = (
        float(rng.random() < 0.25),  # buttons
        0.022 if collar else _sometimes(rng, 0.5, 0.006, 0.014),  # a collar or a hem at the neck
        _sometimes(rng, 0.4, 0.012, 0.022),  # half a belt's width
        float(rng.random() < 0.7),  # seams
    )


def _skin(rng: Random, u: dict[str, Any]) -> None:
    u["mottled"] = float(rng.uniform(0.03, 0.12)), float(rng.uniform(0.01, 0.06))
    u["flush"] = _sometimes(rng, 0.7, 0.1, 0.6)
    u["freckles"] = _sometimes(rng, 0.15, 0.1, 0.4)
    u["tan"] = _sometimes(rng, 0.3, 0.05, 0.25)


def _hair(rng: Random, u: dict[str, Any]) -> None:
    bald = u["hair"][2] < 0
    cap = u["hair"][3] == 0.0 and u["hair"][0] > -0.5
    u["strands"] = 0.0 if cap else float(rng.uniform(0.3, 1.0))
    u["tousled"] = 0.0 if cap else float(rng.uniform(0.1, 1.0))
    u["fringe"] = 0.0 if cap else float(rng.uniform(0.02, 0.12))
    u["shells"] = 0.0 if cap or bald else _sometimes(rng, 0.8, 0.004, 0.018)
    u["streaks"] = float(rng.uniform(0.1, 0.4))
    u["hair_gloss"] = float(rng.uniform(0.1, 0.6))

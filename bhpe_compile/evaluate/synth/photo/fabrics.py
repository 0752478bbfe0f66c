"""Patterns of cloth. A pattern says, for every place, how much of the second colour is mixed into the first.

Each is one GLSL expression of: `s`, `t` (waves along and across the limb), `along`, `across` (their phases), `r` (place
on the T-pose in metres, x to the left, y up, z forward), `kind` (its number, repeats a metre, phase, strength), `n`
and `m` (noise at about the size of the repeats).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Random = np.random.Generator


@dataclass(frozen=True)
class Pattern:
    """`chest`, `legs`: how often shirts and trousers have it, relative to the others."""

    name: str
    chest: float
    legs: float
    glsl: str


PATTERNS = (
    Pattern("plain", 0.30, 0.42, "0.0"),
    Pattern("faded", 0.10, 0.22, "clamp(0.30 + 0.22 * n, 0.0, 1.0)"),
    Pattern("hoops", 0.08, 0.01, "clamp(0.5 + 6.0 * s, 0.0, 1.0)"),
    Pattern("narrow hoops", 0.05, 0.01, "smoothstep(0.75, 0.9, s)"),
    Pattern("pinstripes", 0.03, 0.05, "smoothstep(0.8, 0.95, 2.0 * t * t - 1.0)"),
    Pattern("plaid", 0.07, 0.03, "0.45 * step(0.2, s) + 0.45 * step(0.2, t) + 0.1 * step(0.9, max(s, t))"),
    Pattern(
        "fine checks", 0.04, 0.03, "0.5 * step(0.0, sin(18.8 * along)) + 0.5 * step(0.0, sin(18.8 * across))"
    ),
    Pattern("dots", 0.04, 0.01, "smoothstep(0.5, 0.6, s * t)"),
    Pattern("flowers", 0.06, 0.03, "smoothstep(0.75, 0.85, n) + 0.5 * smoothstep(0.8, 0.9, m)"),
    Pattern("camouflage", 0.02, 0.04, "0.55 * smoothstep(0.2, 0.3, n) + 0.45 * smoothstep(0.6, 0.7, m)"),
    Pattern("marbled", 0.04, 0.03, "clamp(0.5 + 0.5 * sin(6.0 * n + 3.0 * s), 0.0, 1.0)"),
    Pattern("gradient", 0.03, 0.02, "smoothstep(-0.35, 0.35, r.y - 0.3 * kind.z)"),
    Pattern("colour block", 0.04, 0.01, "step(kind.z * 0.3, r.y)"),
    Pattern("side stripes", 0.02, 0.07, "smoothstep(0.012, 0.008, abs(r.z + 0.01))"),
    Pattern("band", 0.03, 0.0, "step(abs(r.y - 0.2 - 0.1 * kind.z), 0.045)"),
    Pattern(
        "logo", 0.06, 0.0, "step(0.0, r.z) * step(length((r.xy - vec2(0.07, 0.3)) / vec2(1.0, 0.7)), 0.025)"
    ),
    Pattern(
        "lettering",
        0.07,
        0.0,
        "step(0.0, r.z) * step(abs(r.x), 0.13) * step(abs(r.y - 0.27), 0.035)"
        " * step(0.1, sin(95.0 * r.x + 40.0 * kind.z) + 0.8 * sin(151.0 * r.x + 230.0 * abs(r.y - 0.27)))",
    ),
    Pattern(
        "picture",
        0.06,
        0.0,
        "step(0.0, r.z) * step(abs(r.x), 0.11) * step(abs(r.y - 0.24), 0.13)"
        " * clamp(0.5 + 0.9 * n - 2.0 * length(r.xy - vec2(0.0, 0.24)), 0.0, 1.0)",
    ),
)


def sample_pattern(rng: Random, chest: bool) -> tuple[float, float, float, float]:
    """Its number, repeats a metre, phase, strength, for the shaders."""
    weights = np.array([one.chest if chest else one.legs for one in PATTERNS])
    kind = int(rng.choice(len(PATTERNS), p=weights / weights.sum()))
    return float(kind), float(rng.uniform(4, 16)), float(rng.uniform(0, 1)), float(rng.uniform(0.35, 1.0))


def pattern_function() -> str:
    """GLSL: `float pattern(vec4 kind, vec3 r, float arm)`."""
    cases = "\n".join(f"    if (k == {i}) return {one.glsl};" for i, one in enumerate(PATTERNS) if i)
    return f"""
float pattern(vec4 kind, vec3 r, float arm) {{
    int k = int(kind.x + 0.5);
    if (k == 0) return 0.0;
    float along = (arm > 0.5 ? abs(r.x) : r.y) * kind.y + kind.z;
    float across = (arm > 0.5 ? r.z : r.x) * kind.y + 0.25;
    float s = sin(6.2832 * along), t = sin(6.2832 * across);
    vec4 grains = noise(r * kind.y * 0.2 + kind.z);
    float n = grains.x, m = grains.y;
{cases}
    return 0.0;
}}
"""

"""Making a compiled binary kernel show its integer accumulators.

A fused kernel computes activation(dot * scale + bias + residual) + shortcut. Run again with scale 1 and every other
term neutral, it returns dot itself, exact in float32 below 2**24. A kernel that writes only bits is run with the
thresholds at chosen accumulators: bit = (dot >= threshold) is then an exact statement about every dot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.runtime.session import Probe, StepInfo
from bhpe_compile.verification.integers import BinaryLayer, unpack_signs

ONES, ZEROS = ("scale", "beta"), ("bias", "residual", "gamma", "zeta", "shortcut")
LARGE = 1 << 20
"""Added to the accumulators of a kernel that ends in a ReLU; larger than any of them."""

LEVELS = (-2, 0, 2)
"""Thresholds, in standard deviations of a random accumulator, for kernels that write only bits."""


def _neutral(step: StepInfo) -> dict[int, NDArray[np.float32]]:
    arrays: dict[int, NDArray[np.float32]] = {}
    for index, role in enumerate(step.roles):
        shape = step.shapes[index]
        if role in ONES:
            arrays[index] = np.ones(shape, np.float32)
        elif role in ZEROS:
            arrays[index] = np.zeros(shape, np.float32)
    if step.relu:
        arrays[step.argument("bias")] += LARGE
    return arrays


def _levels(step: StepInfo) -> Sequence[float]:
    return [0.0] if "out" in step.roles else [float(v) for v in LEVELS]


def accumulator_probe(step: StepInfo, spread: float = 16.0) -> list[Probe]:
    """The runs of one step that show its accumulators."""
    probes = []
    for level in _levels(step):
        arrays: dict[int, NDArray[Any]] = dict(_neutral(step))
        if "threshold" in step.roles:
            index = step.argument("threshold")
            arrays[index] = np.full(step.shapes[index], level * spread, np.float32)
        result = "out" if "out" in step.roles else "bits"
        probes.append(Probe(step.index, arrays, step.argument(result), f"{step.layer}@{level}"))
    return probes


def compare_accumulators(
    layer: BinaryLayer,
    step: StepInfo,
    signs: NDArray[np.float32],
    results: dict[str, NDArray[Any]],
    spread: float = 16.0,
) -> str | None:
    """None when every accumulator is right, else what differs first."""
    dot = layer.accumulate(signs)
    for probe in accumulator_probe(step, spread):
        got = results[probe.key]
        if "out" in step.roles:
            shown = got[..., : dot.shape[-1]] - (
                LARGE if step.relu else 0
            )  # kernels fill whole bytes of channels
            wrong = shown != dot
            detail = "accumulators"
        else:
            level = float(probe.arrays[step.argument("threshold")].flat[0])
            border = (got.shape[1] - dot.shape[1]) // 2
            wrong = (unpack_signs(got, dot.shape[-1], border) > 0) != (dot >= level)
            detail = f"accumulators against {level:g}"
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            return f"{int(wrong.sum())} of {wrong.size} {detail} differ, first at {where}"
    return None

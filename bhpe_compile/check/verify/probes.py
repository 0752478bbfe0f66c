"""Making a compiled kernel show its integer accumulators.

A fused kernel computes activation(dot * scale + bias + residual) + shortcut. Run again with scale 1 and every other
term neutral, it returns dot itself, exact in float32 below 2**24. A kernel that ends in a ReLU is run with scale 1 and
with scale -1: one shows the positive accumulators, the other the negative ones. A kernel that stores float16 shows
float16(dot), and 8-bit layers are scaled down by a power of two for it: still a statement about every accumulator.

A kernel that writes only bits is run with the thresholds at chosen accumulators: bit = (dot >= threshold) is then an
exact statement about every dot. One that compares with 0 and has no thresholds is run with biases of -threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.check.verify.integers import unpack_signs
from bhpe_compile.runtime.session import Probe, StepInfo

ZEROS = ("bias", "residual", "zeta", "shortcut")

LEVELS = (-2, 0, 2)
"""Thresholds, in standard deviations of a random accumulator, for kernels that write only bits."""

SPREAD = 16.0
"""The standard deviation that `LEVELS` count in."""

HALF_SCALE = 2.0**-12
"""Scale of 8-bit accumulators in a float16 output: 255 * 127 * 2048 products stay below 65504."""


def accumulator_probes(step: StepInfo) -> list[Probe]:
    """The runs of one step that show its accumulators."""
    signs = (1.0, -1.0) if step.relu else (1.0,)
    levels = (0.0,) if "out" in step.roles else tuple(SPREAD * level for level in LEVELS)
    return [_probe(step, sign, level) for sign in signs for level in levels]


def _probe(step: StepInfo, sign: float, level: float) -> Probe:
    values = dict.fromkeys(ZEROS, 0.0) | {"beta": 1.0, "scale": sign * _scale(step), "threshold": level}
    if "threshold" not in step.roles:
        values["bias"] = -level
    arrays: dict[int, NDArray[Any]] = {
        index: np.full(argument.shape, values[argument.name], argument.dtype)
        for index, argument in enumerate(step.arguments)
        if argument.name in values
    }
    result = step.argument("out" if "out" in step.roles else "bits")
    return Probe(step.index, arrays, result, f"{step.layer}@{sign:+g}@{level:g}")


def _scale(step: StepInfo) -> float:
    half = "out" in step.roles and step.arguments[step.argument("out")].dtype == "float16"
    return HALF_SCALE if half and step.kind.startswith("Int8") else 1.0


def compare_accumulators(
    dot: NDArray[np.int64], step: StepInfo, results: dict[str, NDArray[Any]]
) -> str | None:
    """None when the results of `accumulator_probes` show exactly `dot` [N, Ho, Wo, O], else what differs first."""
    for probe in accumulator_probes(step):
        got = results[probe.key]
        scale = np.float32(probe.arrays[step.argument("scale")].flat[0])
        bias = float(probe.arrays[step.argument("bias")].flat[0])
        expected = dot.astype(np.float32) * scale + np.float32(bias)
        if step.relu:
            expected = np.maximum(expected, 0)
        if "out" in step.roles:
            wrong = got != expected.astype(got.dtype)
            detail = "accumulators"
        else:
            level = (
                float(probe.arrays[step.argument("threshold")].flat[0]) if "threshold" in step.roles else 0.0
            )
            border = (got.shape[1] - dot.shape[1]) // 2
            wrong = (unpack_signs(got, dot.shape[-1], border) > 0) != (expected >= level)
            detail = f"accumulators against {level - bias:g}"
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            return f"{int(wrong.sum())} of {wrong.size} {detail} differ, first at {where}"
    return None

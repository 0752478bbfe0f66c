"""Comparing two sets of network outputs in units that make sense.

Rotations are compared as matrices (near pi an axis-angle vector flips its sign while the rotation hardly moves),
coefficients, scores and plain tensors relative to the largest above 1, everything else by absolute difference. What an
output is says the network's description.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.networks.interface import Interface, Output

RELATIVE = ("coefficients", "logits", "heat-map", "simcc", "tensor")
"""Kinds whose differences count as a part of the largest value, where that is above 1."""


CODES = 1.0
"""The difference of other codes, where their scores are not known."""

BEHIND = 1e-5
"""Of outputs behind the last level: float32 operations that two libraries may round another way (sine, arc tangent,
sums over features). Rotations move by at most 1e-5 of a matrix entry."""

SCALE = {"camera": 100.0, "keypoints": 100.0}
"""Metres and cells reach about a hundred; float32 is relative."""


def rotation_matrices(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Axis-angle [..., 3k] in radians -> rotation matrices [n, 3, 3] (Rodrigues' formula).

    In NumPy: verifying needs neither torch (as `evaluate/body.py`, whose formula has a gradient) nor scipy.
    """
    flat = vectors.reshape(-1, 3).astype(np.float64)
    angle = np.linalg.norm(flat, axis=1)[:, None, None]
    axis = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    cross = np.zeros((len(flat), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    cross -= cross.transpose(0, 2, 1)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def unit_of(output: Output) -> str:
    """The unit of `difference`."""
    if output.kind in ("axis-angle", "rotation"):
        return "of a rotation matrix's entry"
    if output.kind in RELATIVE:
        return "of its largest value"
    if output.kind == "codes":
        return "of the largest score"
    return output.unit


def difference(output: Output, got: NDArray[Any], want: NDArray[Any]) -> float:
    """Largest absolute difference of one output, in its own unit; NaN on one side only is infinite."""
    if got.shape != want.shape:
        return float("inf")
    if output.kind == "axis-angle":
        got, want = rotation_matrices(got), rotation_matrices(want)
    if output.kind == "codes":
        return CODES if (got != want).any() else 0.0
    with np.errstate(invalid="ignore"):  # infinity less infinity
        gap = np.abs(got.astype(np.float64) - want.astype(np.float64))
        if output.kind in RELATIVE:
            gap /= max(1.0, np.abs(want).max(initial=0.0))
    return float("inf") if np.isnan(gap).any() else float(gap.max(initial=0.0))


def shortfall(got: NDArray[Any], scores: NDArray[Any]) -> float:
    """By how much the scores [.., k] of the places `got` [..] are below the largest, as a part of it where above 1.

    Of two scores that are equal but for a rounding, either is the largest. Places out of range are infinitely off.
    """
    places = got.reshape(scores.shape[:-1]).astype(np.int64)
    if ((places < 0) | (places >= scores.shape[-1])).any():
        return float("inf")
    chosen = np.take_along_axis(scores, places[..., None], -1)[..., 0]
    short = float((scores.max(-1) - chosen).max(initial=0.0))
    return short / max(1.0, float(np.abs(scores).max(initial=0.0)))


def differences(
    interface: Interface, got: Mapping[str, NDArray[Any]], want: Mapping[str, NDArray[Any]]
) -> dict[str, float]:
    """`difference` of every output of `want`."""
    return {name: difference(interface.output(name), got[name], want[name]) for name in want}


def allowed(output: Output, exact: bool) -> float:
    """The largest difference that passes, in the output's unit. exact: all that it is computed from is equal."""
    if not exact:
        return output.bound
    return 0.0 if output.kind == "boxes" else BEHIND * SCALE.get(output.kind, 1.0)


def beyond(interface: Interface, gaps: Mapping[str, float]) -> dict[str, float]:
    """The outputs whose difference exceeds what their description allows."""
    return {name: gap for name, gap in gaps.items() if not gap <= interface.output(name).bound}

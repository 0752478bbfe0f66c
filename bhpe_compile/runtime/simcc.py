"""Keypoints of networks that classify the column and the row of each (SimCC, arXiv 2107.03332)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.networks.interface import POINTS, Interface

Outputs = Mapping[str, NDArray[Any]]


def with_points(interface: Interface, outputs: Outputs) -> Outputs:
    """`outputs`, and where two of them classify columns and rows, `POINTS`: float64 [1, k, 3], x and y in pixels of the
    input and the score."""
    said = interface.simcc
    if said is None or POINTS in outputs or said.x not in outputs or said.y not in outputs:
        return outputs
    rows = [outputs[name].reshape(-1, outputs[name].shape[-1]) for name in (said.x, said.y)]
    places = [one.argmax(axis=1) / said.split for one in rows]
    scores = np.minimum(*(one.max(axis=1) for one in rows))
    return {**outputs, POINTS: np.stack([*places, scores], axis=1)[None].astype(np.float64)}


def scores_of(interface: Interface, outputs: Outputs) -> NDArray[np.float64] | None:
    """The score of every point, float64 [k], of outputs `with_points`; None where points have none."""
    if interface.simcc is None or POINTS not in outputs:
        return None
    return np.asarray(outputs[POINTS][0, :, 2], np.float64)


def seen(interface: Interface, outputs: Outputs, count: int) -> NDArray[np.bool_]:
    """Which of `count` points are there: all, or those whose score is above the least one."""
    scores = scores_of(interface, outputs)
    if scores is None or interface.simcc is None:
        return np.ones(count, bool)
    return np.asarray(scores > interface.simcc.least)

"""What is measured, person by person. Points come in metres, errors go out in millimetres; everything is float64.

    error(P, Q)    mean over the points of |p - q|
    aligned at j   error(P - P_j, Q - Q_j)                       only a translation is forgiven
    PA             error(s R P + t, Q), the s, R, t of least squares: a rotation, a scale, no reflection

R = V D U^T of the singular value decomposition U S V^T of the centred P^T Q, D = diag(1, 1, det(V U^T)),
s = trace(S D) / |P|^2 (Umeyama, IEEE PAMI 13(4), 1991).

Alignments are those of the published tables (BinaryHPE, arXiv 2311.14323): the whole mesh at the pelvis, a hand at its
wrist, the face at the neck; Procrustes on the very points that are measured; hands are the mean of left and right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Errors = dict[str, Array]
"""Metric -> one value a person."""

MILLIMETRES = 1000.0
PELVIS, NECK, WRISTS = 0, 12, (20, 21)
BODY_JOINTS = (1, 2, 4, 5, 7, 8, 12, 15, 16, 17, 18, 19, 20, 21)
"""Hips, knees, ankles, neck, head, shoulders, elbows, wrists, by their numbers among the 55 joints of SMPL-X."""

HANDS, FACE = ("left_hand", "right_hand"), "face"

RESAMPLES = 1000
"""Of the bootstrap."""

LEVEL = 95.0
"""Per cent of the resampled means that lie inside the interval."""


@dataclass(frozen=True)
class Metric:
    """One figure: its name in files, its title in tables, its unit, and which direction is better."""

    name: str
    title: str
    unit: Literal["mm", ""] = "mm"
    better: Literal["lower", "higher"] = "lower"

    def worsening(self, value: float, reference: float) -> float:
        """By how much `value` is worse than `reference`, in the metric's unit; negative when it is better."""
        return value - reference if self.better == "lower" else reference - value


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("mpvpe", "MPVPE"),
        Metric("hands_mpvpe", "hands MPVPE"),
        Metric("face_mpvpe", "face MPVPE"),
        Metric("pa_mpvpe", "PA-MPVPE"),
        Metric("hands_pa_mpvpe", "hands PA-MPVPE"),
        Metric("face_pa_mpvpe", "face PA-MPVPE"),
        Metric("mpjpe", "MPJPE"),
        Metric("pa_mpjpe", "PA-MPJPE"),
        Metric("hands_mpjpe", "hands MPJPE"),
        Metric("hands_pa_mpjpe", "hands PA-MPJPE"),
        Metric("hands_iou", "hands IoU", "", "higher"),
        Metric("face_iou", "face IoU", "", "higher"),
    )
}


JITTER = Metric("jitter", "jitter")
"""The median movement of the mesh under one level of noise (`jitter.py`), where it was measured."""

FIGURES = {**METRICS, JITTER.name: JITTER}
"""What a baseline may hold."""


@dataclass(frozen=True)
class People:
    """N people: vertices [N, V, 3], joints [N, 55, 3] and hand keypoints [N, 2, 20, 3] in metres, in one frame.

    `boxes` [N, 3, 4] are x0, y0, x1, y1 of left hand, right hand and face in pixels; NaN where there is none.
    """

    vertices: NDArray[np.floating[Any]]
    joints: NDArray[np.floating[Any]]
    hands: NDArray[np.floating[Any]]
    boxes: NDArray[np.floating[Any]]


def measure(found: People, true: People, regions: Mapping[str, NDArray[np.int64]]) -> Errors:
    """Every metric of METRICS for every person.

    `regions` holds the vertex numbers of "left_hand", "right_hand" and "face". A metric that has no meaning for a
    person (a box nobody drew) is NaN there.
    """
    vertices, truth = _metres(found.vertices), _metres(true.vertices)
    joints, true_joints = _metres(found.joints), _metres(true.joints)
    hands, true_hands = _metres(found.hands), _metres(true.hands)
    at = {name: (joints[:, [j]], true_joints[:, [j]]) for name, j in zip(HANDS, WRISTS, strict=True)}
    at[FACE] = joints[:, [NECK]], true_joints[:, [NECK]]
    parts = {name: (vertices[:, regions[name]], truth[:, regions[name]]) for name in at}
    aligned = {name: point_error(p - at[name][0], q - at[name][1]) for name, (p, q) in parts.items()}
    similar = {name: similar_error(p, q) for name, (p, q) in parts.items()}
    body, true_body = joints[:, BODY_JOINTS], true_joints[:, BODY_JOINTS]
    pelvis, true_pelvis = joints[:, [PELVIS]], true_joints[:, [PELVIS]]
    hand_errors = [
        point_error(hands[:, k] - at[name][0], true_hands[:, k] - at[name][1]) for k, name in enumerate(HANDS)
    ]
    iou = box_iou(found.boxes, true.boxes)
    return {
        "mpvpe": point_error(vertices - pelvis, truth - true_pelvis),
        "hands_mpvpe": _both([aligned[name] for name in HANDS]),
        "face_mpvpe": aligned[FACE],
        "pa_mpvpe": similar_error(vertices, truth),
        "hands_pa_mpvpe": _both([similar[name] for name in HANDS]),
        "face_pa_mpvpe": similar[FACE],
        "mpjpe": point_error(body - pelvis, true_body - true_pelvis),
        "pa_mpjpe": similar_error(body, true_body),
        "hands_mpjpe": _both(hand_errors),
        "hands_pa_mpjpe": _both([similar_error(hands[:, k], true_hands[:, k]) for k in range(2)]),
        "hands_iou": _both([iou[:, 0], iou[:, 1]]),
        "face_iou": iou[:, 2],
    }


def point_error(found: Array, true: Array) -> Array:
    """[N, P, 3] in metres twice -> [N], the mean distance in millimetres."""
    return np.asarray(np.linalg.norm(found - true, axis=-1).mean(-1) * MILLIMETRES)


def similar_error(found: Array, true: Array) -> Array:
    """`point_error` after Procrustes alignment with scale."""
    return point_error(procrustes(found, true), true)


def procrustes(found: Array, true: Array) -> Array:
    """`found` [N, P, 3], turned, scaled and moved so that its squared distance from `true` is least.

    Points that all coincide have no scale: they come out as the mean of `true`.
    """
    mean, true_mean = found.mean(1, keepdims=True), true.mean(1, keepdims=True)
    p, q = found - mean, true - true_mean
    u, s, vt = np.linalg.svd(p.transpose(0, 2, 1) @ q)
    signs = np.ones_like(s)
    signs[:, 2] = np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)
    rotation = (u * signs[:, None, :]) @ vt
    size = np.square(p).sum((1, 2))
    scale = np.divide((s * signs).sum(1), size, out=np.zeros_like(size), where=size > 0)
    return np.asarray(scale[:, None, None] * (p @ rotation) + true_mean)


def box_iou(found: NDArray[np.floating[Any]], true: NDArray[np.floating[Any]]) -> Array:
    """Intersection over union of boxes [..., 4] (x0, y0, x1, y1): 0 for one turned inside out, NaN where one is NaN."""
    a, b = np.asarray(found, np.float64), np.asarray(true, np.float64)
    overlap = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = overlap.clip(0).prod(-1)
    union = _area(a) + _area(b) - both
    sound = _positive(a) & _positive(b)
    result = np.divide(both, union, out=np.zeros_like(both), where=sound)
    return np.where(np.isnan(a).any(-1) | np.isnan(b).any(-1), np.nan, result)


def mean(values: Array) -> float:
    """The mean over the people who have a value; NaN when nobody has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def interval(values: Array, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95 % interval of `mean` over people drawn again with replacement (percentile bootstrap).

    It tells how far the figure depends on the people that happen to be in the set, and nothing else: not on the seed
    of a training, nor on how the set differs from the world.
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = [known[rng.integers(0, known.size, known.size)].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def _metres(points: NDArray[np.floating[Any]]) -> Array:
    return np.asarray(points, np.float64)


def _both(sides: list[Array]) -> Array:
    return np.asarray((sides[0] + sides[1]) / 2)


def _area(boxes: Array) -> Array:
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).prod(-1))


def _positive(boxes: Array) -> NDArray[np.bool_]:
    return np.asarray((boxes[..., 2:] > boxes[..., :2]).all(-1))

"""Metrics against formulas written another way (loops, Horn's quaternions), and properties they must have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bhpe_compile.evaluate.metrics import (
    BODY_JOINTS,
    METRICS,
    People,
    box_iou,
    interval,
    mean,
    measure,
    point_error,
    procrustes,
    similar_error,
)

Array = NDArray[np.float64]
VERTICES = 60
REGIONS = {
    "left_hand": np.arange(5, 17),
    "right_hand": np.arange(20, 33),
    "face": np.arange(40, 59, 2),
}
CLOSE = 1e-9
"""Millimetres: both sides compute in float64 on coordinates of about a metre."""


def random_people(seed: int, count: int = 3) -> People:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 200, (count, 3, 2))
    return People(
        rng.normal(0, 0.5, (count, VERTICES, 3)),
        rng.normal(0, 0.5, (count, 55, 3)),
        rng.normal(0, 0.1, (count, 2, 20, 3)),
        np.concatenate([corner, corner + rng.uniform(10, 80, (count, 3, 2))], -1),
    )


def changed(people: People, scale: float, rotation: Array, shift: Array) -> People:
    def move(points: NDArray[Any]) -> Array:
        return np.asarray(scale * points @ rotation.T + shift)

    return People(move(people.vertices), move(people.joints), move(people.hands), people.boxes)


def random_rotation(seed: int) -> Array:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return np.asarray(q * np.sign(np.linalg.det(q)))


def horn(found: Array, true: Array) -> Array:
    """Absolute orientation by unit quaternions (Horn, JOSA A 4, 1987), one cloud; scale of least squares."""
    a, b = found - found.mean(0), true - true.mean(0)
    s = np.zeros((3, 3))
    for x, y in zip(a, b, strict=True):
        s += np.outer(x, y)
    n = np.zeros((4, 4))
    n[0, 0] = np.trace(s)
    delta = np.array([s[1, 2] - s[2, 1], s[2, 0] - s[0, 2], s[0, 1] - s[1, 0]])
    n[0, 1:], n[1:, 0] = delta, delta
    n[1:, 1:] = s + s.T - np.trace(s) * np.eye(3)
    w, x, y, z = np.linalg.eigh(n)[1][:, -1]
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    turned = np.array([rotation @ p for p in a])
    scale = sum(float(p @ q) for p, q in zip(turned, b, strict=True)) / sum(float(p @ p) for p in a)
    return np.asarray(scale * turned + true.mean(0))


def distance(found: Array, true: Array) -> float:
    """Mean distance in millimetres, point by point."""
    return sum(1000 * math.dist(p, q) for p, q in zip(found, true, strict=True)) / len(true)


def by_hand(found: People, true: People, i: int) -> dict[str, float]:
    """All errors in millimetres of person `i`, the long way."""
    v, w, j, k = found.vertices[i], true.vertices[i], found.joints[i], true.joints[i]
    body = list(BODY_JOINTS)
    sides = list(zip(("left_hand", "right_hand"), (20, 21), (0, 1), strict=True))
    face = REGIONS["face"]

    def both(values: list[float]) -> float:
        return sum(values) / 2

    hands, true_hands = found.hands[i], true.hands[i]
    return {
        "mpvpe": distance(v - j[0], w - k[0]),
        "hands_mpvpe": both([distance(v[REGIONS[s]] - j[n], w[REGIONS[s]] - k[n]) for s, n, _ in sides]),
        "face_mpvpe": distance(v[face] - j[12], w[face] - k[12]),
        "pa_mpvpe": distance(horn(v, w), w),
        "hands_pa_mpvpe": both([distance(horn(v[REGIONS[s]], w[REGIONS[s]]), w[REGIONS[s]]) for s, _, _ in sides]),
        "face_pa_mpvpe": distance(horn(v[face], w[face]), w[face]),
        "mpjpe": distance(j[body] - j[0], k[body] - k[0]),
        "pa_mpjpe": distance(horn(j[body], k[body]), k[body]),
        "hands_mpjpe": both([distance(hands[s] - j[n], true_hands[s] - k[n]) for _, n, s in sides]),
        "hands_pa_mpjpe": both([distance(horn(hands[s], true_hands[s]), true_hands[s]) for s in (0, 1)]),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_every_error_equals_the_long_way(seed: int) -> None:
    found, true = random_people(seed), random_people(seed + 100)
    errors = measure(found, true, REGIONS)
    assert list(errors) == list(METRICS)
    for i in range(len(true.vertices)):
        for name, value in by_hand(found, true, i).items():
            assert errors[name][i] == pytest.approx(value, abs=CLOSE), name


def test_procrustes_equals_scipy() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(5)
    found, turned = rng.normal(size=(40, 3)), random_rotation(3)
    true = 1.7 * found @ turned.T + rng.normal(0, 0.05, (40, 3)) + [1, 2, 3]
    a, b = found - found.mean(0), true - true.mean(0)
    rotation, scale = linalg.orthogonal_procrustes(a, b)  # a reflection would be allowed; the noise is small
    expected = scale / np.square(a).sum() * a @ rotation + true.mean(0)
    assert np.linalg.det(rotation) > 0
    np.testing.assert_allclose(procrustes(found[None], true[None])[0], expected, atol=1e-12)


def test_known_distances() -> None:
    """A mesh 3 mm away in x; joints follow, so that only what is not aligned remains."""
    true = random_people(1)
    joints = true.joints.copy()
    found = People(true.vertices + np.array([0.003, 0, 0]), joints, true.hands, true.boxes)
    errors = measure(found, true, REGIONS)
    for name in ("mpvpe", "hands_mpvpe", "face_mpvpe"):
        np.testing.assert_allclose(errors[name], 3.0, atol=CLOSE)
    np.testing.assert_allclose(errors["pa_mpvpe"], 0.0, atol=CLOSE)
    np.testing.assert_allclose(errors["mpjpe"], 0.0, atol=CLOSE)


def test_equal_people_have_no_error() -> None:
    people = random_people(2)
    errors = measure(people, people, REGIONS)
    for name, metric in METRICS.items():
        np.testing.assert_allclose(errors[name], 0.0 if metric.unit else 1.0, atol=CLOSE)


@given(st.integers(0, 10_000), st.floats(0.2, 5.0), st.tuples(*[st.floats(-3, 3)] * 3))
@settings(max_examples=30)
def test_pa_does_not_see_a_similarity(seed: int, scale: float, shift: tuple[float, ...]) -> None:
    found, true = random_people(seed, 2), random_people(seed + 1, 2)
    moved = changed(found, scale, random_rotation(seed), np.array(shift))
    before, after = measure(found, true, REGIONS), measure(moved, true, REGIONS)
    for name in METRICS:
        if "pa_" in name:
            np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-8, err_msg=name)


@given(st.integers(0, 10_000), st.tuples(*[st.floats(-3, 3)] * 3))
@settings(max_examples=20)
def test_no_error_sees_a_translation(seed: int, shift: tuple[float, ...]) -> None:
    found, true = random_people(seed, 2), random_people(seed + 1, 2)
    moved = changed(found, 1.0, np.eye(3), np.array(shift))
    before, after = measure(found, true, REGIONS), measure(moved, true, REGIONS)
    for name in METRICS:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-8, err_msg=name)


@given(st.integers(0, 10_000), st.floats(0.0, 0.3))
@settings(max_examples=30)
def test_procrustes_is_the_least_of_all_similarities(seed: int, size: float) -> None:
    """Of squared distances: any small change of rotation, scale or shift makes them larger."""
    rng = np.random.default_rng(seed)
    found, true = rng.normal(size=(1, 12, 3)), rng.normal(size=(1, 12, 3))
    best = procrustes(found, true)
    least = np.square(best - true).sum()
    angle = size * rng.normal(size=3)
    cross = np.array([[0, -angle[2], angle[1]], [angle[2], 0, -angle[0]], [-angle[1], angle[0], 0]])
    turn = np.linalg.qr(np.eye(3) + cross)[0]
    turn = turn * np.sign(np.diag(turn))
    centre = true.mean(1)
    other = (1 + size * rng.normal()) * (best - centre) @ turn.T + centre + size * rng.normal(size=3)
    assert np.square(other - true).sum() >= least - 1e-9
    assert np.square(found - found.mean(1) + centre - true).sum() >= least - 1e-9


def test_a_mirror_image_is_not_aligned_away() -> None:
    true = random_people(3).vertices
    mirrored = true * [-1, 1, 1]
    assert (similar_error(mirrored, true) > 50).all()
    for i in range(len(true)):
        np.testing.assert_allclose(procrustes(mirrored, true)[i], horn(mirrored[i], true[i]), atol=1e-9)


def test_points_in_one_place_are_no_division_by_zero() -> None:
    true = random_people(4).vertices
    collapsed = np.broadcast_to(true[:, :1], true.shape)
    expected = point_error(np.broadcast_to(true.mean(1, keepdims=True), true.shape), true)
    np.testing.assert_allclose(similar_error(collapsed, true), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("box", "other", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0.0),
        ((0, 0, 4, 4), (1, 1, 2, 3), 2 / 16),
        ((2, 2, 0, 0), (0, 0, 2, 2), 0.0),  # inside out: no box at all
        ((2, 0, 0, 2), (2, 0, 0, 2), 0.0),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0.0),
    ],
)
def test_iou(box: tuple[float, ...], other: tuple[float, ...], expected: float) -> None:
    assert box_iou(np.array(box), np.array(other)) == pytest.approx(expected, abs=1e-15)


def test_a_box_nobody_drew_has_no_iou_and_does_not_count() -> None:
    true = random_people(6)
    boxes = true.boxes.copy()
    boxes[0, 2] = np.nan
    errors = measure(true, People(true.vertices, true.joints, true.hands, boxes), REGIONS)
    assert np.isnan(errors["face_iou"][0])
    assert mean(errors["face_iou"]) == 1.0
    assert math.isnan(mean(np.full(3, np.nan)))


def test_interval_is_seeded_and_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(100, 20, 400)
    low, high = interval(values, seed=1)
    assert (low, high) == interval(values, seed=1)
    assert (low, high) != interval(values, seed=2)
    assert low < values.mean() < high
    normal = 2 * 1.96 * values.std() / math.sqrt(len(values))
    assert high - low == pytest.approx(normal, rel=0.12)  # 1000 resamples: the ends scatter by some per cent
    assert interval(np.full(5, 7.0)) == (7.0, 7.0)


@pytest.mark.parametrize(("name", "worse"), [("mpvpe", 3.0), ("face_iou", -3.0)])
def test_worsening_has_a_direction(name: str, worse: float) -> None:
    assert METRICS[name].worsening(13.0, 10.0) == worse

"""Differences in units that make sense, against torch's own rotations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.check.verify.compare import (
    RELATIVE,
    beyond,
    difference,
    differences,
    rotation_matrices,
    shortfall,
)
from bhpe_compile.networks.interface import TOLERANCES, Interface, Output

POSE, SHAPE = Output("pose", kind="axis-angle"), Output("shape", kind="coefficients")


@settings(max_examples=50)
@given(vector=st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_rotation_is_the_exponential_of_the_cross_product(vector: list[float]) -> None:
    x, y, z = vector
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    want = torch.linalg.matrix_exp(cross).numpy()
    got = rotation_matrices(np.array([vector]))
    # float64 on both sides; torch's scaling and squaring costs a few digits. Vectors shorter than 1e-12 are no turn.
    np.testing.assert_allclose(got[0], want, atol=1e-10)


def test_many_joints_in_one_vector() -> None:
    turns = np.random.default_rng(0).standard_normal((2, 45))
    np.testing.assert_array_equal(rotation_matrices(turns), rotation_matrices(turns.reshape(-1, 3)))
    assert rotation_matrices(turns).shape == (30, 3, 3)


def test_whole_turns_and_no_turn_are_equal() -> None:
    a, b = np.zeros((1, 3)), np.array([[0, 2 * np.pi, 0]])
    assert difference(POSE, a, b) < 1e-12  # sin(2 pi) in float64
    assert difference(POSE, a, a) == 0


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (np.zeros((1, 2)), np.zeros((2, 1))),
        (np.array([np.nan]), np.array([np.nan])),
        (np.array([1.0]), np.array([np.nan])),
        (np.array([np.inf]), np.array([np.inf])),
    ],
    ids=["shape", "both NaN", "one NaN", "infinite"],
)
def test_what_cannot_be_compared_is_infinitely_far(got: np.ndarray, want: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        assert difference(SHAPE, got, want) == np.inf


def test_a_rotation_that_is_nan_is_infinitely_far() -> None:
    good, bad = np.zeros((1, 3)), np.array([[0, np.nan, 0]])
    assert difference(POSE, bad, good) == np.inf


@pytest.mark.parametrize("kind", TOLERANCES)
def test_a_tolerance_is_the_last_difference_allowed(kind: Any) -> None:
    interface = Interface(outputs=(Output("it", kind=kind), Output("strict", kind=kind, tolerance=1e-6)))
    assert beyond(interface, {"it": TOLERANCES[kind], "strict": 1e-6}) == {}
    over = float(np.nextafter(TOLERANCES[kind], 1))
    assert beyond(interface, {"it": over, "strict": 2e-6, "undescribed": 0.0}) == {"it": over, "strict": 2e-6}


@pytest.mark.parametrize("kind", TOLERANCES)
def test_large_values_of_order_one_are_compared_as_parts(kind: Any) -> None:
    got, want = np.array([[0.0, 0.0, 3.0]]), np.array([[0.0, 0.0, 2.0]])
    expected = 0.5 if kind in RELATIVE else 1.0
    if kind != "axis-angle":
        assert difference(Output("it", kind=kind), got, want) == expected


def test_differences_follow_the_wanted_outputs() -> None:
    want = {"b": np.zeros(2), "a": np.ones(2)}
    got = {"a": np.array([1.0, 3.0]), "b": np.zeros(2), "more": np.zeros(1)}
    assert list(differences(Interface(), got, want).items()) == [("b", 0.0), ("a", 2.0)]


def test_codes_differ_or_not() -> None:
    codes = Output("codes", kind="codes")
    assert difference(codes, np.array([[3, 400]]), np.array([[3, 400]])) == 0
    assert difference(codes, np.array([[3, 401]]), np.array([[3, 400]])) == 1


def test_a_code_is_as_wrong_as_its_score_is_below_the_best() -> None:
    scores = np.array([[[0.0, 4.0, 3.999], [5.0, 1.0, 2.0]]], np.float32)
    assert shortfall(np.array([[1, 0]]), scores) == 0
    assert shortfall(np.array([[2, 0]]), scores) == pytest.approx(0.001 / 5, rel=1e-3)
    assert shortfall(np.array([[1, 1]]), scores) == pytest.approx(4 / 5)
    assert shortfall(np.array([[1, 3]]), scores) == shortfall(np.array([[-1, 0]]), scores) == np.inf

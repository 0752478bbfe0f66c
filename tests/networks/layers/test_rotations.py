"""6D rotations: orthonormal matrices, known axis-angles, nothing undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bhpe_compile.networks.layers.rotations import (
    matrix_to_quaternion,
    quaternion_to_axis_angle,
    rotation_6d_to_axis_angle,
    rotation_6d_to_matrix,
)


def rotation_matrices(vectors: np.ndarray) -> np.ndarray:
    """Axis times angle [n, 3] -> [n, 3, 3], float64."""
    return np.asarray(Rotation.from_rotvec(vectors).as_matrix())


def six(matrix: np.ndarray) -> torch.Tensor:
    """The first two columns, row by row."""
    return torch.tensor(matrix[:, :, :2].reshape(-1, 6))


def test_identity_is_the_zero_vector() -> None:
    x = torch.tensor([[1.0, 0, 0, 1, 0, 0]])
    assert torch.equal(rotation_6d_to_axis_angle(x), torch.zeros(1, 3))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("angle", [1e-3, 0.5, math.pi / 2, 2.5, math.pi - 1e-3, -1.0, -3.0])
def test_rotation_about_an_axis(axis: int, angle: float) -> None:
    vector = np.zeros((1, 3))
    vector[0, axis] = angle
    got = rotation_6d_to_axis_angle(six(rotation_matrices(vector)))
    np.testing.assert_allclose(got.numpy(), vector, atol=2e-6)  # float32


@given(st.lists(st.floats(-1.8, 1.8), min_size=3, max_size=3))
def test_round_trip(values: list[float]) -> None:
    vector = np.array([values])  # shorter than pi: the axis-angle is unique
    got = rotation_6d_to_axis_angle(six(rotation_matrices(vector)))
    np.testing.assert_allclose(got.numpy(), vector, atol=2e-6)  # float32


@given(st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6))
def test_always_finite_and_orthonormal_when_defined(values: list[float]) -> None:
    x = torch.tensor([values], dtype=torch.float64)
    assert torch.isfinite(rotation_6d_to_axis_angle(x)).all()
    matrix = rotation_6d_to_matrix(x)[0]
    a, b = x.reshape(3, 2).T
    if torch.linalg.cross(a, b).norm() > 1e-3:
        eye = matrix.T @ matrix
        np.testing.assert_allclose(eye.numpy(), np.eye(3), atol=1e-6)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0.0, 0.8), (0.6, -0.8, 0.0)])
def test_half_turns_take_every_case_of_shepperd(axis: tuple[float, float, float]) -> None:
    unit = torch.tensor([axis], dtype=torch.float64)
    matrix = 2 * unit.T @ unit - torch.eye(3, dtype=torch.float64)
    vector = quaternion_to_axis_angle(matrix_to_quaternion(matrix[None]))
    np.testing.assert_allclose(rotation_matrices(vector.numpy())[0], matrix.numpy(), atol=1e-9)


def test_gradient_is_finite_at_the_identity() -> None:
    x = torch.tensor([[1.0, 0, 0, 1, 0, 0]], requires_grad=True)
    rotation_6d_to_axis_angle(x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()

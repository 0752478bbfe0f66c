"""The iterative regressor against its formula in NumPy."""

from __future__ import annotations

import numpy as np
import torch

from bhpe_compile.networks.layers.regressor import IterativeRegressor
from tests.networks.small import noise, scattered


def matrices(six: np.ndarray) -> np.ndarray:
    """Interleaved 6D [..., 6] -> rotation matrices [..., 3, 3] by Gram and Schmidt, in float64."""
    first, second = six[..., 0::2], six[..., 1::2]
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    second = second - (first * second).sum(-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack((first, second, np.cross(first, second)), -1)


def rounds(model: IterativeRegressor, rows: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    """Pose, shape and camera after `count` rounds, in float64."""
    state = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    estimate = [np.repeat(state[name], len(rows), 0) for name in ("init_pose", "init_shape", "init_cam")]
    for _ in range(count):
        hidden = linear("fc2", linear("fc1", np.concatenate((rows, *estimate), 1)))
        heads = ("decpose", "decshape", "deccam")
        estimate = [old + linear(name, hidden) for name, old in zip(heads, estimate, strict=True)]
    return tuple(estimate)


def test_three_rounds() -> None:
    """float32 against float64: sums of some 60 products in 9 layers, normalised at the end: 1e-4."""
    model = scattered(IterativeRegressor(20, joints=4, betas=5, hidden=32))
    rows = noise(3, 20)
    with torch.no_grad():
        out = model.regress(rows)
    pose, shape, camera = rounds(model, rows.double().numpy(), 3)
    np.testing.assert_allclose(out["rotations"].numpy(), matrices(pose.reshape(3, 4, 6)), atol=1e-4)
    np.testing.assert_allclose(out["betas"].numpy(), shape, atol=1e-4)
    np.testing.assert_allclose(out["camera"].numpy(), camera, atol=1e-4)
    two = rounds(model, rows.double().numpy(), 2)
    assert np.abs(two[1] - shape).max() > 0.01  # a round left out would show


def test_without_corrections_the_start_comes_out() -> None:
    model = IterativeRegressor(6)
    with torch.no_grad():
        for layer in (model.decpose, model.decshape, model.deccam):
            layer.weight.zero_()
            layer.bias.zero_()
        out = model.regress(noise(2, 6))
    assert torch.equal(out["rotations"][:, 0], torch.diag(torch.tensor([1.0, -1, -1])).expand(2, 3, 3))
    assert torch.equal(out["rotations"][:, 1:], torch.eye(3).expand(2, 23, 3, 3))
    assert torch.equal(out["betas"], torch.zeros(2, 10))
    assert torch.equal(out["camera"], torch.tensor([[0.9, 0, 0]] * 2))


def test_rotations_are_rotations() -> None:
    with torch.no_grad():
        matrix = scattered(IterativeRegressor(12)).regress(noise(4, 12))["rotations"].flatten(0, 1)
    eye = torch.eye(3).expand(len(matrix), 3, 3)
    torch.testing.assert_close(matrix.mT @ matrix, eye, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(len(matrix)), atol=1e-5, rtol=0)

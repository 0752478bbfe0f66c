"""The oracle's integers against torch, exactly."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bhpe_compile.check.verify.compare import difference, rotation_matrices
from bhpe_compile.check.verify.integers import BinaryLayer, unpack_signs
from bhpe_compile.networks.interface import Output


def layer(weight: np.ndarray, stride: int, padding: int, transposed: bool) -> BinaryLayer:
    channels = weight.shape[1]
    return BinaryLayer("l", weight, np.zeros(channels), channels, stride, padding, transposed, "x")


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 40),
    out=st.integers(1, 5),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    transposed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_accumulate_equals_torch(
    channels: int, out: int, kernel: int, stride: int, padding: int, transposed: bool, seed: int
) -> None:
    padding = min(padding, kernel - 1)
    rng = np.random.default_rng(seed)
    weight = rng.choice([-1.0, 1.0], (out, channels, kernel, kernel)).astype(np.float32)
    signs = rng.choice([-1.0, 1.0], (2, 5, 6, channels)).astype(np.float32)
    x, w = torch.from_numpy(signs).permute(0, 3, 1, 2), torch.from_numpy(weight)
    if transposed:
        want = functional.conv_transpose2d(x, w.transpose(0, 1), None, stride, padding)
    else:
        want = functional.conv2d(x, w, None, stride, padding)
    got = layer(weight, stride, padding, transposed).accumulate(signs)
    np.testing.assert_array_equal(got, want.permute(0, 2, 3, 1).numpy())


def test_unpack_cuts_border_and_spare_bits() -> None:
    bits = np.full((1, 3, 3, 4), 255, np.uint8)
    bits[0, 1, 1] = [0b00000101, 0, 0, 0]
    np.testing.assert_array_equal(unpack_signs(bits, 4, 1), [[[[1, -1, 1, -1]]]])


def test_rotations_near_pi_compare_as_rotations() -> None:
    a, b = np.array([[3.1415, 0, 0]]), np.array([[-3.1415, 0, 0]])
    assert np.abs(a - b).max() > 6
    assert difference(Output("pose", kind="axis-angle"), a, b) < 1e-3
    np.testing.assert_allclose(rotation_matrices(np.array([[0, 0, np.pi / 2]]))[0][0], [0, -1, 0], atol=1e-12)

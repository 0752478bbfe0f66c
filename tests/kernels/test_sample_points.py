"""Bilinear samples, equal bit by bit: torch, ONNX Runtime with and without its optimizations, NumPy, kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bhpe_compile.kernels import SamplePoints
from bhpe_compile.networks.layers import sample_points as _sample_points  # noqa: F401 (registers the operator)
from bhpe_compile.targets.isa import VectorIsa
from tests.exchange.operators import everywhere
from tests.kernels.native import NATIVE, Array, run

FEW = settings(max_examples=8, derandomize=True)


@st.composite
def samples(draw: st.DrawFn) -> tuple[Array, Array]:
    """A map [N, C, H, W] and points [N, J, 2]: on the grid or not, inside, across the border and far outside."""
    shape = tuple(
        draw(st.tuples(st.integers(1, 2), st.integers(1, 37), st.integers(1, 6), st.integers(1, 7)))
    )
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    points = rng.uniform(-2, 8, (shape[0], 12, 2))
    if draw(st.booleans()):
        points = np.rint(points * 4096) / 4096
    points[:, :5] = [[0, 0], [shape[3] - 1, shape[2] - 1], [-1, 0.5], [1e30, 0], [-1e30, np.inf]]
    return rng.standard_normal(shape).astype(np.float32), points.astype(np.float32)


def of(x: Array, points: Array) -> SamplePoints:
    n, c, h, w = x.shape
    return SamplePoints(n, h, w, c, points.shape[1])


def nhwc(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


@FEW
@given(samples())
def test_torch_and_onnx_runtime_are_numpy(drawn: tuple[Array, Array]) -> None:
    x, points = drawn
    want = of(x, points).reference(x=nhwc(x), points=points)["out"]
    for name, got in everywhere("SamplePoints", {"x": x, "points": points}).items():
        np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("isa", NATIVE)
@FEW
@given(samples())
def test_kernels_are_numpy(isa: VectorIsa, drawn: tuple[Array, Array]) -> None:
    """A fused multiply-add would give other sums."""
    x, points = drawn
    arrays = {"x": nhwc(x), "points": points}
    want = of(x, points).reference(**arrays)["out"]
    np.testing.assert_array_equal(run(of(x, points), isa, arrays)["out"], want)


def test_they_are_grid_samples() -> None:
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.standard_normal((2, 5, 6, 7))).requires_grad_()
    points = torch.from_numpy(np.rint(rng.uniform(-2, 8, (2, 30, 2)) * 4096) / 4096)
    grid = (points / torch.tensor([6, 5]) * 2 - 1)[:, :, None]
    want = functional.grid_sample(x, grid, align_corners=True)[:, :, :, 0].transpose(1, 2)
    got = torch.ops.bhpe.sample_points(x.float(), points.float())
    torch.testing.assert_close(got, want.float())
    g = torch.from_numpy(rng.standard_normal((2, 30, 5)))
    (expected,) = torch.autograd.grad(want, x, g)
    (gradient,) = torch.autograd.grad(got, x, g.float())
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-5)  # one is float32, the other float64


@pytest.mark.parametrize("isa", NATIVE)
def test_points_that_are_no_numbers_are_outside(isa: VectorIsa) -> None:
    x = np.ones((1, 4, 4, 9), np.float32)
    points = np.array([[[np.nan, 1], [1, np.nan], [-np.inf, 1], [1, np.inf], [1, 1]]], np.float32)
    got = run(SamplePoints(1, 4, 4, 9, 5), isa, {"x": x, "points": points})["out"]
    assert not got[0, :4].any()
    np.testing.assert_array_equal(got[0, 4], 1)
    for name, found in everywhere("SamplePoints", {"x": np.moveaxis(x, -1, 1), "points": points}).items():
        np.testing.assert_array_equal(found, got, err_msg=name)

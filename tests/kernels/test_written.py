"""What stands behind the last level, equal bit by bit: torch, ONNX Runtime, NumPy, kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bhpe_compile.kernels import CellMean, Kernel, Logistic, RotationVector
from bhpe_compile.networks.layers import written_torch as _written_torch  # noqa: F401 (registers the operators)
from bhpe_compile.targets.isa import VectorIsa
from tests.exchange.operators import everywhere
from tests.kernels.native import NATIVE, Array, run

FEW = settings(max_examples=8, derandomize=True)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Kernel, Array]:
    """An operator, its kernel and an input as the kernel takes it."""
    kind = draw(st.sampled_from(["RotationVector", "Logistic", "CellMean"]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    if kind == "RotationVector":
        rows = draw(st.integers(1, 60))
        vectors = rng.standard_normal((rows, 3)) * draw(st.sampled_from([1e-4, 1, 3]))
        six = Rotation.from_rotvec(vectors).as_matrix()[:, :, :2].reshape(-1, 6)
        x = six + rng.standard_normal((rows, 6)) * draw(st.sampled_from([0, 0.3]))
        x[0] = draw(st.sampled_from([[0.0] * 6, [1, 0, 0, 1, 0, 0], [1, 0, 0, -1, 0, 0], [1, 1, 0, 0, 0, 0]]))
        return kind, RotationVector(rows), x.astype(np.float32)
    if kind == "Logistic":
        shape = (draw(st.integers(1, 3)), draw(st.integers(1, 30)))
        x = rng.standard_normal(shape) * draw(st.sampled_from([1, 20, 200]))
        return kind, Logistic(shape), x.astype(np.float32)
    shape = tuple(
        draw(st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 7), st.integers(1, 40)))
    )
    x = rng.standard_normal(shape) * draw(st.sampled_from([1e-3, 1, 1e4]))
    return kind, CellMean(*shape), x.astype(np.float32)


@settings(FEW, max_examples=20)
@given(cases())
def test_torch_and_onnx_runtime_are_numpy(case: tuple[str, Kernel, Array]) -> None:
    kind, kernel, x = case
    want = kernel.reference(x=x)["out"]
    given_x = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if kind == "CellMean" else x
    for name, got in everywhere(kind, {"x": given_x}).items():
        np.testing.assert_array_equal(got, want, err_msg=f"{kind}, {name}")


@pytest.mark.parametrize("isa", NATIVE)
@settings(FEW, max_examples=20)
@given(cases())
def test_kernels_are_numpy(isa: VectorIsa, case: tuple[str, Kernel, Array]) -> None:
    kind, kernel, x = case
    np.testing.assert_array_equal(
        run(kernel, isa, {"x": x})["out"], kernel.reference(x=x)["out"], err_msg=kind
    )


def test_rotations_are_scipys() -> None:
    """Of angles up to 3: float32 numbers of size 1 through thirty operations."""
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((200, 3))
    vectors *= rng.uniform(0, 3, (200, 1)) / np.linalg.norm(vectors, axis=1, keepdims=True)
    six = Rotation.from_rotvec(vectors).as_matrix()[:, :, :2].reshape(-1, 6).astype(np.float32)
    got = torch.ops.bhpe.rotation_vector(torch.from_numpy(six)).numpy()
    np.testing.assert_allclose(got, vectors, rtol=0, atol=5e-6)


def test_the_logistic_function_is_one() -> None:
    x = np.linspace(-70, 70, 5001, dtype=np.float32)
    got = torch.ops.bhpe.logistic(torch.from_numpy(x)).numpy()
    inside = np.abs(x) <= 60
    np.testing.assert_allclose(got[inside], 1 / (1 + np.exp(-x[inside].astype(np.float64))), rtol=3e-7)


def test_gradients_are_those_of_the_float_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 5, generator=generator, requires_grad=True)
    for got, want in (
        (torch.ops.bhpe.logistic(x), torch.sigmoid(x)),
        (torch.ops.bhpe.cell_mean(x), x.mean((2, 3))),
    ):
        g = torch.randn(want.shape, generator=generator)
        torch.testing.assert_close(torch.autograd.grad(got, x, g), torch.autograd.grad(want, x, g))

"""Heat maps and positions, equal bit by bit: torch, ONNX Runtime with and without its optimizations, NumPy, kernels."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.kernels import HeatMap, SoftArgmax
from bhpe_compile.networks.layers import heat_maps as _heat_maps  # noqa: F401 (registers the operators)
from bhpe_compile.networks.layers.grids import CELL, TABLE
from bhpe_compile.targets.isa import VectorIsa
from tests.exchange.operators import everywhere
from tests.kernels.native import NATIVE, Array, run

FEW = settings(max_examples=8, derandomize=True)


@st.composite
def logits(draw: st.DrawFn) -> tuple[Array, int]:
    """float32 [N, J depth, H, W] and the depth: flat, sharp, with equal cells, and far below the largest."""
    depth, joints = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    shape = (draw(st.integers(1, 2)), joints * depth, draw(st.integers(1, 7)), draw(st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    x = rng.standard_normal(shape) * draw(st.sampled_from([0, 0.1, 3, 30, 1e4]))
    return (x + draw(st.sampled_from([0, -50, 1e3]))).astype(np.float32), depth


def nhwc(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


@FEW
@given(drawn=logits(), axes=st.sampled_from([2, 3]))
def test_torch_and_onnx_runtime_are_numpy(drawn: tuple[Array, int], axes: int) -> None:
    x, depth = drawn
    n, c, h, w = x.shape
    want = np.moveaxis(HeatMap(n, h, w, c, depth).reference(x=nhwc(x))["out"], -1, 1)
    for name, got in everywhere("HeatMap", {"x": x}, depth=depth).items():
        np.testing.assert_array_equal(got, want, err_msg=name)
    want = SoftArgmax(n, h, w, c, depth, axes).reference(x=nhwc(x))["out"]
    for name, got in everywhere("SoftArgmax", {"x": x}, depth=depth, axes=axes).items():
        np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("isa", NATIVE)
@FEW
@given(drawn=logits(), axes=st.sampled_from([2, 3]))
def test_kernels_are_numpy(isa: VectorIsa, drawn: tuple[Array, int], axes: int) -> None:
    x, depth = drawn
    n, c, h, w = x.shape
    for kernel in (HeatMap(n, h, w, c, depth), SoftArgmax(n, h, w, c, depth, axes)):
        arrays = {"x": nhwc(x)} | kernel.constants(isa, {})
        want = kernel.reference(**arrays)["out"]
        np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], want, err_msg=kernel.symbol())


@FEW
@given(drawn=logits(), axes=st.sampled_from([2, 3]))
def test_they_are_the_softmax(drawn: tuple[Array, int], axes: int) -> None:
    """Within the error of steps of 2^(1/1024), half a step, and of the last place."""
    x, depth = torch.from_numpy(drawn[0]), drawn[1]
    n, _, h, w = x.shape
    weight = torch.softmax(x.double().reshape(n, -1, depth * h * w), 2).reshape(n, -1, depth, h, w)
    heat = torch.ops.bhpe.heat_map(x, depth)
    torch.testing.assert_close(heat.double(), weight.reshape(x.shape), rtol=2.0**-10.4, atol=1e-7)
    grids = torch.meshgrid(*(torch.arange(k).double() for k in (depth, h, w)), indexing="ij")
    place = torch.stack([(weight * g).sum((2, 3, 4)) for g in reversed(grids)], 2)[:, :, :axes]
    got = torch.ops.bhpe.soft_argmax(x, depth, axes)
    # an exponential is off by 2^-11.5, a mean of two ends of the map by that much of its size
    torch.testing.assert_close(got.double(), place, rtol=0, atol=0.5 / CELL + max(h, w) * 2.0**-10.5)
    assert torch.equal((got * CELL).round(), got * CELL)


def test_gradients_are_those_of_the_softmax() -> None:
    x = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.softmax(x.reshape(2, 3, -1), 2).reshape(2, 3, 2, 4, 5)
    grids = torch.meshgrid(*(torch.arange(k).float() for k in (2, 4, 5)), indexing="ij")
    place = torch.stack([(weight * g).sum((2, 3, 4)) for g in reversed(grids)], 2)
    g_map, g_place = torch.randn_like(x.detach()), torch.randn(2, 3, 3)
    for got, want, g in (
        (torch.ops.bhpe.heat_map(x, 2), weight.reshape(x.shape), g_map),
        (torch.ops.bhpe.soft_argmax(x, 2, 3), place, g_place),
    ):
        torch.testing.assert_close(
            torch.autograd.grad(got, x, g)[0], torch.autograd.grad(want, x, g, retain_graph=True)[0]
        )


@pytest.mark.parametrize("isa", NATIVE)
def test_logits_that_are_no_numbers_write_nothing_else(isa: VectorIsa) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1], np.float32).reshape(1, 2, 2, 1).repeat(2, 3)
    x[..., 1] = -np.inf
    for kernel in (HeatMap(1, 2, 2, 2, 1), SoftArgmax(1, 2, 2, 2, 1, 3)):
        run(kernel, isa, {"x": x} | kernel.constants(isa, {}))


def test_no_entry_of_the_table_depends_on_the_mathematics_library() -> None:
    with localcontext() as context:
        context.prec = 40
        exact = [Decimal(2) ** (30 + Decimal(j) / 1024) for j in range(1024)]
    assert [round(entry) for entry in exact] == TABLE.tolist()
    assert min(abs(entry % 1 - Decimal("0.5")) for entry in exact) > Decimal("1e-4")

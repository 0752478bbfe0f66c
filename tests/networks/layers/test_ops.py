"""The bhpe ops against compositions of plain torch ops: values by equality, gradients in float64.

The float64 tolerance is for sums of the same terms in another order.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from bhpe_compile.networks.layers import ops

GRADIENT_TOLERANCE = 1e-10


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard` with the gradient of `soft`."""
    return hard.detach() + (soft - soft.detach())  # plus an exact zero


def plain_sign(x: Tensor, surrogate: str) -> Tensor:
    """Sign whose gradient autograd takes from F(x) or from the clipped identity."""
    hard = 1.0 - 2.0 * (x < 0).to(x.dtype)
    if surrogate == "ste":
        return straight_through(hard, x.clamp(-1, 1))
    inside = x.clamp(-1, 1)
    return straight_through(hard, torch.where(x < 0, inside * (inside + 2), inside * (2 - inside)))


def plain_conv(operands: list[Tensor], stride: int, padding: int, surrogate: str) -> Tensor:
    x, threshold, weight, scale, bias = operands
    bits = plain_sign(x - threshold[:, None, None], surrogate)
    y = functional.conv2d(bits, plain_sign(weight, "ste"), None, stride, padding)
    return y * scale[:, None, None] + bias[:, None, None]


def plain_conv_transpose(operands: list[Tensor], stride: int, padding: int, surrogate: str) -> Tensor:
    x, threshold, weight, scale, bias = operands
    bits = plain_sign(x - threshold[:, None, None], surrogate)
    y = functional.conv_transpose2d(bits, plain_sign(weight, "ste"), None, stride, padding)
    return y * scale[:, None, None] + bias[:, None, None]


def plain_linear(operands: list[Tensor], surrogate: str) -> Tensor:
    x, threshold, weight, scale, bias = operands
    return functional.linear(plain_sign(x - threshold, surrogate), plain_sign(weight, "ste")) * scale + bias


def plain_rprelu(x: Tensor, gamma: Tensor, beta: Tensor, zeta: Tensor) -> Tensor:
    gamma, beta, zeta = (p.view(1, -1, *[1] * (x.ndim - 2)) for p in (gamma, beta, zeta))
    return torch.where(x > gamma, x - gamma, beta * (x - gamma)) + zeta


def operands(seed: int, x: tuple[int, ...], channels: int, weight: tuple[int, ...], out: int) -> list[Tensor]:
    """x, threshold, weight, scale, bias in float64, with zeros (sign(0) = +1) and values outside [-1, 1]."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    some = [normal(*x) * 1.5, normal(channels) * 0.3, normal(*weight), normal(out), normal(out)]
    some[0].view(-1)[::7] = 0.0
    some[1][::2] = 0.0
    some[2].view(-1)[::5] = 0.0
    return some


def check_gradients(op: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    """`op` and `plain` have the same value, bit for bit, and the same gradients of a random functional."""
    ours = [one.clone().requires_grad_() for one in inputs]
    theirs = [one.clone().requires_grad_() for one in inputs]
    y, expected = op(*ours), plain(*theirs)
    assert torch.equal(y, expected)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=y.dtype)
    for got, want in zip(
        torch.autograd.grad(y, ours, g), torch.autograd.grad(expected, theirs, g), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=GRADIENT_TOLERANCE, atol=GRADIENT_TOLERANCE)


GEOMETRY = {
    "kernel": st.sampled_from([1, 2, 3, 4]),
    "stride": st.sampled_from([1, 2, 3]),
    "padding": st.sampled_from([0, 1]),
    "surrogate": st.sampled_from(["bireal", "ste"]),
    "seed": st.integers(0, 1000),
}


@given(**GEOMETRY)
@settings(max_examples=30)
def test_conv2d_equals_a_composition(
    kernel: int, stride: int, padding: int, surrogate: str, seed: int
) -> None:
    inputs = operands(seed, (2, 5, 7, 6), 5, (3, 5, kernel, kernel), 3)
    check_gradients(
        lambda *v: torch.ops.bhpe.binary_conv2d(*v, stride, padding, surrogate),
        lambda *v: plain_conv([*v], stride, padding, surrogate),
        inputs,
    )


@given(**GEOMETRY)
@settings(max_examples=30)
def test_conv_transpose2d_equals_a_composition(
    kernel: int, stride: int, padding: int, surrogate: str, seed: int
) -> None:
    inputs = operands(seed, (2, 5, 4, 6), 5, (5, 3, kernel, kernel), 3)
    check_gradients(
        lambda *v: torch.ops.bhpe.binary_conv_transpose2d(*v, stride, padding, surrogate),
        lambda *v: plain_conv_transpose([*v], stride, padding, surrogate),
        inputs,
    )


@pytest.mark.parametrize("surrogate", ["bireal", "ste"])
def test_linear_equals_a_composition(surrogate: str) -> None:
    check_gradients(
        lambda *v: torch.ops.bhpe.binary_linear(*v, surrogate),
        lambda *v: plain_linear([*v], surrogate),
        operands(1, (3, 11), 11, (4, 11), 4),
    )


@pytest.mark.parametrize("shape", [(3, 6), (2, 6, 5, 4)])
def test_rprelu_equals_a_composition(shape: tuple[int, ...]) -> None:
    x, gamma, _, beta, zeta = operands(2, shape, 6, (1,), 6)
    x.select(1, 1).fill_(gamma[1].item())  # exactly at the kink
    check_gradients(torch.ops.bhpe.rprelu, plain_rprelu, [x, gamma, beta, zeta])


def test_float32_sums_are_exact_integers() -> None:
    x, threshold, weight, _, _ = operands(4, (1, 300, 9, 9), 300, (8, 300, 3, 3), 8)
    unit = torch.ones(8), torch.zeros(8)
    y = ops.binary_conv2d(x.float(), threshold.float(), weight.float(), *unit, 1, 1)
    bits = (x.float() >= threshold.float()[:, None, None]).long() * 2 - 1
    patches = functional.unfold(bits.double(), 3, padding=1).long()
    expected = ((weight.float() >= 0).long() * 2 - 1).flatten(1) @ patches[0]
    assert torch.equal(y.long().flatten(2)[0], expected)
    assert torch.equal(y, y.round())


def test_padding_contributes_nothing() -> None:
    one = torch.ones(1, 1, 1, 1)
    y = ops.binary_conv2d(one, torch.zeros(1), torch.ones(1, 1, 3, 3), torch.ones(1), torch.zeros(1), 1, 1)
    assert y.item() == 1.0  # one tap meets the pixel, eight meet padding


def test_sign_of_zero_is_plus_one() -> None:
    zero = torch.zeros(1, 1)
    y = ops.binary_linear(zero, torch.zeros(1), zero, torch.ones(1), torch.zeros(1))
    assert y.item() == 1.0


def test_bireal_surrogate_at_chosen_points() -> None:
    x = torch.tensor([[-1.5, -1.0, -0.25, 0.0, 0.75, 1.0, 2.0]], requires_grad=True)
    one = torch.ones(1, 7)
    y = ops.binary_linear(x, torch.zeros(7), one, torch.ones(1), torch.zeros(1))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.tolist() == [[0.0, 0.0, 1.5, 2.0, 0.5, 0.0, 0.0]]


def test_unknown_surrogate_is_named() -> None:
    x = torch.zeros(1, 1, requires_grad=True)
    y = ops.binary_linear(x, torch.zeros(1), x, torch.ones(1), torch.zeros(1), "tanh")
    with pytest.raises(ValueError, match=r"'tanh'; known: bireal, ste"):
        y.sum().backward()


@pytest.mark.parametrize("case", ["conv", "deconv", "linear", "rprelu"])
def test_ops_obey_the_custom_op_rules(case: str) -> None:
    """Shapes of the fake kernels, schema, autograd registration and tracing, as torch itself checks them."""
    conv = [one.float().requires_grad_() for one in operands(5, (2, 5, 8, 6), 5, (3, 5, 3, 3), 3)]
    deconv = [one.float().requires_grad_() for one in operands(5, (2, 5, 8, 6), 5, (5, 3, 4, 4), 3)]
    linear = [one.float().requires_grad_() for one in operands(5, (2, 5), 5, (3, 5), 3)]
    cases = {
        "conv": (torch.ops.bhpe.binary_conv2d, (*conv, 2, 1)),
        "deconv": (torch.ops.bhpe.binary_conv_transpose2d, (*deconv, 2, 1)),
        "linear": (torch.ops.bhpe.binary_linear, tuple(linear)),
        "rprelu": (torch.ops.bhpe.rprelu, (conv[0], *[torch.rand(5, requires_grad=True) for _ in range(3)])),
    }
    op, inputs = cases[case]
    report = torch.library.opcheck(op, inputs)
    assert set(report.values()) == {"SUCCESS"}

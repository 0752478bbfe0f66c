"""Custom operators of the domain `bhpe`: one node each in torch.fx, torch.export and ONNX. NCHW.

    binary_conv2d            y = scale * conv(x >= t ? 1 : -1, w >= 0 ? 1 : -1) + bias
    binary_conv_transpose2d  the same with the transposed convolution
    binary_linear            the same with x W^T
    rprelu                   y = (x > gamma ? x - gamma : beta * (x - gamma)) + zeta

Padding comes after the sign: a padded tap contributes 0. The sums of +-1 are integers below 2^24, therefore
exact in float32 whatever their order; scale and bias are one multiplication and one addition.

Gradients, with g the gradient of y, g' = scale * g and <.,.> the inner product per output channel:

    d x = conv_backward_x(g') * surrogate(x - t)     d t = -sum of d x over all axes but the channel
    d w = conv_backward_w(g') * (|w| <= 1)           d bias = sum of g
    d scale = <g, conv(xb, wb)> = <conv_backward_w(g), wb>, so the forward sums need not be kept.

What is between heat maps and crops lives in `heat_maps.py`, `sample_points.py` and `crop.py`, what is behind the last
level in `written_torch.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library
from torch.nn import functional

from bhpe_compile.networks.layers.operator import batched, operator
from bhpe_compile.networks.layers.surrogate import centred, sign, signs_of, surrogate_gradient


def _channel(values: Tensor, like: Tensor) -> Tensor:
    """View `values` [C] so that it broadcasts along axis 1 of `like`, in its dtype (bfloat16 under autocast)."""
    return values.view(1, -1, *[1] * (like.ndim - 2)).to(like.dtype)


def _sum_to_channel(x: Tensor) -> Tensor:
    """Sum `x` [N, C, ...] over every axis but the channel: [C]. A product with ones is the fastest sum there is."""
    rows = x.movedim(1, -1).reshape(-1, x.shape[1])
    return (rows.new_ones(1, rows.shape[0]) @ rows)[0]


def _as(g: Tensor, x: Tensor) -> Tensor:
    """A gradient in the dtype and the memory format of what it belongs to: mixed formats are many times slower."""
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return g.to(x.dtype).contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


def _affine(dot: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """scale * dot + bias along axis 1, in place: most of the time of a step goes into passes over memory."""
    return dot.mul_(_channel(scale, dot)).add_(_channel(bias, dot))


# ---- convolution and transposed convolution --------------------------------------------------------------


@operator
def binary_conv2d(
    x: Tensor,
    threshold: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    stride: int,
    padding: int,
    surrogate: str = "bireal",
) -> Tensor:
    """Binary convolution: x [N,Cin,H,W], threshold [Cin], weight [Cout,Cin,kh,kw], scale and bias [Cout].

    Returns [N, Cout, (H + 2 padding - kh) // stride + 1, (W + 2 padding - kw) // stride + 1].
    `surrogate` only steers the gradient; exported (frozen) layers leave it at its default.
    """
    bits = sign(x, _channel(threshold, x))
    dot = functional.conv2d(bits, sign(weight).to(x.dtype), None, stride, padding)
    return _affine(dot, scale, bias)


def _binary_conv2d_shape(
    x: Tensor,
    threshold: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    stride: int,
    padding: int,
    surrogate: str = "bireal",
) -> Tensor:
    height, width = ((x.shape[axis] + 2 * padding - weight.shape[axis]) // stride + 1 for axis in (2, 3))
    return x.new_empty(x.shape[0], weight.shape[0], height, width)


library.register_fake("bhpe::binary_conv2d", _binary_conv2d_shape)
batched("binary_conv2d", 1)


@operator
def binary_conv_transpose2d(
    x: Tensor,
    threshold: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    stride: int,
    padding: int,
    surrogate: str = "bireal",
) -> Tensor:
    """Binary transposed convolution: x [N,Cin,H,W], weight [Cin,Cout,kh,kw], scale and bias [Cout].

    Returns [N, Cout, (H - 1) stride - 2 padding + kh, (W - 1) stride - 2 padding + kw].
    """
    bits = sign(x, _channel(threshold, x))
    dot = functional.conv_transpose2d(bits, sign(weight).to(x.dtype), None, stride, padding)
    return _affine(dot, scale, bias)


def _binary_conv_transpose2d_shape(
    x: Tensor,
    threshold: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    stride: int,
    padding: int,
    surrogate: str = "bireal",
) -> Tensor:
    height, width = ((x.shape[axis] - 1) * stride - 2 * padding + weight.shape[axis] for axis in (2, 3))
    return x.new_empty(x.shape[0], weight.shape[1], height, width)


library.register_fake("bhpe::binary_conv_transpose2d", _binary_conv_transpose2d_shape)
batched("binary_conv_transpose2d", 1)


def _save_conv(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, threshold, weight, scale, _bias, ctx.stride, ctx.padding, ctx.surrogate = inputs
    ctx.save_for_backward(x, threshold, weight, scale)


def _conv_backward(ctx: Any, g: Tensor, transposed: bool) -> tuple[Tensor | None, ...]:
    x, threshold, weight, scale = ctx.saved_tensors
    need_x, need_threshold, need_weight, need_scale, need_bias = ctx.needs_input_grad[:5]
    difference = centred(x, _channel(threshold, x))
    signs = sign(weight)
    out_axis = 1 if transposed else 0
    along_out = [-1 if axis == out_axis else 1 for axis in range(4)]
    grad_bits, signs_grad, _ = torch.ops.aten.convolution_backward(
        _as(g, x),
        signs_of(difference),
        (signs * scale.view(along_out)).to(x.dtype),  # the scale of g' moved into the weights: fewer elements
        None,
        [ctx.stride] * 2,
        [ctx.padding] * 2,
        [1, 1],
        transposed,
        [0, 0],
        1,
        [need_x or need_threshold, need_weight or need_scale, False],
    )
    grad_x = (
        surrogate_gradient(difference, ctx.surrogate).mul_(grad_bits) if need_x or need_threshold else None
    )
    grad_signs: Any = None if signs_grad is None else signs_grad.to(weight.dtype)
    others = [axis for axis in range(4) if axis != out_axis]
    return (
        grad_x if need_x else None,
        -_sum_to_channel(grad_x) if grad_x is not None and need_threshold else None,
        grad_signs * scale.view(along_out) * surrogate_gradient(weight, "ste") if need_weight else None,
        (grad_signs * signs).sum(others) if need_scale else None,
        _sum_to_channel(g) if need_bias else None,
        None,
        None,
        None,
    )


def _conv2d_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    return _conv_backward(ctx, g, transposed=False)


def _conv_transpose2d_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    return _conv_backward(ctx, g, transposed=True)


library.register_autograd("bhpe::binary_conv2d", _conv2d_backward, setup_context=_save_conv)
library.register_autograd(
    "bhpe::binary_conv_transpose2d", _conv_transpose2d_backward, setup_context=_save_conv
)


# ---- linear ----------------------------------------------------------------------------------------------


@operator
def binary_linear(
    x: Tensor, threshold: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, surrogate: str = "bireal"
) -> Tensor:
    """Binary linear layer: x [N,K], threshold [K], weight [O,K], scale and bias [O]. Returns [N,O]."""
    return _affine(functional.linear(sign(x, _channel(threshold, x)), sign(weight).to(x.dtype)), scale, bias)


def _binary_linear_shape(
    x: Tensor, threshold: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, surrogate: str = "bireal"
) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


library.register_fake("bhpe::binary_linear", _binary_linear_shape)
batched("binary_linear", 1)


def _save_linear(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, threshold, weight, scale, _bias, ctx.surrogate = inputs
    ctx.save_for_backward(x, threshold, weight, scale)


def _linear_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, threshold, weight, scale = ctx.saved_tensors
    g, difference, signs = _as(g, x), centred(x, _channel(threshold, x)), sign(weight)
    grad_x = (g * _channel(scale, g)) @ signs.to(x.dtype) * surrogate_gradient(difference, ctx.surrogate)
    grad_signs = (g.T @ signs_of(difference)).to(weight.dtype)
    grad_weight = grad_signs * scale[:, None] * surrogate_gradient(weight, "ste")
    return grad_x, -grad_x.sum(0), grad_weight, (grad_signs * signs).sum(1), g.sum(0), None


library.register_autograd("bhpe::binary_linear", _linear_backward, setup_context=_save_linear)


# ---- RPReLU ----------------------------------------------------------------------------------------------


@operator
def rprelu(x: Tensor, gamma: Tensor, beta: Tensor, zeta: Tensor) -> Tensor:
    """Shifted parametric ReLU per channel (axis 1) of x [N,C] or [N,C,H,W]; gamma, beta, zeta [C].

    ReActNet, arXiv 2003.03488, equation 8. At x == gamma both branches give zeta.
    """
    shifted = x - _channel(gamma, x)  # torch's prelu takes ten times as long on channel-last tensors
    below = shifted.clamp(max=0).mul_(_channel(beta, x))
    return shifted.clamp_(min=0).add_(below).add_(_channel(zeta, x))


def _rprelu_shape(x: Tensor, gamma: Tensor, beta: Tensor, zeta: Tensor) -> Tensor:
    return torch.empty_like(x)


library.register_fake("bhpe::rprelu", _rprelu_shape)
batched("rprelu", 1)


def _save_rprelu(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _rprelu_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, gamma, beta = ctx.saved_tensors
    g, shifted = _as(g, x), x - _channel(gamma, x)
    below, slope = sign(-shifted), _channel(beta, x)  # below: +1 where shifted <= 0, else -1
    grad_x = below.mul_((slope - 1) / 2).add_((slope + 1) / 2).mul_(g)
    grad_beta = _sum_to_channel(shifted.clamp_(max=0).mul_(g))
    return grad_x, -_sum_to_channel(grad_x), grad_beta, _sum_to_channel(g)


library.register_autograd("bhpe::rprelu", _rprelu_backward, setup_context=_save_rprelu)

"""Layers whose weights and activations are +-1, as they stand in a trainable network.

    y_o = alpha_o * op(x >= t ? 1 : -1, w >= 0 ? 1 : -1)_o + bias_o,      alpha_o = mean |W_o|

A layer takes over the real-valued weight of the float layer it replaces under the same name and shape, so a
full-precision checkpoint loads into it. alpha is computed from the weight in every forward pass and has a
gradient; `freeze()` makes it a constant, because another runtime's mean may differ in the last bit.

`threshold` and `bias` are always tensors: parameters where they are learnt (`learnable_threshold`, a float
layer with a bias), else buffers. A threshold begins at the float layer's `NEUTRAL` values, where it names some, else
at 0.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from bhpe_compile.networks.layers import ops  # noqa: F401 (registers torch.ops.bhpe)
from bhpe_compile.networks.layers.surrogate import SURROGATES, Surrogate

NEUTRAL = "neutral"
"""Name of a buffer [Cin] of a float layer: the values that its inputs have where nothing is known. Behind a softmax
that is no 0, and a sign that compares with 0 would be constant."""


def _neutral(layer: nn.Module) -> Tensor | None:
    """The buffer of that name of `layer`, or None."""
    return dict(layer.named_buffers(recurse=False)).get(NEUTRAL)


def _parameter(values: Tensor) -> nn.Parameter:
    """`values` itself where it is a parameter already (taken over, not copied)."""
    return values if isinstance(values, nn.Parameter) else nn.Parameter(values)


class BinaryLayer(nn.Module):
    """What the three binary layers share: weight, threshold, bias, alpha and its freezing."""

    out_axis: ClassVar[int] = 0
    """The axis of `weight` that counts output channels."""

    weight: Tensor
    threshold: Tensor
    bias: Tensor
    frozen_scale: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        in_channels: int,
        learnable_threshold: bool = False,
        surrogate: Surrogate = "bireal",
        neutral: Tensor | None = None,
    ) -> None:
        super().__init__()
        if surrogate not in SURROGATES:
            raise ValueError(f"unknown surrogate gradient {surrogate!r}; known: {', '.join(SURROGATES)}")
        self.weight = _parameter(weight)
        self.in_channels = in_channels
        self.out_channels = weight.shape[self.out_axis]
        self.surrogate = surrogate
        threshold = weight.detach().new_zeros(in_channels)
        if neutral is not None:
            threshold.copy_(neutral)
        if learnable_threshold:
            self.threshold = nn.Parameter(threshold)
        else:
            self.register_buffer("threshold", threshold)
        if bias is None:
            self.register_buffer("bias", weight.detach().new_zeros(self.out_channels))
        else:
            self.bias = _parameter(bias)
        self.register_buffer("frozen_scale", None, persistent=False)

    def scale(self) -> Tensor:
        """Return alpha [Cout] = mean |W_o|: the frozen constant, or live with its gradient."""
        if self.frozen_scale is not None:
            return self.frozen_scale
        return self.weight.abs().mean([axis for axis in range(self.weight.ndim) if axis != self.out_axis])

    def freeze(self) -> None:
        """Make alpha a constant buffer and the gradient's name disappear from the exported node."""
        self.frozen_scale = self.scale().detach().clone()
        self.surrogate = "bireal"

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, surrogate={self.surrogate}"

    def _gradient_option(self) -> tuple[str, ...]:
        """The trailing argument of the op; left out at its default, so exported nodes do not carry it."""
        return () if self.surrogate == "bireal" else (self.surrogate,)


def _convolution_refusal(layer: nn.Conv2d | nn.ConvTranspose2d) -> str | None:
    """Why the geometry of `layer` has no binary form, or None."""
    if layer.groups != 1:
        return f"grouped convolution (groups={layer.groups}): too few +-1 products per output"
    if tuple(layer.dilation) != (1, 1):
        return f"dilation {tuple(layer.dilation)} has no binary kernel"
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return f"padding {layer.padding!r} of mode {layer.padding_mode!r}: only numeric zero padding"
    if layer.stride[0] != layer.stride[1] or layer.padding[0] != layer.padding[1]:
        return (
            f"stride {tuple(layer.stride)} and padding {tuple(layer.padding)} must be the same on both axes"
        )
    return None


class _BinaryConvolution(BinaryLayer):
    """What the two convolutions share: stride, padding, and taking over a float layer."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int = 1,
        padding: int = 0,
        learnable_threshold: bool = False,
        surrogate: Surrogate = "bireal",
        neutral: Tensor | None = None,
    ) -> None:
        in_channels = weight.shape[1 - self.out_axis]
        super().__init__(weight, bias, in_channels, learnable_threshold, surrogate, neutral)
        self.stride = stride
        self.padding = padding

    @classmethod
    def from_float(
        cls,
        layer: nn.Conv2d | nn.ConvTranspose2d,
        learnable_threshold: bool = False,
        surrogate: Surrogate = "bireal",
    ) -> Self:
        """Take over weight and bias (not copied) of a layer that `refusal` accepts."""
        geometry = layer.stride[0], int(layer.padding[0])
        return cls(layer.weight, layer.bias, *geometry, learnable_threshold, surrogate, _neutral(layer))

    def _arguments(self) -> tuple[Tensor | int | str, ...]:
        """Of the op, after x."""
        tensors = self.threshold, self.weight, self.scale(), self.bias
        return *tensors, self.stride, self.padding, *self._gradient_option()


class BinaryConv2d(_BinaryConvolution):
    """x [N, Cin, H, W] -> [N, Cout, H', W'], padded with zeros after the sign."""

    @staticmethod
    def refusal(layer: nn.Conv2d) -> str | None:
        """Why `layer` cannot become a BinaryConv2d, or None when it can."""
        return _convolution_refusal(layer)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.bhpe.binary_conv2d(x, *self._arguments())
        return out


class BinaryConvTranspose2d(_BinaryConvolution):
    """x [N, Cin, H, W] -> [N, Cout, H', W']; weight [Cin, Cout, kh, kw], alpha over (Cin, kh, kw)."""

    out_axis = 1

    @staticmethod
    def refusal(layer: nn.ConvTranspose2d) -> str | None:
        """Why `layer` cannot become a BinaryConvTranspose2d, or None when it can."""
        if tuple(layer.output_padding) != (0, 0):
            return f"output_padding {tuple(layer.output_padding)} has no binary kernel"
        return _convolution_refusal(layer)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.bhpe.binary_conv_transpose2d(x, *self._arguments())
        return out


class BinaryLinear(BinaryLayer):
    """x [N, K] -> [N, O]."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        learnable_threshold: bool = False,
        surrogate: Surrogate = "bireal",
        neutral: Tensor | None = None,
    ) -> None:
        super().__init__(weight, bias, weight.shape[1], learnable_threshold, surrogate, neutral)

    @staticmethod
    def refusal(layer: nn.Linear) -> str | None:
        """Every nn.Linear has a binary form."""
        return None

    @classmethod
    def from_float(
        cls, layer: nn.Linear, learnable_threshold: bool = False, surrogate: Surrogate = "bireal"
    ) -> Self:
        """Take over weight and bias (not copied)."""
        return cls(layer.weight, layer.bias, learnable_threshold, surrogate, _neutral(layer))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.bhpe.binary_linear(
            x, self.threshold, self.weight, self.scale(), self.bias, *self._gradient_option()
        )
        return out


class RPReLU(nn.Module):
    """Shifted parametric ReLU on axis 1 of [N, C(, H, W)]: slope `beta` below `gamma`, then plus `zeta`."""

    def __init__(
        self, channels: int, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        self.beta = nn.Parameter(torch.full((channels,), 0.25, device=device, dtype=dtype))
        self.zeta = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.bhpe.rprelu(x, self.gamma, self.beta, self.zeta)
        return out

    def extra_repr(self) -> str:
        return f"{self.gamma.numel()}"

"""What a compiled network rounds, as a trainable network computes it.

    float16   x -> float16(x), for feature maps that are kept: residuals and shortcuts
    8 bits    input with range [low, high], low <= 0 <= high:   x -> (clip(round(x / step) + zero, 0, 255) - zero) step,
                                                                step = (high - low) / 255,  zero = round(-low / step)
              weights of an output channel o:                   W -> round(W / step) step,  step = max |W_o| / 127

Rounding is half to even, as in the passes quantize-dense and half-residuals. The gradient of a rounding is that of the
identity (straight-through; Jacob et al., arXiv 1712.05877). A batch norm behind a layer scales whole output channels,
so the levels of W are the same before and after it is folded into W.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.networks.levels import INPUT_LEVELS

Range = tuple[float, float]
"""(low, high), low <= 0 <= high."""

Ranges = Mapping[str, Range]
"""By the layer's path."""

WEIGHT_LEVELS = 127


FLOAT16_MAX = 65504.0

FLOAT16_SMALL = 2.0**-12
"""Below it the steps of float16 (2^-24 near 0) are more than 2^-12 of a tensor's largest magnitude."""


def fits_float16(weight: Tensor) -> bool:
    """Whether float16 keeps `weight` to its usual precision, measured at its largest magnitude."""
    largest = weight.abs().max().item() if weight.numel() else 0.0
    return largest == 0 or FLOAT16_SMALL <= largest <= FLOAT16_MAX


class Half(nn.Module):
    """x -> float16(x), in the dtype of x. Under autocast nothing: bfloat16 is coarser already."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.dtype == torch.bfloat16 else _straight_through(x, x.half().to(x.dtype))


class RoundedLinear(nn.Linear):
    """nn.Linear with 8-bit weights; its input stays as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, round_weight(self.weight, 0), self.bias)


class RoundedInput(nn.Module):
    """The range of a convolution's input: `span`, or without one, and in training, that of the batch at hand."""

    span: Range | None = None

    def round(self, x: Tensor) -> Tensor:
        """x in 8 bits."""
        if self.span == (0, 0):
            return x  # nothing is known of it; quantize-dense leaves the layer float
        if self.span is None or self.training:
            least, most = x.detach().aminmax()
            return round_input(x, least.clamp(max=0), most.clamp(min=0))
        return round_input(x, *x.new_tensor(self.span, dtype=torch.float64))


class RoundedConv2d(RoundedInput, nn.Conv2d):
    """nn.Conv2d with 8-bit weights and input."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(self.round(x), round_weight(self.weight, 0), self.bias)
        return out


class RoundedConvTranspose2d(RoundedInput, nn.ConvTranspose2d):
    """nn.ConvTranspose2d with 8-bit weights and input, without an output size of its own."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return functional.conv_transpose2d(
            self.round(x),
            round_weight(self.weight, 1),
            self.bias,
            self.stride,
            self.padding,  # type: ignore[arg-type]
            self.output_padding,
            self.groups,
            self.dilation,
        )


def round_input(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x on the 256 levels of [low, high], low <= 0 <= high."""
    with torch.no_grad():
        step = _above_0((high.double() - low.double()) / INPUT_LEVELS)
        zero = (-low / step).float().round().clamp(0, INPUT_LEVELS)
        levels = (x.float() / step).round_().add_(zero).clamp_(0, INPUT_LEVELS)
        values = levels.sub_(zero).mul_(step).to(x.dtype)
    return _straight_through(x, values)


def round_weight(weight: Tensor, out_axis: int) -> Tensor:
    """A weight on 255 levels for each index of `out_axis`."""
    with torch.no_grad():
        others = [axis for axis in range(weight.ndim) if axis != out_axis]
        step = _above_0(weight.double().abs().amax(others, keepdim=True) / WEIGHT_LEVELS)
        values = (weight / step).round_().mul_(step)
    return _straight_through(weight, values)


def _above_0(step: Tensor) -> Tensor:
    """As float32; 1 where all values are 0, which stay 0."""
    step = step.float()
    return torch.where(step > 0, step, torch.ones_like(step))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g, None


def _straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """`rounded`, with the gradient of x."""
    found: Tensor = _StraightThrough.apply(x, rounded)  # type: ignore[no-untyped-call]
    return found


def rounded_form(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """The rounded layer that shares everything with `layer`."""
    kinds: dict[type, Any] = {
        nn.Linear: RoundedLinear,
        nn.Conv2d: RoundedConv2d,
        nn.ConvTranspose2d: RoundedConvTranspose2d,
    }
    kind = next(kind for base, kind in kinds.items() if isinstance(layer, base))
    result: nn.Module = kind.__new__(kind)
    result.__dict__.update(layer.__dict__)
    return result

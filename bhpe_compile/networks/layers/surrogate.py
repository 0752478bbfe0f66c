"""The sign function and the two gradients that stand in for its own, which is zero almost everywhere.

    sign(x)   = +1 for x >= 0, -1 below                      sign(0) = +1 by definition
    bireal    : derivative of F(x) = -1 | x^2 + 2x | 2x - x^2 | 1, that is 2 - 2|x| for |x| <= 1, else 0
                (Bi-Real Net, arXiv 1808.00278, equation 7; the first branch holds below -1, the last above 1)
    ste       : 1 for |x| <= 1, else 0                       (clipped straight-through estimator)

Weights always use `ste`; activations use the one a layer asks for.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Surrogate = Literal["bireal", "ste"]

SURROGATES: tuple[str, ...] = get_args(Surrogate)


def sign(x: Tensor, threshold: Tensor | float = 0.0) -> Tensor:
    """Return +1 where `x >= threshold`, else -1, in the dtype of `x`; no NaN may be in it."""
    return signs_of(centred(x, threshold))


def centred(x: Tensor, threshold: Tensor | float = 0.0) -> Tensor:
    """Return `x - threshold`, nowhere -0: its sign bits are the signs.

    A difference is -0 only for -0 less +0, and -0 less -0 is +0: a threshold of 0 is made -0 before.
    """
    return x - -(0.0 - threshold)


def signs_of(difference: Tensor) -> Tensor:
    """Return the signs of what `centred` returned; copying a bit is many times faster than comparing and selecting."""
    return torch.copysign(difference.new_ones(()), difference)


def surrogate_gradient(x: Tensor, surrogate: str) -> Tensor:
    """Return the derivative that replaces d sign(x) / dx, elementwise, in the dtype of `x`."""
    if surrogate == "bireal":
        return x.abs().mul_(-2.0).add_(2.0).clamp_(min=0.0)
    if surrogate == "ste":
        return (x.abs() <= 1.0).to(x.dtype)
    raise ValueError(f"unknown surrogate gradient {surrogate!r}; known: {', '.join(SURROGATES)}")

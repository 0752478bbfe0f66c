"""Fusion Up: C -> k C, stride 1.

    y = RPReLU(BN(concat_k(bconv_k(sign(a)))) + concat_k(a))

The k convolutions C -> C read the same input: they are one convolution whose k C rows are theirs.
"""

from __future__ import annotations

from bhpe_compile.passes.binarize.core import CoreConvPass


class FusionUp(CoreConvPass):
    """Binarizes core convolutions that multiply the channels."""

    name = "fusion-up"
    summary = "core convolutions C -> k C: residual repeated k times"
    ensures = ("fusion-up decided",)
    residual = "repeated"

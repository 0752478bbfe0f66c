"""Plain: C -> C, stride 1.

y = RPReLU(BN(bconv(sign(a))) + a)
"""

from __future__ import annotations

from bhpe_compile.passes.binarize.core import CoreConvPass


class Plain(CoreConvPass):
    """Binarizes core convolutions that keep channels and size."""

    name = "plain"
    summary = "core convolutions C -> C, stride 1: identity residual"
    ensures = ("plain decided",)
    residual = "identity"

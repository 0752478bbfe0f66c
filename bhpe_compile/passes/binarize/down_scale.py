"""Down Scale: C -> C, stride 2.

y = RPReLU(BN(bconv(sign(a))) + avgpool_2x2(a))
"""

from __future__ import annotations

from bhpe_compile.passes.binarize.core import CoreConvPass


class DownScale(CoreConvPass):
    """Binarizes core convolutions that halve the map."""

    name = "down-scale"
    summary = "core convolutions C -> C, stride 2: pooled residual"
    ensures = ("down-scale decided",)
    residual = "2x2 average pool"

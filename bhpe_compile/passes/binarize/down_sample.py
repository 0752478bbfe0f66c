"""Down Sample: C -> k C, stride 2.

    y = RPReLU(BN(concat_k(bconv_k(sign(a)))) + concat_k(avgpool_2x2(a)))

The k convolutions read the same input: they are one convolution whose k C rows are theirs, one after the
other.
"""

from __future__ import annotations

from bhpe_compile.passes.binarize.core import CoreConvPass


class DownSample(CoreConvPass):
    """Binarizes core convolutions that halve the map and multiply the channels."""

    name = "down-sample"
    summary = "core convolutions C -> k C, stride 2: pooled residual, repeated"
    ensures = ("down-sample decided",)
    residual = "2x2 average pool, repeated"

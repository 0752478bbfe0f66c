"""Fusion Down: C -> C/k, stride 1.

    y = RPReLU(BN(1/k sum_k bconv_k(sign(a_k))) + 1/k sum_k a_k),   a = a_1 | ... | a_k

The k convolutions C/k -> C/k share alpha and BN, so their sum is one convolution over all C inputs. The
factor 1/k of the convolutions is absorbed by BN (its statistics scale with its input); that of the residual
is not.
"""

from __future__ import annotations

from bhpe_compile.passes.binarize.core import CoreConvPass


class FusionDown(CoreConvPass):
    """Binarizes core convolutions that divide the channels."""

    name = "fusion-down"
    summary = "core convolutions C -> C/k: residual averaged over k groups"
    ensures = ("fusion-down decided",)
    residual = "mean over groups of channels"

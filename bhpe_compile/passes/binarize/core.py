"""The five kinds of core convolution (BiDRB): what they share.

    y = RPReLU(BN(alpha * bconv(sign(a))) + residual(a)),   a = Hardtanh(x)

One file per kind names its residual. Schemes without local residuals leave it out and keep the rest.
"""

from __future__ import annotations

from typing import ClassVar

from torch import fx, nn

from bhpe_compile.passes.binarize.decide import BinarizePass
from bhpe_compile.passes.binarize.rewrite import Around, make_binary
from bhpe_compile.passes.binarize.sites import Site


def core_refusal(graph: fx.GraphModule, site: Site, local_residual: bool) -> str | None:
    """Why a core convolution cannot be made binary where it stands, or None."""
    if Around.of(graph, site.node).norm is None:
        return "no batch normalisation follows: nothing would bring the integer sums to the residual's range"
    layer = site.layer
    assert isinstance(layer, nn.Conv2d)  # sites.owner gives core passes nothing else
    same_size = layer.kernel_size[0] % 2 == 1 and layer.padding == tuple(k // 2 for k in layer.kernel_size)
    if local_residual and not same_size:
        return (
            f"kernel {tuple(layer.kernel_size)} with padding {layer.padding} changes the size of the map, "
            "which its local residual cannot follow"
        )
    return None


class CoreConvPass(BinarizePass):
    """Makes the core convolutions of one kind binary."""

    residual: ClassVar[str]
    """The kind's local residual in words."""

    def scheme_refusal(self, graph: fx.GraphModule, site: Site) -> str | None:
        """Every scheme makes core convolutions binary."""
        return None

    def shape_refusal(self, graph: fx.GraphModule, site: Site) -> str | None:
        """The residual needs BN beside it and a map of the right size."""
        return core_refusal(graph, site, self.options.scheme.local_residual)

    def rewrite(self, graph: fx.GraphModule, site: Site) -> str:
        """Insert the clip, the binary convolution, the residual and the activation."""
        scheme = self.options.scheme
        make_binary(graph, site, self.options, residual=scheme.local_residual, activation="always")
        return f"residual: {self.residual}" if scheme.local_residual else f"scheme {scheme.name}: no residual"

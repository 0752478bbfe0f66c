"""The 1x1 convolutions in the shortcuts of blocks whose sizes differ (Block Residual, BR).

    conv1x1 -> BN      becomes, in schemes with binary shortcuts,   Hardtanh -> BinaryConv2d -> BN

In BiDRN they are not binary: they are the path on which a block's input travels unbinarized.
"""

from __future__ import annotations

from torch import fx

from bhpe_compile.passes.binarize.decide import BinarizePass
from bhpe_compile.passes.binarize.rewrite import make_binary
from bhpe_compile.passes.binarize.sites import Site


class Shortcuts(BinarizePass):
    """Binarizes the shortcut convolutions where the scheme or the user wants it."""

    name = "shortcuts"
    summary = "shortcut 1x1 convolutions, in schemes that make them binary"
    ensures = ("shortcuts decided",)

    def scheme_refusal(self, graph: fx.GraphModule, site: Site) -> str | None:
        """BiDRN's block residual is not binary by definition."""
        scheme = self.options.scheme
        if "shortcut" in scheme.binary_roles:
            return None
        return f"block residual: scheme {scheme.name} makes no shortcut binary"

    def rewrite(self, graph: fx.GraphModule, site: Site) -> str:
        """Insert the clip and the binary convolution; BN and the sum stay."""
        make_binary(graph, site, self.options, residual=False, activation="instead_of_relu")
        return "binary shortcut"

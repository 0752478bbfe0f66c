"""Branches: transposed convolutions and linear layers that predict something, fit to be binary.

    deconv -> BN -> ReLU      becomes   Hardtanh -> BinaryConvTranspose2d -> BN -> RPReLU
    Linear -> ReLU -> Linear  becomes   Hardtanh -> BinaryLinear -> RPReLU -> Hardtanh -> BinaryLinear

No local residual: the shapes differ. The ReLU goes because the sign of its output would be constant. So would be,
with a threshold of 0, the sign of inputs that are never negative (a soft-maxed heat map): a layer may carry the values
its inputs have where nothing is known, and they are its thresholds, in every scheme. Which layers these are says the
network's description; BiDRN's Binarized BoxNet is one (BinaryHPE, arXiv 2311.14323).
"""

from __future__ import annotations

from torch import fx

from bhpe_compile.passes.binarize.decide import BinarizePass
from bhpe_compile.passes.binarize.rewrite import make_binary
from bhpe_compile.passes.binarize.sites import Site


class Branch(BinarizePass):
    """Binarizes the transposed convolutions and linear layers that the description calls branches."""

    name = "branch"
    summary = "branches of the description (BoxNet): transposed convolutions and linear layers"
    ensures = ("branch decided",)

    def scheme_refusal(self, graph: fx.GraphModule, site: Site) -> str | None:
        """Some schemes leave branches alone."""
        scheme = self.options.scheme
        return (
            None if "branch" in scheme.binary_roles else f"scheme {scheme.name} does not make branches binary"
        )

    def rewrite(self, graph: fx.GraphModule, site: Site) -> str:
        """Insert the clip and the binary layer; a ReLU behind becomes the scheme's activation."""
        make_binary(graph, site, self.options, residual=False, activation="instead_of_relu")
        return f"branch, {type(graph.get_submodule(site.path)).__name__}"

"""Binarized BoxNet: the three transposed convolutions and the linear layers that predict the box sizes.

    deconv -> BN -> ReLU      becomes   Hardtanh -> BinaryConvTranspose2d -> BN -> RPReLU
    Linear -> ReLU -> Linear  becomes   Hardtanh -> BinaryLinear -> RPReLU -> Hardtanh -> BinaryLinear

No local residual: the shapes differ. The ReLU goes because the sign of its output would be constant. So would be,
with a threshold of 0, the sign of the soft-maxed heat map among the inputs of the first layer: there it is 1 / cells,
the probability of a cell where nothing is known (`networks/hand4whole/boxes.py`), in every scheme. The 1x1
convolution in front of the soft-argmax is a head and stays as it is.
"""

from __future__ import annotations

from torch import fx

from bhpe_compile.passes.binarize.decide import BinarizePass
from bhpe_compile.passes.binarize.rewrite import make_binary
from bhpe_compile.passes.binarize.sites import Site


class BoxNet(BinarizePass):
    """Binarizes transposed convolutions and linear layers of a BoxNet."""

    name = "box-net"
    summary = "BoxNet: transposed convolutions and linear layers of the box sizes"
    ensures = ("box-net decided",)

    def scheme_refusal(self, site: Site) -> str | None:
        """Some schemes leave BoxNet alone."""
        scheme = self.options.scheme
        return None if "box" in scheme.binary_roles else f"scheme {scheme.name} does not make BoxNet binary"

    def rewrite(self, graph: fx.GraphModule, site: Site) -> str:
        """Insert the clip and the binary layer; a ReLU behind becomes the scheme's activation."""
        make_binary(graph, site, self.options, residual=False, activation="instead_of_relu")
        return f"BoxNet, {type(graph.get_submodule(site.path)).__name__}"

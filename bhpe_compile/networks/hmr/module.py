"""HMR as in SPIN (arXiv 1712.06584, 1909.12828): ResNet-50 and an iterative regressor, without a prefix before either.

Parameter names are those of the public checkpoint. The body (SMPL, 24 joints, 6890 vertices) is outside.
"""

from __future__ import annotations

from torch import Tensor

from bhpe_compile.networks.layers.regressor import IterativeRegressor
from bhpe_compile.networks.layers.resnet import ResNet
from bhpe_compile.networks.layers.trunk import RESNET50, Trunk

OUTPUTS = ("rotations", "betas", "camera")
"""Names of the outputs, in order."""


class HMR(IterativeRegressor):
    """Input float32 [N, 3, 224, 224], RGB, already normalised: (x / 255 - mean) / deviation of ImageNet."""

    def __init__(self, trunk: Trunk = RESNET50, hidden: int = 1024) -> None:
        super().__init__(trunk.out_channels, hidden=hidden)
        layers = dict(ResNet(trunk).named_children())  # in the order in which a picture passes them
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.trunk_layers = tuple(layers)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return "rotations" [N, 24, 3, 3], "betas" [N, 10], "camera" [N, 3] (s, tx, ty)."""
        x = image
        for name in self.trunk_layers:
            x = self.get_submodule(name)(x)
        return self.regress(x.mean((2, 3)))

"""RTMPose (arXiv 2303.07399), which is DWPose's network too (arXiv 2307.15880), and RTMW (arXiv 2407.08634).

Parameter names are those of the public checkpoints. Inputs are float32 [N, 3, *size], RGB of 0 .. 255, already
normalised: minus (123.675, 116.28, 103.53), divided by (58.395, 57.12, 57.375).

A point is (argmax of its row of simcc_x, argmax of its row of simcc_y) / 2 in pixels of the input, its score the
smaller of the two maxima; where that is not above 0 there is no point.
"""

from __future__ import annotations

from torch import Tensor, nn

from bhpe_compile.networks.layers.cspnext import CSPNeXt
from bhpe_compile.networks.layers.trunk import CrossStage, Size
from bhpe_compile.networks.rtmpose.heads import PoseHead, WholeBodyHead
from bhpe_compile.networks.rtmpose.neck import PathAggregation

OUTPUTS = ("simcc_x", "simcc_y")
"""Names of the outputs, in order."""

BODY_POINTS, WHOLE_BODY_POINTS = 17, 133
BODY_SIZE: Size = (256, 192)


class RTMPose(nn.Module):
    """RTMPose of a trunk. `size` is (rows, columns) of the input, multiples of 32."""

    def __init__(self, trunk: CrossStage, points: int = BODY_POINTS, size: Size = BODY_SIZE) -> None:
        super().__init__()
        self.backbone = CSPNeXt(trunk)
        self.head = PoseHead(trunk.out_channels, points, size, trunk.cells(size))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return "simcc_x" [N, points, 2 W], "simcc_y" [N, points, 2 H]: logits of halves of a pixel."""
        _, _, coarse = self.backbone(image)
        out: dict[str, Tensor] = self.head(coarse)
        return out


class RTMW(nn.Module):
    """RTMW of a trunk. `size` is (rows, columns) of the input, multiples of 32."""

    def __init__(self, trunk: CrossStage, points: int = WHOLE_BODY_POINTS, size: Size = BODY_SIZE) -> None:
        super().__init__()
        fine, middle, coarse = trunk.widths[2:]
        self.backbone = CSPNeXt(trunk)
        self.neck = PathAggregation((fine, middle, coarse))
        self.head = WholeBodyHead(coarse, points, size, trunk.cells(size))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return "simcc_x" [N, points, 2 W], "simcc_y" [N, points, 2 H]: logits of halves of a pixel."""
        middle, coarse = self.neck(*self.backbone(image))
        out: dict[str, Tensor] = self.head(middle, coarse)
        return out

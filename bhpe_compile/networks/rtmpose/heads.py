"""The heads of RTMPose (arXiv 2303.07399) and RTMW (arXiv 2407.08634), with the public parameter names.

A large convolution gives one map a point; each map, flattened, is a token. Gated attention (arXiv 2202.10447) mixes
the tokens, and two linear layers classify the column and the row of each point, in halves of a pixel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.networks.layers.cspnext import Unit
from bhpe_compile.networks.layers.trunk import Size

KERNEL = 7
HIDDEN, EXPANDED, KEY = 256, 512, 128
"""Channels of a token, inside the attention, and of its queries and keys."""

BINS = 2
"""Classes a pixel."""

SMALLEST_NORM = 1e-5


class ScaleNorm(nn.Module):
    """x / max(|x| / sqrt(d), 1e-5) * g over the last axis, of d values; g is one number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = width**-0.5
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.factor
        out: Tensor = x / norm.clamp(min=SMALLEST_NORM) * self.g
        return out


class Scale(nn.Module):
    """A factor for every channel of a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class GatedAttention(nn.Module):
    """Tokens [N, K, 256] -> tokens [N, K, 256].

    One projection gives gates u, values v and a base from which two rows of factors and shifts make queries q and
    keys k; a = relu(q k^T / sqrt(128))^2 stands where softmax stands elsewhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ln = ScaleNorm(HIDDEN)
        self.uv = nn.Linear(HIDDEN, 2 * EXPANDED + KEY, bias=False)
        self.act_fn = nn.SiLU()
        self.gamma = nn.Parameter(torch.ones(2, KEY))
        self.beta = nn.Parameter(torch.zeros(2, KEY))
        self.o = nn.Linear(EXPANDED, HIDDEN, bias=False)
        self.res_scale = Scale(HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        u, v, base = torch.split(self.act_fn(self.uv(self.ln(x))), [EXPANDED, EXPANDED, KEY], 2)
        q = base * self.gamma[0] + self.beta[0]
        k = base * self.gamma[1] + self.beta[1]
        a = functional.relu(torch.bmm(q, k.transpose(1, 2)) / math.sqrt(KEY))
        out: Tensor = self.res_scale(x) + self.o(u * torch.bmm(a * a, v))
        return out


def _tokens(cells: int, width: int) -> nn.Sequential:
    return nn.Sequential(ScaleNorm(cells), nn.Linear(cells, width, bias=False))


class Classifier(nn.Module):
    """Tokens [N, K, 256] -> "simcc_x" [N, K, 2 W], "simcc_y" [N, K, 2 H]; heads inherit its layers."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.gau = GatedAttention()
        self.cls_x = nn.Linear(HIDDEN, BINS * size[1], bias=False)
        self.cls_y = nn.Linear(HIDDEN, BINS * size[0], bias=False)

    def classify(self, tokens: Tensor) -> dict[str, Tensor]:
        """Logits of the columns and rows."""
        tokens = self.gau(tokens)
        return {"simcc_x": self.cls_x(tokens), "simcc_y": self.cls_y(tokens)}


class PoseHead(Classifier):
    """RTMPose: the coarsest map [N, C, h, w] -> the outputs of `Classifier`. `size` and `cells` are (rows, columns)."""

    def __init__(self, channels: int, points: int, size: Size, cells: Size) -> None:
        super().__init__(size)
        self.final_layer = nn.Conv2d(channels, points, KERNEL, padding=KERNEL // 2)
        self.mlp = _tokens(cells[0] * cells[1], HIDDEN)

    def forward(self, coarse: Tensor) -> dict[str, Tensor]:
        return self.classify(self.mlp(self.final_layer(coarse).flatten(2)))


class WholeBodyHead(Classifier):
    """RTMW: maps [N, C / 2, 2 h, 2 w] and [N, C, h, w] -> the outputs of `Classifier`; half of a token from each."""

    def __init__(self, channels: int, points: int, size: Size, cells: Size) -> None:
        super().__init__(size)
        quarter = channels // 4
        self.ps = nn.PixelShuffle(2)
        self.conv_dec = Unit(quarter, quarter, KERNEL, activation=nn.ReLU)
        self.final_layer = Unit(channels, points, KERNEL, activation=nn.ReLU)
        self.final_layer2 = Unit(channels // 2 + quarter, points, KERNEL, activation=nn.ReLU)
        self.mlp = _tokens(cells[0] * cells[1], HIDDEN // 2)
        self.mlp2 = _tokens(4 * cells[0] * cells[1], HIDDEN // 2)

    def forward(self, fine: Tensor, coarse: Tensor) -> dict[str, Tensor]:
        from_coarse = self.mlp(self.final_layer(coarse).flatten(2))
        both = torch.cat((self.conv_dec(self.ps(coarse)), fine), 1)
        from_fine = self.mlp2(self.final_layer2(both).flatten(2))
        return self.classify(torch.cat((from_coarse, from_fine), 2))

"""What stands behind a layer: the nodes that its binary form takes over."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bhpe_compile.passes.binarize.rewrite import Around
from bhpe_compile.passes.binarize.trace import trace


class Behind(nn.Module):
    """conv -> batch norm, with what the name says behind it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.norm, self.pool = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.MaxPool2d(2)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.kind == "nothing":
            return y  # type: ignore[no-any-return]
        y = self.norm(y)
        if self.kind == "relu":
            return torch.relu(y)
        if self.kind == "sum, relu":
            return torch.relu(y + x)
        if self.kind == "sum, pool":
            return self.pool(y + x)  # type: ignore[no-any-return]
        if self.kind == "pool, relu":
            return torch.relu(self.pool(y))
        return y  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "norm", "relu", "sum_relu"),
    [
        ("nothing", None, None, None),
        ("norm", "norm", None, None),
        ("relu", "norm", "relu", None),
        ("sum, relu", "norm", None, "relu"),
        ("sum, pool", "norm", None, None),
        ("pool, relu", "norm", None, None),
    ],
)
def test_around(kind: str, norm: str | None, relu: str | None, sum_relu: str | None) -> None:
    graph = trace(Behind(kind))
    node = next(node for node in graph.graph.nodes if node.target == "conv")
    around = Around.of(graph, node)
    found = [one and one.name for one in (around.norm, around.relu, around.sum_relu)]
    assert found == [norm, relu, sum_relu]

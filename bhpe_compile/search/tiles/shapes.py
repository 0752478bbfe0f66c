"""The distinct convolutions of lowered graphs: what there is to tune."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from bhpe_compile.kernels.kernel import Kernel
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.describe import describe


@dataclass(frozen=True)
class Shape:
    """One key of the table, the kernel that is measured for it, and how many calls have it."""

    key: str
    kernel: Kernel
    calls: int


def shapes_of(graphs: Iterable[ir.Model]) -> list[Shape]:
    """Every shape once, in the order of first use; of several epilogues the most frequent stands for all."""
    kernels: dict[str, Counter[Kernel]] = {}
    for model in graphs:
        for node in model.graph:
            if not g.is_kernel(node):
                continue
            kernel = describe(node)
            key = kernel.tile_key()
            if key is not None:
                kernels.setdefault(key, Counter())[with_tile(kernel, None)] += 1
    return [Shape(key, counts.most_common(1)[0][0], counts.total()) for key, counts in kernels.items()]


def with_tile(kernel: Any, tile: object) -> Any:
    """The same kernel with another tile (None: the heuristic's)."""
    return replace(kernel, tile=tile)

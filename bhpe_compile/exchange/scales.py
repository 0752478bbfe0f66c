"""What a file says of 8 bits: steps and zero points of what a layer reads, and the steps of its weights.

A level is clip(rint(x / step) + zero, 0, 255). Signed levels -128 .. 127 of zero point z are these less 128, z + 128.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.nodes import layer_of
from bhpe_compile.networks.levels import INPUT_LEVELS

SCALES = "bhpe.scales"
"""The entry of a node's `meta` that holds them. It is no part of a file."""

Steps = Mapping[str, NDArray[np.float32]]
"""Of weights, one an output channel, by layer; levels of weights are whole numbers of steps."""


@dataclass(frozen=True)
class Levels:
    """256 levels of one tensor."""

    step: np.float32
    zero: int

    @property
    def range(self) -> tuple[float, float]:
        """The values of the first and the last level; step and zero point follow from it, to the bit."""
        step = float(self.step)
        return -self.zero * step, (INPUT_LEVELS - self.zero) * step


@dataclass(frozen=True)
class Scales:
    """Of one layer; None where the file does not say it."""

    reads: Levels | None = None
    steps: NDArray[np.float32] | None = None


def scales_of(node: ir.Node) -> Scales | None:
    """What the file says of the layer that `node` computes."""
    found = node.meta.get(SCALES)
    return found if isinstance(found, Scales) else None


def set_scales(node: ir.Node, scales: Scales | None) -> None:
    """Say it; None: nothing is said."""
    if scales is not None:
        node.meta[SCALES] = scales


def ranges_and_steps(
    model: ir.Model,
) -> tuple[dict[str, tuple[float, float]], dict[str, NDArray[np.float32]]]:
    """The ranges of what layers read and the steps of their weights, by layer, as the file has them."""
    ranges, steps = {}, {}
    for node in model.graph:
        layer, scales = layer_of(node), scales_of(node)
        if layer is None or scales is None:
            continue
        if scales.reads is not None:
            ranges[layer] = scales.reads.range
        if scales.steps is not None:
            steps[layer] = scales.steps
    return ranges, steps

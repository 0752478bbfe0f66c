"""Recognise the four residual forms of BiDRB in a graph of standard operations.

    same        y = x
    repeat      y = Concat(x, x, ..., axis=1)
    group_mean  y = ReduceMean(Reshape(x, [N, k, C/k, H, W]), axis=1)
    pool        y = AveragePool(x, 2x2, stride 2), before a repeat or a group mean
    clip        y = Clip(x, -1, 1), innermost

The kernel reads x itself and does the rest in registers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bhpe_compile.passes.lower import graph as g


@dataclass(frozen=True)
class ResidualMatch:
    """The tensor a residual is read from, and how: kind "same" | "repeat" | "group_mean", pooled, clipped."""

    source: ir.Value
    kind: str
    pool: bool
    clip: bool

    @property
    def channels(self) -> int:
        """Channels of the source."""
        return g.shape_of(self.source)[1]


def match_residual(value: ir.Value) -> ResidualMatch:
    """The deepest form that ends in `value`; at worst `value` itself, read as it is."""
    source, kind = value, "same"
    if (found := _repeat(source)) is not None:
        source, kind = found, "repeat"
    elif (found := _group_mean(source)) is not None:
        source, kind = found, "group_mean"
    pool = False
    if (found := _average_pool(source)) is not None:
        source, pool = found, True
    clip = False
    if (found := clipped(source)) is not None:
        source, clip = found, True
    if len(g.shape_of(source)) != 4:
        return ResidualMatch(value, "same", False, False)
    return ResidualMatch(source, kind, pool, clip)


def _producer(value: ir.Value, op_type: str) -> ir.Node | None:
    node = value.producer()
    return node if node is not None and node.domain in ("", "ai.onnx") and node.op_type == op_type else None


def _repeat(value: ir.Value) -> ir.Value | None:
    node = _producer(value, "Concat")
    if node is None or g.integer(node, "axis") != 1 or len(set(node.inputs)) != 1:
        return None
    return node.inputs[0]


def _group_mean(value: ir.Value) -> ir.Value | None:
    node = _producer(value, "ReduceMean")
    if node is None or len(node.inputs) < 2 or node.inputs[0] is None or g.integer(node, "keepdims", 1):
        return None
    axes = g.array_of(node.inputs[1])
    if axes is None or axes.tolist() not in ([1], 1):
        return None
    reshape = _producer(node.inputs[0], "Reshape")
    if reshape is None or reshape.inputs[0] is None:
        return None
    before, split = g.shape_of(reshape.inputs[0]), g.shape_of(node.inputs[0])
    fits = len(before) == 4 and len(split) == 5 and split[1] * split[2] == before[1]
    return reshape.inputs[0] if fits and split[3:] == before[2:] and split[0] == before[0] else None


def _average_pool(value: ir.Value) -> ir.Value | None:
    node = _producer(value, "AveragePool")
    if node is None or g.integers(node, "kernel_shape", ()) != (2, 2):
        return None
    if g.integers(node, "strides", (1, 1)) != (2, 2) or any(g.integers(node, "pads", (0,))):
        return None
    source = node.inputs[0]
    # odd sizes would read beyond the edge in the kernel's 2x2 windows
    return source if source is not None and all(d % 2 == 0 for d in g.shape_of(source)[2:]) else None


def clipped(value: ir.Value) -> ir.Value | None:
    """x when `value` is Clip(x, -1, 1), else None."""
    node = _producer(value, "Clip")
    if node is None or len(node.inputs) != 3:
        return None
    low, high = g.array_of(node.inputs[1]), g.array_of(node.inputs[2])
    if low is None or high is None or not (np.all(low == -1) and np.all(high == 1)):
        return None
    return node.inputs[0]

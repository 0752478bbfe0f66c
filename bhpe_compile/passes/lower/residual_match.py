"""Recognise the four residual forms of BiDRB in a graph of standard operations.

    same        y = x
    repeat      y = Concat(x, x, ..., axis=1)
    group_mean  y = (..(x_0 + x_1) + ..) * (1 / k), x_0, x_1, .. = Split(x, axis=1) into k equal parts
    pool        y = AveragePool2x2(x), before a repeat or a group mean
    clip        y = Clip(x, -1, 1), innermost

The kernel reads x itself and does the rest in registers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN
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
    mean = _producer(value, "Mul")
    share = g.array_of(mean.inputs[1]) if mean is not None else None
    if mean is None or share is None or share.size != 1:
        return None
    terms: list[ir.Value] = []
    total = mean.inputs[0]
    while total is not None and (node := _producer(total, "Add")) is not None:
        last = node.inputs[1]
        if last is None:
            return None
        terms.insert(0, last)
        total = node.inputs[0]
    if total is None:
        return None
    terms.insert(0, total)
    split = _producer(total, "Split")
    if split is None or g.integer(split, "axis") != 1 or list(split.outputs) != terms:
        return None
    channels = {g.shape_of(term)[1] for term in terms}
    return split.inputs[0] if len(channels) == 1 and share == np.float32(1 / len(terms)) else None


def _average_pool(value: ir.Value) -> ir.Value | None:
    node = value.producer()
    return (
        node.inputs[0]
        if node is not None and (node.domain, node.op_type) == (DOMAIN, "AveragePool2x2")
        else None
    )


def clipped(value: ir.Value) -> ir.Value | None:
    """x when `value` is Clip(x, -1, 1), else None."""
    node = _producer(value, "Clip")
    if node is None or len(node.inputs) != 3:
        return None
    low, high = g.array_of(node.inputs[1]), g.array_of(node.inputs[2])
    if low is None or high is None or not (np.all(low == -1) and np.all(high == 1)):
        return None
    return node.inputs[0]

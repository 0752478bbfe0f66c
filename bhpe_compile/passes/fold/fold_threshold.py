"""A binary layer that only feeds signs needs no floats: its affine and activation become an integer threshold.

    f(dot) = act(scale * dot + bias) >= t      is monotonic in the integer dot where scale > 0 and act is
    f(dot) <=> dot >= T                        T = the smallest integer that passes

A channel with scale < 0 first has its weights negated (dot -> -dot, exactly, padding included) and its scale with
them. T is found by bisection on the very float32 expression that is replaced, so every bit stays what it was.
Applies where no residual lies between (a layer of a scheme without local residuals, BoxNet's upsampling).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.functions import DOMAIN
from bhpe_compile.exchange.nodes import array_of, constant, detach, float_constant, is_binary, only_use
from bhpe_compile.passes.base import Note, Pass, PassResult

Floats = NDArray[np.float32]


class FoldThreshold(Pass[ir.Model]):
    """affine + RPReLU + sign -> integer comparison."""

    name: ClassVar[str] = "fold-threshold"
    summary: ClassVar[str] = "turn affine and activation between two signs into an integer threshold"
    requires: ClassVar[tuple[str, ...]] = ("folded norms", "rounded constants")

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if is_binary(node):
                reason, applied = self._fold(graph.graph, node)
                if reason:
                    notes.append((self.applied if applied else self.refused)(node.name or "", reason))
        return PassResult(graph, any(n.applied for n in notes), tuple(notes))

    def _fold(self, graph: ir.Graph, node: ir.Node) -> tuple[str, bool]:
        """(why, applied); "" where the pattern does not occur at all."""
        activation, value = _activated(node)
        readers = [use.node for use in value.uses()]
        signs = [reader for reader in readers if _is_sign_of(reader, value)]
        if not signs:
            return "", False
        if len(signs) < len(readers) or value.is_graph_output():
            return "its value is also read as a float", False
        parameters = [array_of(v) for v in (*node.inputs[2:5], *(reader.inputs[1] for reader in readers))]
        shapes = [array_of(v) for v in activation.inputs[1:]] if activation is not None else []
        if any(p is None for p in (*parameters, *shapes)):
            return "parameters are computed at run time", False
        weight, scale, bias, *thresholds = (np.asarray(p) for p in parameters)
        gamma, beta, zeta = (np.asarray(p, np.float32).reshape(-1) for p in shapes) if shapes else (None,) * 3
        if any(not np.array_equal(t, thresholds[0]) for t in thresholds):
            return "its readers have different thresholds", False
        if np.array_equal(scale, np.ones_like(scale)) and not bias.any() and activation is None:
            return "", False  # it already is an integer
        if (scale == 0).any():
            return "a channel's scale is 0: its sign is constant", False
        if beta is not None and (beta < 0).any():
            return "an RPReLU with a negative slope is not monotonic", False
        axis = 1 if node.op_type == "BinaryConvTranspose2d" else 0
        flip = scale < 0
        unit = np.where(weight >= 0, np.float32(1), np.float32(-1))
        along = [-1 if a == axis else 1 for a in range(weight.ndim)]
        unit = np.where(flip.reshape(along), -unit, unit)

        def passes(dot: NDArray[np.int64]) -> NDArray[np.bool_]:
            value = np.abs(scale) * dot.astype(np.float32) + bias  # |s| * d rounds as s * -d does
            if gamma is not None and beta is not None and zeta is not None:
                shifted = value - gamma
                value = np.where(value > gamma, shifted, beta * shifted) + zeta
            reached: NDArray[np.bool_] = value >= thresholds[0].reshape(-1)
            return reached

        limits = smallest(passes, weight.size // weight.shape[axis], scale.size)
        name = node.name or ""
        node.replace_input_with(2, constant(graph, f"{name}.signs", unit))
        node.replace_input_with(3, float_constant(graph, f"{name}.unit", np.ones_like(scale)))
        node.replace_input_with(4, float_constant(graph, f"{name}.none", np.zeros_like(bias)))
        threshold = float_constant(graph, f"{name}.integer_threshold", limits)
        for reader in readers:
            reader.replace_input_with(1, threshold)
            if activation is not None:
                reader.replace_input_with(0, node.outputs[0])
        if activation is not None:
            detach(graph, activation)
        return f"integer thresholds; {int(flip.sum())} channels negated", True


def smallest(
    passes: Callable[[NDArray[np.int64]], NDArray[np.bool_]], bound: int, channels: int
) -> NDArray[np.int64]:
    """Per channel the smallest integer in [-bound, bound] that passes; bound + 1 where none does."""
    low = np.full(channels, -bound, np.int64)
    high = np.full(channels, bound + 1, np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        good = passes(middle)
        high = np.where(good & (low < high), middle, high)
        low = np.where(~good & (low < high), middle + 1, low)
    return low


def _activated(node: ir.Node) -> tuple[ir.Node | None, ir.Value]:
    """The RPReLU that alone reads `node`, if any, and the value after it."""
    value = node.outputs[0]
    reader = only_use(value)
    if reader is not None and reader.domain == DOMAIN and reader.op_type == "RPReLU":
        return reader, reader.outputs[0]
    return None, value


def _is_sign_of(reader: ir.Node, value: ir.Value) -> bool:
    inputs: list[Any] = list(reader.inputs)
    return is_binary(reader) and inputs[0] is value and all(i is not value for i in inputs[1:])

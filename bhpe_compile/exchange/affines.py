"""Sums and products with constants, in whatever way a file writes them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.nodes import array_of, only_use

Doubles = NDArray[np.float64]


def affine_of(node: ir.Node, value: ir.Value) -> tuple[Doubles, Doubles] | None:
    """(a, b) where `node` computes a * value + b by an Add, Sub, Mul or Div with a float32 constant, and gives it the
    shape of `value`; else None. One of the two is the constant, float64, as it is shaped; the other one number."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    first = node.inputs[0] is value
    found = array_of(node.inputs[1 if first else 0])
    if found is None or found.dtype != np.float32 or node.outputs[0].shape != value.shape:
        return None
    array, one, nothing = found.astype(np.float64), np.ones(()), np.zeros(())
    if node.op_type == "Add":
        return one, array
    if node.op_type == "Mul":
        return array, nothing
    if node.op_type == "Sub":
        return (one, -array) if first else (-one, array)
    return (1 / array, nothing) if first and array.all() else None


def number_of(value: ir.Value | None) -> float | None:
    """The one number that a constant holds; None for what is computed or is several."""
    array = array_of(value)
    return None if array is None or array.size != 1 else float(array.reshape(()))


def affine_behind(value: ir.Value) -> tuple[ir.Node, Doubles, Doubles] | None:
    """The node that alone reads `value` where that is such an affine, with its (a, b)."""
    node = only_use(value)
    found = None if node is None else affine_of(node, value)
    return None if node is None or found is None else (node, *found)

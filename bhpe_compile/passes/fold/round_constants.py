"""Constants are stored so that every processor computes the same with them.

    scale of a binary layer     24 - b significant bits, b those of the largest |dot| (the products of one sum):
                                dot * scale is then exact in float32, and a fused multiply-add rounds as a product
                                and a sum do
    any constant                0 where its magnitude is below 2^-100: some units flush what is smaller to 0

A layer of up to 8191 products keeps 11 bits of its scale, a relative error of 2^-12.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.functions import DOMAIN
from bhpe_compile.exchange.nodes import array_of, float_constant, is_binary
from bhpe_compile.passes.base import Note, Pass, PassResult

SIGNIFICAND = 24
"""Bits of a float32 number that count."""

SMALLEST = 2.0**-100
"""Smaller magnitudes are stored as 0."""

CONSTANTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("BinaryConv2d", "BinaryConvTranspose2d", "BinaryLinear"), (1, 3, 4)),
    "RPReLU": (1, 2, 3),
    "ChannelAffine": (1, 2),
}
"""Inputs of our operators that are constants of channels."""

SCALE = 3
"""The input of a binary layer that is its scale."""


class RoundConstants(Pass[ir.Model]):
    """Scales of few bits, no tiny numbers."""

    name: ClassVar[str] = "round-constants"
    summary: ClassVar[str] = "round the scales of binary layers so that every processor computes the same"
    requires: ClassVar[tuple[str, ...]] = ("folded norms", "folded shifts")
    ensures: ClassVar[tuple[str, ...]] = ("rounded constants",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if node.domain == DOMAIN and node.op_type in CONSTANTS:
                notes += self._round(graph.graph, node)
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _round(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        notes = []
        for index in CONSTANTS[node.op_type]:
            before = array_of(node.inputs[index])
            if before is None:
                notes.append(self.refused(node.name or "", "a constant is computed at run time"))
                continue
            after = settled(before)
            what = "tiny constants are 0"
            if is_binary(node) and index == SCALE:
                bits = scale_bits(node)
                after, what = round_to(after, bits), f"its scale keeps {bits} bits"
            if (
                before.tobytes() != after.astype(before.dtype).tobytes()
            ):  # bytes: -0 becomes +0, and NaN is itself
                value = node.inputs[index]
                name = value.name if value is not None else None
                node.replace_input_with(index, float_constant(graph, f"{name}.rounded", after))
                notes.append(self.applied(node.name or "", what))
        return notes


def scale_bits(node: ir.Node) -> int:
    """How many bits the scale of a binary layer may have: with those of the largest |dot| at most 24."""
    weight = array_of(node.inputs[2])
    if weight is None:
        return SIGNIFICAND
    products = weight.size // weight.shape[1 if node.op_type == "BinaryConvTranspose2d" else 0]
    if node.op_type == "BinaryConvTranspose2d":  # an output meets every stride-th tap of each axis
        for size, step in zip(weight.shape[2:], node.attributes["strides"].as_ints(), strict=True):
            products = products // size * -(-size // step)
    return max(SIGNIFICAND - int(products).bit_length(), 1)


def settled(values: NDArray[Any]) -> NDArray[Any]:
    """`values` with 0 where a magnitude is below 2^-100, and +0 for -0."""
    return np.where(np.abs(values) < SMALLEST, 0, values).astype(values.dtype)


def round_to(values: NDArray[Any], bits: int) -> NDArray[np.float32]:
    """`values` with `bits` significant bits, rounded to nearest even; float32."""
    fraction, exponent = np.frexp(values.astype(np.float64))
    rounded: NDArray[np.float32] = np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits).astype(
        np.float32
    )
    return rounded

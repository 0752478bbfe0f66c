"""Binary weights become bits: 32 input channels a word.

    word[o, g, i, j] = sum over k < 32 of 2^k * [w[o, 32g + k, i, j] >= 0]

Channels are padded to whole words with zero bits; `channels` says how many count. A transposed convolution's
weight [C, O, kh, kw] is stored output first, with its own kernel indices.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.functions import attach_bodies
from bhpe_compile.exchange.nodes import array_of, constant, is_binary
from bhpe_compile.passes.base import Note, Pass, PassResult


def pack_words(positive: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """bool [O, C, ...] -> uint32 [O, ceil(C/32), ...]."""
    tail = positive.ndim - 2
    padded = np.pad(positive, [(0, 0), (0, -positive.shape[1] % 32)] + [(0, 0)] * tail)
    grouped = padded.reshape(positive.shape[0], -1, 32, *positive.shape[2:]).astype(np.uint32)
    places = np.arange(32, dtype=np.uint32).reshape(1, 1, 32, *[1] * tail)
    packed: NDArray[np.uint32] = (grouped << places).sum(2, dtype=np.uint32)
    return packed


class PackWeights(Pass[ir.Model]):
    """Binary... -> PackedBinary..."""

    name: ClassVar[str] = "pack-weights"
    summary: ClassVar[str] = "store binary weights as bits"
    requires: ClassVar[tuple[str, ...]] = ("folded norms",)
    ensures: ClassVar[tuple[str, ...]] = ("packed weights",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(graph.graph):
            if not is_binary(node):
                continue
            weight: NDArray[Any] | None = array_of(node.inputs[2])
            if weight is None:
                notes.append(self.refused(node.name or "", "its weights are computed at run time"))
                continue
            if node.op_type == "BinaryConvTranspose2d":
                weight = weight.swapaxes(0, 1)
            node.replace_input_with(2, constant(graph.graph, f"{node.name}.bits", pack_words(weight >= 0)))
            node.attributes["channels"] = ir.AttrInt64("channels", weight.shape[1])
            node.op_type = f"Packed{node.op_type}"
            notes.append(
                self.applied(node.name or "", f"{weight.size} weights in {-(-weight.size // 8)} bytes")
            )
        modified = any(n.applied for n in notes)
        if modified:
            attach_bodies(graph)
        return PassResult(graph, modified, tuple(notes))

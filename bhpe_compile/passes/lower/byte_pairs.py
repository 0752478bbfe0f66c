"""Whether a graph of kernels is one for the instruction that multiplies bytes in pairs.

It adds the products of two weights with two levels in 16 bits, saturating (`int8_layout.pairs_fit`). Where every weight
of every 8-bit layer fits, levels are bytes in memory and that instruction multiplies them; where one does not, none
does: what a kernel writes and the next one reads is of one kind.
"""

from __future__ import annotations

import onnx_ir as ir

from bhpe_compile.artifact.program import MULTIPLIED
from bhpe_compile.kernels.int8_layout import pairs_fit
from bhpe_compile.passes.base import Note
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.weights import packed_constants
from bhpe_compile.targets import Target

NAME = "byte-pairs"

TAKEN = Note(NAME, "", True, "levels and weights are multiplied as bytes, in pairs")


def fitted_target(model: ir.Model, target: Target) -> tuple[Target, Note | None]:
    """The target with the 8-bit instruction for the weights of `model`, and what is to be said of it: None where there
    are no such layers."""
    isa = target.isa.in_pairs
    nodes = [node for node in model.graph if g.is_kernel(node, *MULTIPLIED)]
    if not nodes:
        return target, None
    if isa is None:
        step = target.isa.int8.step
        if step is not None and step.pairs is not None:
            return target, TAKEN
        reason = (
            f"{target.name} multiplies any weights alike: --pair-safe gains nothing there, and costs accuracy"
        )
        return target, Note(NAME, "", False, reason)
    for node in nodes:
        if not pairs_fit(packed_constants(node, isa)["weight"], isa.int8):
            reason = "two weights of it sum to too much for products of bytes: words are multiplied"
            return target, Note(NAME, g.text(node, "layer"), False, reason)
    return target.in_pairs, TAKEN

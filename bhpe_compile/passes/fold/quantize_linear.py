"""Linear layers compute with 8-bit weights and fixed-point inputs, in integers.

    Gemm(x, w, b)   ->   FixedPointLinear(x, levels of w, step_w / 4096, b)

    x   in steps of 1/4096 from -2056 to 2040, as three bytes (`networks/layers/fixed_point.py`)
    w   one step for each output o: max |w_o| / 127, or the file's own, levels -127 .. 127; pair-safe as in
        `quantize_dense.py`

A range of x is not needed: linear layers take next to no time, and three bytes hold what floats do where it matters.
Gemms without trained weights are formulas and stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN, attach_bodies
from bhpe_compile.exchange.nodes import (
    array_of,
    constant,
    float_constant,
    integer,
    layer_of,
    new_value,
    set_layer,
    shape_of,
    substitute,
)
from bhpe_compile.networks.layers.grids import FIXED
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.fold.quantize_dense import weight_steps

if TYPE_CHECKING:
    from bhpe_compile.exchange.scales import Steps

MOST_FEATURES = (1 << 31) // (128 * 128)
"""Products whose sum fits int32."""


class QuantizeLinear(Pass[ir.Model]):
    """Gemm with trained weights -> FixedPointLinear."""

    name: ClassVar[str] = "quantize-linear"
    summary: ClassVar[str] = "compute linear layers with 8-bit weights and fixed-point inputs"
    requires: ClassVar[tuple[str, ...]] = ("folded norms", "merged linear layers")
    ensures: ClassVar[tuple[str, ...]] = ("fixed-point linear layers",)

    def __init__(self, steps: Steps | None = None, pair_safe: bool = False) -> None:
        self.steps, self.pair_safe = steps, pair_safe

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes = [
            self._quantize(graph.graph, node)
            for node in self.visit(list(graph.graph))
            if node.domain == "" and node.op_type == "Gemm"
        ]
        modified = any(note.applied for note in notes)
        if modified:
            attach_bodies(graph)
        return PassResult(graph, modified, tuple(notes))

    def _quantize(self, graph: ir.Graph, node: ir.Node) -> Note:
        name, layer, weight = node.name or "", layer_of(node), array_of(node.inputs[1])
        if weight is None:
            return self.refused(name, "its weights are computed at run time")
        if layer is None:
            return self.refused(name, "a constant of a formula, not trained weights")
        factors = [node.attributes[a].as_float() for a in ("alpha", "beta") if a in node.attributes]
        if not integer(node, "transB") or integer(node, "transA") or any(one != 1 for one in factors):
            return self.refused(name, "its weights are not stored by output")
        own = None if self.steps is None else self.steps.get(layer)
        if self.steps is not None and own is None:
            return self.refused(name, "the file has its weights in float")
        outputs, features = weight.shape
        if features > MOST_FEATURES:
            return self.refused(name, f"{features} inputs, whose sum may not fit 32 bits")
        bias = array_of(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(outputs)
        if bias is None or bias.size != outputs:
            return self.refused(name, "its bias is no constant for each output")
        steps = weight_steps(weight, 0, self.pair_safe) if own is None else own
        levels = np.rint(weight.astype(np.float32) / steps[:, None]).astype(np.int8)
        inputs = [
            node.inputs[0],
            constant(graph, f"{name}.weight_levels", levels),
            float_constant(graph, f"{name}.scale", steps / np.float32(FIXED)),
            float_constant(graph, f"{name}.shift", bias.reshape(-1)),
        ]
        old = node.outputs[0]
        out = new_value(f"{old.name}_fixed", shape_of(old))
        new = ir.Node(DOMAIN, "FixedPointLinear", inputs, outputs=[out], name=name)
        set_layer(new, layer)
        substitute(graph, node, new, {old: out})
        return self.applied(name, "8-bit weights, inputs in steps of 1/4096")

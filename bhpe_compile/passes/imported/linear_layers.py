"""Products with stored weights become linear layers: Gemm with the weights by output.

    Gemm, any alpha, beta, transB, a bias of one row        -> Gemm, alpha = beta = 1, transB = 1
    MatMul(x, w), w [K, N]                                  -> Gemm, between Reshapes where x has more than two axes
    MatMul(x, w) + b, b [N]                                 -> the same with a bias

Products of two activations stay.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
from numpy.typing import NDArray

from bhpe_compile.exchange.nodes import (
    array_of,
    constant,
    float_constant,
    integer,
    new_value,
    only_use,
    shape_of,
    substitute,
)
from bhpe_compile.exchange.scales import scales_of, set_scales
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.imported.name_layers import own_name


def is_standard(node: ir.Node, *kinds: str) -> bool:
    """Whether `node` is an operator of the standard, one of `kinds`."""
    return node.domain in ("", "ai.onnx") and node.op_type in kinds


def reshaped(
    graph: ir.Graph, before: ir.Node, value: ir.Value, shape: tuple[int, ...], name: str
) -> ir.Value:
    """`value` in another shape, by a node in front of `before`; itself where it has the shape already."""
    if shape_of(value) == shape:
        return value
    out = new_value(name, shape, value.dtype or ir.DataType.FLOAT)
    target = constant(graph, f"{name}.shape", np.array(shape, np.int64))
    graph.insert_before(before, ir.Node("", "Reshape", [value, target], outputs=[out], name=name))
    return out


class LinearLayers(Pass[ir.Model]):
    """Gemm and MatMul with stored weights -> Gemm with transB = 1."""

    name: ClassVar[str] = "linear-layers"
    summary: ClassVar[str] = "turn products with stored weights into linear layers"
    ensures: ClassVar[tuple[str, ...]] = ("imported layers",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if is_standard(node, "Gemm", "MatMul") and node.graph is not None:
                note = (self._gemm if node.op_type == "Gemm" else self._matmul)(graph.graph, node)
                notes += [] if note is None else [note]
        modified = any(note.applied for note in notes)
        if modified:
            common.RemoveUnusedNodesPass()(graph)
        return PassResult(graph, modified, tuple(notes))

    def _gemm(self, graph: ir.Graph, node: ir.Node) -> Note | None:
        name, weight = own_name(node), array_of(node.inputs[1])
        if weight is None or weight.dtype != np.float32:
            return self.refused(name, "its second factor is computed at run time, or is no float32")
        if integer(node, "transA"):
            return self.refused(name, "its first factor is transposed")
        alpha, beta = _float(node, "alpha", 1.0), _float(node, "beta", 1.0)
        rows = weight if integer(node, "transB") else weight.T
        bias_value = node.inputs[2] if len(node.inputs) > 2 else None
        bias = found = None
        if bias_value is not None:
            found = array_of(bias_value)
            if found is None or found.size not in (1, len(rows)) or (found.ndim > 1 and found.shape[0] != 1):
                return self.refused(name, "what it adds is no bias of one row")
            bias = np.broadcast_to(found.reshape(-1) * np.float32(beta), (len(rows),))
        as_stored = bias is None or (beta == 1 and found is not None and found.shape == bias.shape)
        if as_stored and (alpha, integer(node, "transB")) == (1.0, 1):
            return None
        self._replace(graph, node, node, node.inputs[0], rows * np.float32(alpha), bias)
        return self.applied(name, "its weights are stored by output")

    def _matmul(self, graph: ir.Graph, node: ir.Node) -> Note | None:
        name, weight, x = own_name(node), array_of(node.inputs[1]), node.inputs[0]
        if weight is None or weight.ndim != 2 or weight.dtype != np.float32 or x is None:
            return self.refused(name, "it is no product with stored weights of two axes")
        if len(shape_of(x)) < 2:
            return self.refused(name, "its first factor is one row without a batch")
        last, bias = node, None
        follower = only_use(node.outputs[0])
        if follower is not None and is_standard(follower, "Add"):
            other = follower.inputs[1] if follower.inputs[0] is node.outputs[0] else follower.inputs[0]
            added = array_of(other)
            if added is not None and _is_row(added, weight.shape[1], len(shape_of(x))):
                last, bias = follower, added.reshape(-1)
        self._replace(graph, node, last, x, weight.T, bias)
        return self.applied(name, "a linear layer" + ("" if bias is None else " with the bias behind it"))

    @staticmethod
    def _replace(
        graph: ir.Graph,
        node: ir.Node,
        last: ir.Node,
        x: ir.Value | None,
        rows: NDArray[Any],
        bias: NDArray[Any] | None,
    ) -> None:
        """A Gemm in the place of `last`, the end of a chain that begins at `node`."""
        name = own_name(node) or "linear"
        y = last.outputs[0]
        outer = shape_of(y)
        assert x is not None  # a product has two factors
        count = int(np.prod(outer[:-1], dtype=np.int64))
        flat = reshaped(graph, last, x, (count, rows.shape[1]), f"{name}.rows")
        inputs = [flat, float_constant(graph, f"{name}.weight", np.ascontiguousarray(rows))]
        if bias is not None:
            inputs.append(float_constant(graph, f"{name}.bias", np.ascontiguousarray(bias)))
        attributes = [ir.AttrInt64("transB", 1)]
        out = new_value(f"{name}.product", (count, len(rows)))
        gemm = ir.Node("", "Gemm", inputs, attributes, outputs=[out], name=name)
        set_scales(gemm, scales_of(node))
        if out.shape == y.shape:
            substitute(graph, last, gemm, {y: out})
            return
        graph.insert_before(last, gemm)
        target = constant(graph, f"{name}.shape", np.array(outer, np.int64))
        back = new_value(f"{name}.back", outer)
        substitute(
            graph, last, ir.Node("", "Reshape", [out, target], outputs=[back], name=f"{name}.back"), {y: back}
        )


def _is_row(added: NDArray[Any], width: int, rank: int) -> bool:
    """Whether what is added to `rank` axes is one float32 row of `width` numbers."""
    return added.dtype == np.float32 and added.shape[-1:] == (width,) == (added.size,) and added.ndim <= rank


def _float(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default

"""Convolutions that are not binary compute with 8-bit integers; linear layers keep 8-bit weights.

    Conv(x, w)   ->   Conv(DQ(Q(x)), DQ(Q(w)))
    Gemm(x, w)   ->   Gemm(x, DQ(Q(w)))

    x   one step and zero point for the tensor, from its calibrated range [low, high]:
        step = (high - low) / 255,  zero = round(-low / step),  levels 0 .. 255
    w   one step for each output channel o: max |w_o| / 127, levels -127 .. 127, zero point 0

The file keeps the float weights in front of Q, and means the same in ONNX Runtime: take Q and DQ away and the
float network is back. Linear layers add up float inputs: they take next to no time and write the results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.nodes import (
    array_of,
    constant,
    has_quantized_weights,
    integer,
    integers,
    layer_of,
    new_value,
    shape_of,
)
from bhpe_compile.passes.base import Note, Pass, PassResult

if TYPE_CHECKING:
    from bhpe_compile.networks.layers.rounding import Ranges

CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0}
LARGEST_WEIGHT_LEVEL = 127


class QuantizeDense(Pass[ir.Model]):
    """Q and DQ in front of both inputs of every Conv and ConvTranspose that has a range, and of Gemm's weights."""

    name: ClassVar[str] = "quantize-dense"
    summary: ClassVar[str] = "compute the convolutions that are not binary with 8-bit integers"
    requires: ClassVar[tuple[str, ...]] = ("folded norms", "explicit padding")

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes = [
            self._quantize(graph.graph, node)
            for node in self.visit(list(graph.graph))
            if node.domain == "" and node.op_type in CHANNEL_AXIS and not has_quantized_weights(node)
        ]
        return PassResult(graph, any(n.applied for n in notes), tuple(notes))

    def _quantize(self, graph: ir.Graph, node: ir.Node) -> Note:
        name = node.name or ""
        weight, layer = array_of(node.inputs[1]), layer_of(node)
        span = self.ranges.get(layer) if layer is not None else None
        if weight is None:
            return self.refused(name, "its weights are computed at run time")
        if node.op_type == "Gemm":
            if not integer(node, "transB"):
                return self.refused(name, "its weights are not stored by output")
            if layer is None:
                return self.refused(name, "a constant of a formula, not trained weights")
            self._quantize_weights(graph, node, weight)
            return self.applied(name, "8-bit weights")
        refused = no_kernel(node)
        if refused is not None:
            return self.refused(name, refused)
        if span is None:
            return self.refused(name, "no range of its input was measured")
        low, high = span
        if low == high:
            return self.refused(name, "its input was 0 in all calibration pictures")
        step = np.float32((high - low) / 255)
        zero = np.uint8(np.clip(np.rint(-low / step), 0, 255))
        self._pair(graph, node, 0, np.array(step), np.array(zero), {})
        self._quantize_weights(graph, node, weight)
        return self.applied(name, f"8-bit: inputs {low:.4g} .. {high:.4g} in 255 steps")

    def _quantize_weights(self, graph: ir.Graph, node: ir.Node, weight: NDArray[np.generic]) -> None:
        axis = CHANNEL_AXIS[node.op_type]
        steps = weight_steps(weight, axis)
        self._pair(graph, node, 1, steps, np.zeros(len(steps), np.int8), {"axis": axis})

    @staticmethod
    def _pair(
        graph: ir.Graph,
        node: ir.Node,
        index: int,
        step: NDArray[np.float32],
        zero: NDArray[np.generic],
        attributes: dict[str, int],
    ) -> None:
        """Q and DQ between `node` and its input `index`."""
        value = node.inputs[index]
        role = ("x", "w")[index]
        scale = constant(graph, f"{node.name}.{role}.step", step)
        point = constant(graph, f"{node.name}.{role}.zero", zero)
        dtype = ir.DataType.UINT8 if zero.dtype == np.uint8 else ir.DataType.INT8
        levels = new_value(f"{node.name}.{role}.levels", shape_of(value), dtype)
        back = new_value(f"{node.name}.{role}.8bit", shape_of(value))
        facts = ir.convenience.convert_attributes(attributes)
        inputs = [scale, point]
        graph.insert_before(
            node,
            ir.Node(
                "", "QuantizeLinear", [value, *inputs], facts, outputs=[levels], name=f"{node.name}.{role}.q"
            ),
        )
        facts = ir.convenience.convert_attributes(attributes)
        graph.insert_before(
            node,
            ir.Node(
                "",
                "DequantizeLinear",
                [levels, *inputs],
                facts,
                outputs=[back],
                name=f"{node.name}.{role}.dq",
            ),
        )
        node.replace_input_with(index, back)


def no_kernel(node: ir.Node) -> str | None:
    """Why a convolution has no 8-bit kernel on any target, None where it has one."""
    channels, group = shape_of(node.inputs[0])[1], integer(node, "group", 1)
    if len(shape_of(node.inputs[0])) != 4:
        return "only windows along two axes have an 8-bit kernel"
    if group != 1 and not (node.op_type == "Conv" and group == channels == shape_of(node.outputs[0])[1]):
        return "of groups only those of one channel each have an 8-bit kernel"
    if any(step != 1 for step in integers(node, "dilations", (1, 1))):
        return "dilated windows have no 8-bit kernel"
    plain = (
        integers(node, "strides", (1, 1)),
        integers(node, "pads", (0,) * 4),
        shape_of(node.inputs[1])[2:],
    )
    if node.op_type == "ConvTranspose" and plain != ((2, 2), (1,) * 4, (4, 4)):
        return "of transposed convolutions only 4x4, stride 2, padding 1 has an 8-bit kernel"
    return None


def weight_steps(weight: NDArray[np.generic], axis: int) -> NDArray[np.float32]:
    """One step for each output channel; 1 for channels of zeros."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight.astype(np.float64)).max(axis=others)
    return np.where(largest > 0, largest / LARGEST_WEIGHT_LEVEL, 1).astype(np.float32)

"""Convolutions that are not binary compute with 8-bit integers; linear layers keep 8-bit weights.

    ChannelAffine(Conv(x, w), k, b)   ->   Int8Conv2d(x, step_x, zero, levels of w, step_x step_w k, b)
    Conv(x, w) [+ bias]               ->   the same with k = 1
    of a group for each channel       ->   Int8DepthwiseConv2d, else the same
    Gemm(x, w)                        ->   Gemm(x, DQ(Q(w)))

    x   one step and zero point for the tensor, from its calibrated range [low, high]:
        step = (high - low) / 255,  zero = round(-low / step),  levels 0 .. 255
    w   one step for each output channel o: max |w_o| / 127, levels -127 .. 127, zero point 0

The scale is a product of float64 numbers, stored as float32 once. Linear layers are those of
`quantize_linear.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.functions import DOMAIN, attach_bodies
from bhpe_compile.exchange.nodes import (
    array_of,
    constant,
    detach,
    float_constant,
    has_quantized_weights,
    integer,
    integers,
    layer_of,
    new_value,
    only_use,
    set_layer,
    shape_of,
    substitute,
)
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.fold.round_constants import settled

if TYPE_CHECKING:
    from bhpe_compile.networks.layers.rounding import Ranges

CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0}
LARGEST_WEIGHT_LEVEL = 127
SMALLEST_STEP = float(np.finfo(np.float32).tiny)
"""Between levels: one divided by it is a number."""


class QuantizeDense(Pass[ir.Model]):
    """Conv and ConvTranspose that have a range -> Int8...; Q and DQ in front of Gemm's weights."""

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
        modified = any(n.applied for n in notes)
        if modified:
            attach_bodies(graph)
        return PassResult(graph, modified, tuple(notes))

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
        step = np.float32((high - low) / 255)
        if step < SMALLEST_STEP:
            return self.refused(name, "its input was 0 in all calibration pictures")
        zero = np.uint8(np.clip(np.rint(-low / step), 0, 255))
        why = self._replace(graph, node, weight, step, zero)
        if why:
            return self.refused(name, why)
        return self.applied(name, f"8-bit: inputs {low:.4g} .. {high:.4g} in 255 steps")

    @staticmethod
    def _replace(
        graph: ir.Graph, node: ir.Node, weight: NDArray[np.generic], step: np.float32, zero: np.uint8
    ) -> str:
        """Put an Int8 node in the place of `node` and the affine behind it; "" or why not."""
        last, y = node, node.outputs[0]
        channels = shape_of(y)[1]
        k, shift = np.ones(channels), np.zeros(channels)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        affine = only_use(y)
        if bias is not None:
            own = array_of(bias)
            if own is None:
                return "its bias is computed at run time"
            shift = own.astype(np.float64)
        elif affine is not None and affine.domain == DOMAIN and affine.op_type == "ChannelAffine":
            parameters = [array_of(value) for value in affine.inputs[1:]]
            if any(one is None for one in parameters):
                return "the affine behind it is computed at run time"
            k, shift = (np.asarray(one, np.float64).reshape(-1) for one in parameters)
            last = affine
        axis = CHANNEL_AXIS[node.op_type]
        steps = weight_steps(weight, axis)
        along = [-1 if index == axis else 1 for index in range(weight.ndim)]
        levels = np.rint(weight.astype(np.float32) / steps.reshape(along)).astype(np.int8)
        scale = np.float64(step) * steps.astype(np.float64) * k
        name = node.name
        inputs = [
            node.inputs[0],
            constant(graph, f"{name}.step", np.array(step)),
            constant(graph, f"{name}.zero", np.array(zero)),
            constant(graph, f"{name}.weight_levels", levels),
            float_constant(graph, f"{name}.scale", settled(scale)),
            float_constant(graph, f"{name}.shift", settled(shift)),
        ]
        attributes = [
            ir.AttrInt64s("strides", integers(node, "strides", (1, 1))),
            ir.AttrInt64s("pads", integers(node, "pads", (0, 0, 0, 0))),
        ]
        old = last.outputs[0]
        out = new_value(f"{old.name}_int8", shape_of(old))
        kind, group = f"Int8{node.op_type}2d", integer(node, "group", 1)
        if group > 1:
            kind = "Int8DepthwiseConv2d"
            attributes.append(ir.AttrInt64("group", group))
        new = ir.Node(DOMAIN, kind, inputs, attributes, outputs=[out], name=name)
        layer = layer_of(node)
        if layer is not None:
            set_layer(new, layer)
        kept = old.name
        substitute(graph, last, new, {old: out})
        out.name = kept  # the value is the same, but for its rounding
        if last is not node:
            detach(graph, node)
        return ""

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
    if any(integers(node, "output_padding", ())):
        return "output padding has no 8-bit kernel"
    plain = (
        integers(node, "strides", (1, 1)),
        integers(node, "pads", (0,) * 4),
        shape_of(node.inputs[1])[2:],
    )
    if node.op_type == "ConvTranspose" and plain != ((2, 2), (1,) * 4, (4, 4)):
        return "of transposed convolutions only 4x4, stride 2, padding 1 has an 8-bit kernel"
    return None


def weight_steps(weight: NDArray[np.generic], axis: int) -> NDArray[np.float32]:
    """One step for each output channel; 1 for channels of zeros, or next to it."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    steps = np.abs(weight.astype(np.float64)).max(axis=others) / LARGEST_WEIGHT_LEVEL
    return np.where(steps >= SMALLEST_STEP, steps, 1).astype(np.float32)

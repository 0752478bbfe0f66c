"""Convolutions that are not binary compute with 8-bit integers.

    ChannelAffine(Conv(x, w), k, b)   ->   Int8Conv2d(x, step_x, zero, levels of w, step_x step_w k, b)
    Conv(x, w) [+ bias]               ->   the same with k = 1
    of a group for each channel       ->   Int8DepthwiseConv2d, else the same

    x   one step and zero point for the tensor, from its calibrated range [low, high]:
        step = (high - low) / 255,  zero = round(-low / step),  levels 0 .. 255
    w   one step for each output channel o: max |w_o| / 127, or the file's own; levels -127 .. 127, zero point 0;
        pair-safe: max |w_i + w_j| / 127 where that is more, of the pairs that an instruction may add up in 16 bits;
        where the two have one sign, |level_i| + |level_j| is 128 at most then

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
    integer,
    integers,
    layer_of,
    new_value,
    only_use,
    set_layer,
    shape_of,
    substitute,
)
from bhpe_compile.kernels.int8_layout import pair_sums
from bhpe_compile.kernels.window import phase_weights
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.fold.round_constants import settled

if TYPE_CHECKING:
    from bhpe_compile.exchange.scales import Steps
    from bhpe_compile.networks.layers.rounding import Ranges

CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1}
LARGEST_WEIGHT_LEVEL = 127
SMALLEST_STEP = float(np.finfo(np.float32).tiny)
"""Between levels: one divided by it is a number."""


class QuantizeDense(Pass[ir.Model]):
    """Conv and ConvTranspose that have a range -> Int8..."""

    name: ClassVar[str] = "quantize-dense"
    summary: ClassVar[str] = "compute the convolutions that are not binary with 8-bit integers"
    requires: ClassVar[tuple[str, ...]] = ("folded norms", "explicit padding")

    def __init__(self, ranges: Ranges, steps: Steps | None = None, pair_safe: bool = False) -> None:
        self.ranges, self.steps, self.pair_safe = ranges, steps or {}, pair_safe

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes = [
            self._quantize(graph.graph, node)
            for node in self.visit(list(graph.graph))
            if node.domain == "" and node.op_type in CHANNEL_AXIS
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
        own = None if layer is None else self.steps.get(layer)
        why = self._replace(graph, node, weight, step, zero, own)
        if why:
            return self.refused(name, why)
        return self.applied(name, f"8-bit: inputs {low:.4g} .. {high:.4g} in 255 steps")

    def _replace(
        self,
        graph: ir.Graph,
        node: ir.Node,
        weight: NDArray[np.generic],
        step: np.float32,
        zero: np.uint8,
        own: NDArray[np.float32] | None,
    ) -> str:
        """Put an Int8 node in the place of `node` and the affine behind it; "" or why not."""
        last, y = node, node.outputs[0]
        channels = shape_of(y)[1]
        k, shift = np.ones(channels), np.zeros(channels)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        affine = only_use(y)
        if bias is not None:
            added = array_of(bias)
            if added is None:
                return "its bias is computed at run time"
            shift = added.astype(np.float64)
        elif affine is not None and affine.domain == DOMAIN and affine.op_type == "ChannelAffine":
            parameters = [array_of(value) for value in affine.inputs[1:]]
            if any(one is None for one in parameters):
                return "the affine behind it is computed at run time"
            k, shift = (np.asarray(one, np.float64).reshape(-1) for one in parameters)
            last = affine
        axis = CHANNEL_AXIS[node.op_type]
        group = integer(node, "group", 1)
        steps = weight_steps(weight, axis, self.pair_safe and group == 1) if own is None else own
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
        kind = f"Int8{node.op_type}2d"
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


def weight_steps(weight: NDArray[np.generic], axis: int, pair_safe: bool = False) -> NDArray[np.float32]:
    """One step for each output channel; 1 for channels of zeros, or next to it."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    wide = weight.astype(np.float64)
    largest = np.abs(wide).max(axis=others)
    if pair_safe:
        for taps, rows in _taps_of(wide, axis):
            largest = np.maximum(largest, np.abs(pair_sums(taps, rows)).max(axis=1))
    steps = largest / LARGEST_WEIGHT_LEVEL
    return np.where(steps >= SMALLEST_STEP, steps, 1).astype(np.float32)


def _taps_of(weight: NDArray[np.float64], axis: int) -> list[tuple[NDArray[np.float64], int]]:
    """Weights in the order in which kernels multiply them: [Cout, taps, Cin] and the rows of these taps; of a
    transposed convolution those of each phase."""
    if axis == 1:
        return [(one.transpose(1, 2, 0), 2) for one in phase_weights(weight)]
    rows = weight.shape[2] if weight.ndim == 4 else 1
    return [(weight.reshape(*weight.shape[:2], -1).transpose(0, 2, 1), rows)]

"""Every layer gets the kernel that computes it; what has no kernel is refused by name.

    PackedBinaryConv2d, PackedBinaryLinear   -> BinaryConv2d      (linear: a 1x1 convolution of a 1x1 map)
    PackedBinaryConvTranspose2d              -> BinaryConvTranspose2d
    Conv, Gemm                               -> DenseConv2d       (affine 1 * y + bias; more is folded later)
    Gemm of DQ(Q(w))                         -> DenseConv2d       with 8-bit weights, their steps in the affine
    ConvTranspose                            -> DenseConvTranspose2d
    Int8Conv2d, Int8ConvTranspose2d          -> the kernels of that name
    MaxPool                                  -> MaxPool2d
    operators between heat maps and crops    -> kernels of their own (`select_maps.py`)
    FixedPointLinear                         -> FixedPointSplit, FixedPointLinear (`select_linear.py`)

Nothing with weights is left to TVM's default schedules: they are far slower than any library's.
Layouts are still those of ONNX (channels second); `channel_last` changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.errors import InputError
from bhpe_compile.exchange.functions import PACKED
from bhpe_compile.exchange.nodes import CONVOLUTIONS, is_int8, is_packed
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.select_linear import linear_kernel
from bhpe_compile.passes.lower.select_maps import map_kernel

BINARY = dict(zip(PACKED, (*g.BINARY_KINDS, "BinaryConv2d"), strict=True))
Facts = dict[str, g.AttributeValue]

DENSE = {"Conv": "DenseConv2d", "ConvTranspose": "DenseConvTranspose2d", "Gemm": "DenseConv2d"}


@dataclass(frozen=True)
class QuantizedWeight:
    """What DQ(Q(w)) in front of a layer says: levels in the layout of w, one step for each output."""

    levels: NDArray[np.int8]
    steps: NDArray[np.float32]


def quantized_weight(node: ir.Node) -> QuantizedWeight | None:
    """The quantization of the weights of `node`, or None where there is none."""
    source = _quantize_behind(node.inputs[1])
    if source is None:
        return None
    w, steps, _ = _parameters(source)
    weight = g.array_of(w)
    if weight is None:
        return None
    axis = 1 if node.op_type == "ConvTranspose" else 0
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    levels = np.clip(np.rint(weight / steps.reshape(shape)), -128, 127).astype(np.int8)
    return QuantizedWeight(levels, steps.reshape(-1))


def _quantize_behind(value: ir.Value | None) -> ir.Node | None:
    back = value.producer() if value is not None else None
    if back is None or back.op_type != "DequantizeLinear" or back.inputs[0] is None:
        return None
    node = back.inputs[0].producer()
    return node if node is not None and node.op_type == "QuantizeLinear" else None


def _parameters(node: ir.Node) -> tuple[ir.Value, NDArray[np.float32], NDArray[np.generic]]:
    value, step, zero = node.inputs[0], g.array_of(node.inputs[1]), g.array_of(node.inputs[2])
    if value is None or step is None or zero is None:
        raise InputError(f"node {node.name}: its step or zero point is computed at run time")
    return value, np.asarray(step, np.float32), zero


def _square(node: ir.Node, name: str, default: tuple[int, ...]) -> int:
    values = set(g.integers(node, name, default))
    if len(values) != 1:
        raise InputError(f"layer {node.name}: {name} {sorted(values)} differ by side; no kernel for it")
    return values.pop()


class SelectKernels(Pass[ir.Model]):
    """ONNX layers -> kernel nodes."""

    name: ClassVar[str] = "select-kernels"
    summary: ClassVar[str] = "give every convolution, linear layer, pooling and sampling its own kernel"
    requires: ClassVar[tuple[str, ...]] = ("packed weights", "explicit padding", "written means")
    ensures: ClassVar[tuple[str, ...]] = ("kernels",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            new = self._kernel(graph.graph, node)
            if new is None:
                continue
            g.substitute(graph.graph, node, new, {node.outputs[0]: new.outputs[0]})
            notes.append(self.applied(new.name or "", f"computed by {new.op_type}"))
        return PassResult(graph, bool(notes), tuple(notes))

    def _kernel(self, graph: ir.Graph, node: ir.Node) -> ir.Node | None:
        key = node.op_type
        if is_packed(node):
            return self._binary(node)
        if is_int8(node):
            return self._int8(graph, node)
        if node.domain not in ("", "ai.onnx"):
            return map_kernel(node) or linear_kernel(graph, node)
        if key in DENSE:
            weight = quantized_weight(node)
            if g.array_of(node.inputs[1]) is not None or (key == "Gemm" and weight is not None):
                return self._dense(graph, node, weight)
        if key in CONVOLUTIONS:
            raise InputError(
                f"layer {node.name}: weights are computed at run time; only constant weights compile"
            )
        if key == "MaxPool":
            return self._max_pool(node)
        return None

    @staticmethod
    def _out(node: ir.Node) -> ir.Value:
        old = node.outputs[0]
        return g.new_value(f"{old.name}_k", g.shape_of(old))

    def _geometry(self, node: ir.Node, weight: ir.Value | None) -> Facts:
        if _square(node, "dilations", (1, 1)) != 1 or g.integer(node, "group", 1) != 1:
            raise InputError(
                f"layer {node.name}: groups and dilations have no kernel; keep them out of the model"
            )
        if any(g.integers(node, "output_padding", (0, 0))):
            raise InputError(f"layer {node.name}: output_padding has no kernel")
        rows, columns = g.shape_of(weight)[2:]
        stride, padding = _square(node, "strides", (1, 1)), _square(node, "pads", (0, 0, 0, 0))
        if rows != columns:
            raise InputError(
                f"layer {node.name}: its kernel is {rows}x{columns}; only square ones have a kernel"
            )
        if "ConvTranspose" in node.op_type and (rows, stride, padding) != (4, 2, 1):
            raise InputError(
                f"layer {node.name}: a transposed convolution {rows}x{rows}, stride {stride}, padding {padding} "
                "has no kernel; only 4x4, stride 2, padding 1 has"
            )
        return {"stride": stride, "padding": padding}

    def _binary(self, node: ir.Node) -> ir.Node:
        roles = ("x", "input_threshold", "weight", "scale", "bias")
        operands = {r: v for r, v in zip(roles, node.inputs, strict=True) if v is not None}
        flat = node.op_type == "PackedBinaryLinear"
        facts: Facts = {"stride": 1, "padding": 0} if flat else self._geometry(node, node.inputs[2])
        facts |= {
            "kernel": 1 if flat else g.shape_of(node.inputs[2])[2],
            "flat": int(flat),
            "channels": g.integer(node, "channels"),
            "activation": "none",
        }
        return g.kernel_node(BINARY[node.op_type], node.name or "", operands, {"out": self._out(node)}, facts)

    def _dense(self, graph: ir.Graph, node: ir.Node, levels: QuantizedWeight | None) -> ir.Node:
        flat = node.op_type == "Gemm"
        weight = node.inputs[1]
        if weight is None or node.inputs[0] is None:
            raise InputError(f"layer {node.name}: no input or weight")
        if flat:
            alpha = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 1.0
            beta = node.attributes["beta"].as_float() if "beta" in node.attributes else 1.0
            if not g.integer(node, "transB") or g.integer(node, "transA") or (alpha, beta) != (1.0, 1.0):
                raise InputError(f"layer {node.name}: only Gemm with transB=1 and alpha=beta=1 has a kernel")
        facts: Facts = {"stride": 1, "padding": 0} if flat else self._geometry(node, weight)
        facts |= {
            "kernel": 1 if flat else g.shape_of(weight)[2],
            "flat": int(flat),
            "channels": g.shape_of(node.inputs[0])[1],
            "activation": "none",
        }
        out = self._out(node)
        size = g.shape_of(out)[1]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        steps = np.ones(size, np.float32)
        if levels is not None:
            weight, steps = g.constant(graph, f"{node.name}.weight_levels", levels.levels), levels.steps
        operands = {
            "x": node.inputs[0],
            "weight": weight,
            "scale": g.float_constant(graph, f"{node.name}.scale", steps),
            "bias": bias or g.float_constant(graph, f"{node.name}.bias", np.zeros(size, np.float32)),
        }
        return g.kernel_node(DENSE[node.op_type], node.name or "", operands, {"out": out}, facts)

    def _int8(self, graph: ir.Graph, node: ir.Node) -> ir.Node:
        x, step, zero, weight, scale, bias = node.inputs
        name = node.name
        step_of, zero_of = g.array_of(step), g.array_of(zero)
        if None in (x, weight, scale, bias) or step_of is None or zero_of is None:
            raise InputError(f"layer {name}: its step or zero point is computed at run time")
        facts = self._geometry(node, weight)
        facts |= {
            "kernel": g.shape_of(weight)[2],
            "flat": 0,
            "channels": g.shape_of(x)[1],
            "activation": "none",
        }
        quantization = np.array([step_of.item(), zero_of.item()], np.float32)
        operands = {
            "x": x,
            "quantization": g.constant(graph, f"{name}.quantization", quantization),
            "weight": weight,
            "zero": g.constant(graph, f"{name}.zero", zero_of.astype(np.int32)),
            "scale": scale,
            "bias": bias,
        }
        present = {role: value for role, value in operands.items() if value is not None}
        return g.kernel_node(node.op_type, name or "", present, {"out": self._out(node)}, facts)

    def _max_pool(self, node: ir.Node) -> ir.Node:
        if len(node.outputs) > 1 or g.integer(node, "ceil_mode") or _square(node, "dilations", (1, 1)) != 1:
            raise InputError(f"layer {node.name}: only plain MaxPool has a kernel")
        facts: dict[str, g.AttributeValue] = {
            "kernel": _square(node, "kernel_shape", ()),
            "stride": _square(node, "strides", (1, 1)),
            "padding": _square(node, "pads", (0, 0, 0, 0)),
        }
        operands = {"x": node.inputs[0]} if node.inputs[0] is not None else {}
        return g.kernel_node("MaxPool2d", node.name or "", operands, {"out": self._out(node)}, facts)

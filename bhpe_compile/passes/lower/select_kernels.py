"""Every layer gets the kernel that computes it; what has none is left to TVM, which is noted.

    PackedBinaryConv2d, PackedBinaryLinear   -> BinaryConv2d      (linear: a 1x1 convolution of a 1x1 map)
    PackedBinaryConvTranspose2d              -> BinaryConvTranspose2d
    Conv, Gemm                               -> DenseConv2d       (affine 1 * y + bias; more is folded later)
    Conv, a group for each channel           -> DepthwiseConv2d
    ConvTranspose                            -> DenseConvTranspose2d
    Int8Conv2d, Int8ConvTranspose2d          -> the kernels of that name; so does Int8DepthwiseConv2d
    MaxPool                                  -> MaxPool2d
    GlobalAveragePool, ReduceMean over a map -> MapMean
    operators between heat maps and crops    -> kernels of their own (`select_maps.py`)
    FixedPointLinear                         -> FixedPointSplit, FixedPointLinear (`select_linear.py`)

TVM's default schedules are far slower than any library's; a binary layer without a kernel is an error.
Layouts are still those of ONNX (channels second); `channel_last` changes them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

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

POINT: Facts = {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1}
"""The geometry of a linear layer."""


def is_depthwise(node: ir.Node, channels: int) -> bool:
    """Whether every channel of a convolution has a window of its own."""
    return (
        node.op_type == "Conv"
        and 1 < channels == g.integer(node, "group", 1) == g.shape_of(node.outputs[0])[1]
    )


def _is_map_mean(node: ir.Node) -> bool:
    """Whether a node takes the mean over all pixels of maps of floats."""
    if node.outputs[0].dtype not in (None, ir.DataType.FLOAT) or len(g.shape_of(node.inputs[0])) != 4:
        return False
    if node.op_type == "GlobalAveragePool":
        return True
    if node.op_type != "ReduceMean":
        return False
    axes = g.array_of(node.inputs[1]) if len(node.inputs) > 1 else np.array(g.integers(node, "axes", ()))
    return axes is not None and sorted(int(one) % 4 for one in axes.reshape(-1)) == [2, 3]


class NoKernelError(Exception):
    """Why no kernel of ours computes a node."""


def window_facts(node: ir.Node, kernel: tuple[int, ...]) -> Facts:
    """Geometry of a window node as attributes of a kernel node: a number where it is the same for all axes or sides.

    The padding behind the map is what its last outputs read: a pool that rounds its size up reads more than `pads` say.
    """
    rank = len(kernel)
    stride, dilation = g.integers(node, "strides", (1,) * rank), g.integers(node, "dilations", (1,) * rank)
    pads = g.integers(node, "pads", (0,) * (2 * rank))
    if rank != 2:
        raise NoKernelError(f"it has {rank} axes")
    if len(set(pads)) > 1 or g.integer(node, "ceil_mode"):
        x, y = g.shape_of(node.inputs[0])[2:], g.shape_of(node.outputs[0])[2:]
        behind = [
            max(0, (y[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - x[i] - pads[i])
            for i in (0, 1)
        ]
        pads = (*pads[:2], *behind)
    facts = {"kernel": kernel, "stride": stride, "padding": pads, "dilation": dilation}
    return {name: values[0] if len(set(values)) == 1 else list(values) for name, values in facts.items()}


def is_square(facts: Facts) -> bool:
    """Whether a kernel of ours for square windows, padded alike on all sides, takes the geometry."""
    return all(isinstance(value, int) for value in facts.values()) and facts["dilation"] == 1


class SelectKernels(Pass[ir.Model]):
    """ONNX layers -> kernel nodes."""

    name: ClassVar[str] = "select-kernels"
    summary: ClassVar[str] = "give every convolution, linear layer, pooling and sampling its own kernel"
    requires: ClassVar[tuple[str, ...]] = ("packed weights", "explicit padding", "written means")
    ensures: ClassVar[tuple[str, ...]] = ("kernels",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            try:
                new = self._kernel(graph.graph, node)
            except NoKernelError as reason:
                notes.append(
                    self.refused(node.name or "", f"computed slowly, by TVM's default schedule: {reason}")
                )
                continue
            if new is None:
                continue
            g.substitute(graph.graph, node, new, {node.outputs[0]: new.outputs[0]})
            notes.append(self.applied(new.name or "", f"computed by {new.op_type}"))
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _kernel(self, graph: ir.Graph, node: ir.Node) -> ir.Node | None:
        key = node.op_type
        if is_packed(node):
            return self._binary(node)
        if is_int8(node):
            return self._int8(graph, node)
        if node.domain not in ("", "ai.onnx"):
            return map_kernel(node) or linear_kernel(graph, node)
        if key in (*DENSE, "MaxPool") and node.outputs[0].dtype not in (None, ir.DataType.FLOAT):
            raise NoKernelError("its numbers are no float32")
        if key in DENSE and g.array_of(node.inputs[1]) is not None:
            return self._dense(graph, node)
        if key in CONVOLUTIONS:
            raise NoKernelError("its weights are computed at run time")
        if key == "MaxPool":
            return self._max_pool(node)
        if _is_map_mean(node):
            x = node.inputs[0]
            return g.kernel_node(
                "MapMean", node.name or "", {"x": x} if x else {}, {"out": self._out(node)}, {}
            )
        return None

    @staticmethod
    def _out(node: ir.Node) -> ir.Value:
        old = node.outputs[0]
        return g.new_value(f"{old.name}_k", g.shape_of(old))

    def _geometry(self, node: ir.Node, weight: ir.Value | None) -> Facts:
        """The window of a convolution with one group. NoKernelError where no kernel of ours has it."""
        facts = window_facts(node, g.shape_of(weight)[2:])
        if g.integer(node, "group", 1) != 1:
            raise NoKernelError("it has groups")
        if "ConvTranspose" in node.op_type:
            padded = any(g.integers(node, "output_padding", (0, 0)))
            plain = (facts["kernel"], facts["stride"], facts["padding"], facts["dilation"]) == (4, 2, 1, 1)
            if padded or not plain:
                raise NoKernelError("of transposed convolutions only 4x4, stride 2, padding 1 has a kernel")
        return facts

    def _binary(self, node: ir.Node) -> ir.Node:
        roles = ("x", "input_threshold", "weight", "scale", "bias")
        operands = {r: v for r, v in zip(roles, node.inputs, strict=True) if v is not None}
        flat = node.op_type == "PackedBinaryLinear"
        facts = dict(POINT)
        if not flat:
            try:
                facts = self._geometry(node, node.inputs[2])
            except NoKernelError as reason:
                raise InputError(f"layer {node.name}: {reason}; binary layers need a kernel") from None
            if not is_square(facts):
                raise InputError(
                    f"layer {node.name}: binary layers have square windows, padded alike on all sides"
                )
        facts |= {
            "flat": int(flat),
            "channels": g.integer(node, "channels"),
            "activation": "none",
        }
        return g.kernel_node(BINARY[node.op_type], node.name or "", operands, {"out": self._out(node)}, facts)

    def _dense(self, graph: ir.Graph, node: ir.Node) -> ir.Node:
        flat = node.op_type == "Gemm"
        weight = node.inputs[1]
        if weight is None or node.inputs[0] is None:
            raise InputError(f"layer {node.name}: no input or weight")
        if flat:
            alpha = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 1.0
            beta = node.attributes["beta"].as_float() if "beta" in node.attributes else 1.0
            if not g.integer(node, "transB") or g.integer(node, "transA") or (alpha, beta) != (1.0, 1.0):
                raise NoKernelError("only Gemm with transB=1 and alpha=beta=1 has a kernel")
            if len(node.inputs) > 2 and node.inputs[2] is not None:
                added = g.array_of(node.inputs[2])
                if added is None or added.shape != (g.shape_of(node.outputs[0])[1],):
                    raise NoKernelError("what it adds is no bias of one row")
        channels = g.shape_of(node.inputs[0])[1]
        depthwise = is_depthwise(node, channels)
        facts = dict(POINT)
        if depthwise:
            facts = window_facts(node, g.shape_of(weight)[2:])
        elif not flat:
            facts = self._geometry(node, weight)
        array = g.array_of(weight)
        exact = array is None or np.array_equal(array, array.astype(np.float16).astype(np.float32))
        if node.op_type == "ConvTranspose" and not exact:
            raise NoKernelError("its weights are no float16 numbers, in which its kernel has them")
        facts |= {
            "flat": int(flat),
            "channels": channels,
            "activation": "none",
            "weights": "float16" if exact else "float32",
        }
        out = self._out(node)
        size = g.shape_of(out)[1]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        operands = {
            "x": node.inputs[0],
            "weight": weight,
            "scale": g.float_constant(graph, f"{node.name}.scale", np.ones(size, np.float32)),
            "bias": bias or g.float_constant(graph, f"{node.name}.bias", np.zeros(size, np.float32)),
        }
        kind = g.DEPTHWISE if depthwise else DENSE[node.op_type]
        return g.kernel_node(kind, node.name or "", operands, {"out": out}, facts)

    def _int8(self, graph: ir.Graph, node: ir.Node) -> ir.Node:
        x, step, zero, weight, scale, bias = node.inputs
        name = node.name
        step_of, zero_of = g.array_of(step), g.array_of(zero)
        if None in (x, weight, scale, bias) or step_of is None or zero_of is None:
            raise InputError(f"layer {name}: its step or zero point is computed at run time")
        depthwise = node.op_type == "Int8DepthwiseConv2d"
        try:
            facts = window_facts(node, g.shape_of(weight)[2:]) if depthwise else self._geometry(node, weight)
        except NoKernelError as reason:
            raise InputError(f"layer {name}: {reason}; 8-bit layers need a kernel") from None
        facts |= {
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
        if len(node.outputs) > 1:
            raise NoKernelError("it also tells where the largest values are")
        facts = window_facts(node, g.integers(node, "kernel_shape", ()))
        pads = facts["padding"] if isinstance(facts["padding"], list) else [facts["padding"]] * 4
        kernel = g.integers(node, "kernel_shape", ())
        if facts["dilation"] != 1 or any(int(pad) >= kernel[i % 2] for i, pad in enumerate(pads)):
            raise NoKernelError("its windows are dilated, or may lie outside of the map")
        operands = {"x": node.inputs[0]} if node.inputs[0] is not None else {}
        return g.kernel_node("MaxPool2d", node.name or "", operands, {"out": self._out(node)}, facts)

"""Small folded graphs to lower: built by hand, as the fold passes would leave them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bhpe_compile.exchange.functions import attach_bodies
from bhpe_compile.exchange.nodes import set_layers_of_file
from bhpe_compile.passes.base import Pass
from bhpe_compile.passes.fold.round_constants import round_to
from bhpe_compile.passes.lower import graph as g

FLOAT = TensorProto.FLOAT


def pack_words(signs: NDArray[Any]) -> NDArray[np.uint32]:
    """bool [O, C, ...] -> uint32 [O, ceil(C/32), ...], bit i of word g = channel 32g+i."""
    channels = signs.shape[1]
    pad = [(0, 0), (0, -channels % 32)] + [(0, 0)] * (signs.ndim - 2)
    grouped = np.pad(signs, pad).reshape(signs.shape[0], -1, 32, *signs.shape[2:]).astype(np.uint32)
    shifts = np.arange(32, dtype=np.uint32).reshape(1, 1, 32, *[1] * (signs.ndim - 2))
    return (grouped << shifts).sum(2, dtype=np.uint32)


class Builder:
    """Collects nodes and initializers; every `add` returns the output's name."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, FLOAT, shape))
        return name

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op: str, inputs: Sequence[str], name: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}.y"], name, domain=domain, **attributes))
        return f"{name}.y"

    def normal(self, *shape: int, std: float = 1.0) -> NDArray[np.float32]:
        return (std * self.rng.standard_normal(shape)).astype(np.float32)

    def binary_conv(
        self,
        x: str,
        name: str,
        channels: int,
        out: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        thresholds: float = 0.1,
    ) -> str:
        bits = self.rng.random((out, channels, kernel, kernel)) < 0.5
        size = channels * kernel * kernel
        inputs = [
            x,
            self.constant(f"{name}.threshold", self.normal(channels, std=thresholds)),
            self.constant(f"{name}.weight", pack_words(bits)),
            self.constant(
                f"{name}.scale", round_to(self.normal(out) / np.sqrt(size), 24 - size.bit_length())
            ),
            self.constant(f"{name}.bias", self.normal(out, std=0.3)),
        ]
        attributes = {"strides": [stride] * 2, "pads": [padding] * 4, "channels": channels}
        return self.add("PackedBinaryConv2d", inputs, name, "bhpe", **attributes)

    def dense_conv(
        self, x: str, name: str, channels: int, out: int, kernel: int = 1, stride: int = 1, padding: int = 0
    ) -> str:
        weight = self.normal(out, channels, kernel, kernel, std=(channels * kernel * kernel) ** -0.5)
        exact = weight.astype(np.float16).astype(np.float32)
        attributes = {"strides": [stride] * 2, "pads": [padding] * 4, "kernel_shape": [kernel] * 2}
        y = self.add("Conv", [x, self.constant(f"{name}.weight", exact)], name, **attributes)
        scale = self.constant(f"{name}.s", 1 + self.normal(out, 1, 1, std=0.1))
        bias = self.constant(f"{name}.b", self.normal(out, 1, 1, std=0.1))
        return self.add("ChannelAffine", [y, scale, bias], f"{name}.affine", "bhpe")

    def rprelu(self, x: str, name: str, channels: int, slope: float = 0.0, shift: float = 0.0) -> str:
        """gamma 0 (or `shift`: what no bias took over), beta around `slope`, zeta around 0."""
        shape = (channels, 1, 1)
        values = {r: self.normal(*shape, std=0.2) for r in ("gamma", "beta", "zeta")}
        values["gamma"][:] = shift
        values["beta"] += np.float32(slope)
        inputs = [x] + [self.constant(f"{name}.{role}", value) for role, value in values.items()]
        return self.add("RPReLU", inputs, name, "bhpe")

    def clip(self, x: str, name: str) -> str:
        low = self.constant(f"{name}.low", np.float32(-1))
        high = self.constant(f"{name}.high", np.float32(1))
        return self.add("Clip", [x, low, high], name)

    def pool2x2(self, x: str, name: str) -> str:
        return self.add("AveragePool2x2", [x], name, "bhpe")

    def group_mean(self, x: str, name: str, groups: int, channels: int) -> str:
        """(..(x_0 + x_1) + ..) / k of k groups of `channels`."""
        sizes = self.constant(f"{name}.sizes", np.full(groups, channels, np.int64))
        parts = [f"{name}.part{k}" for k in range(groups)]
        self.nodes.append(helper.make_node("Split", [x, sizes], parts, f"{name}.split", axis=1))
        total = parts[0]
        for k, part in enumerate(parts[1:]):
            total = self.add("Add", [total, part], f"{name}.add{k}")
        return self.add("Mul", [total, self.constant(f"{name}.share", np.float32(1 / groups))], name)

    def residual(self, x: str, name: str, channels: int, out: int, stride: int) -> str:
        """The local residual of a BiDRB: pooled, repeated or group-averaged as sizes demand."""
        if stride == 2:
            x = self.pool2x2(x, f"{name}.pool")
        if out > channels:
            return self.add("Concat", [x] * (out // channels), f"{name}.repeat", axis=1)
        return self.group_mean(x, f"{name}.mean", channels // out, out) if out < channels else x

    def build(self, *outputs: str) -> ir.Model:
        """An onnx-ir model; every value's shape is what ONNX Runtime computes."""
        names = list(dict.fromkeys([*outputs, *(o for node in self.nodes for o in node.output)]))
        types: dict[str, int] = {}
        for node in self.nodes:  # a cast's type, and after it that of the first input
            cast = node.attribute[0].i if node.op_type == "Cast" else types.get(node.input[0], FLOAT)
            types[node.output[0]] = cast
        infos = [helper.make_tensor_value_info(name, types.get(name, FLOAT), None) for name in names]
        graph = helper.make_graph(self.nodes, "small", self.inputs, infos, self.initializers)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("bhpe", 1)]
        model = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))
        attach_bodies(model)
        set_layers_of_file(model)
        session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
        feeds = {
            i.name: np.zeros([d.dim_value for d in i.type.tensor_type.shape.dim], np.float32)
            for i in self.inputs
        }
        for value, found in zip(model.graph.outputs, session.run(None, feeds), strict=True):
            value.shape = ir.Shape(found.shape)
        while len(model.graph.outputs) > len(outputs):
            model.graph.outputs.pop()  # a deleted slice would leave its values marked as outputs
        return model


def bidrb(b: Builder, x: str, name: str, channels: int, out: int, stride: int) -> str:
    """conv -> + residual(clip(x)) -> RPReLU, for any of the four kinds."""
    kernel = 3 if stride == 2 or channels == out else 1
    y = b.binary_conv(x, name, channels, out, kernel, stride, kernel // 2)
    r = b.residual(b.clip(x, f"{name}.clip"), f"{name}.res", channels, out, stride)
    return b.rprelu(b.add("Add", [y, r], f"{name}.add"), f"{name}.act", out)


def small_network(channels: int = 16, height: int = 16, width: int = 12, seed: int = 0) -> ir.Model:
    """Stem, max pool, a bottleneck with a dense shortcut, a strided block: every kind of edge once."""
    b = Builder(seed)
    x = b.input("image", (1, 3, height, width))
    stem = b.dense_conv(x, "stem", 3, channels, 7, 2, 3)
    pool = b.add("MaxPool", [stem], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    y = bidrb(b, pool, "block.conv1", channels, channels, 1)
    y = bidrb(b, y, "block.conv2", channels, 4 * channels, 1)
    shortcut = b.dense_conv(pool, "block.shortcut", channels, 4 * channels)
    total = b.add("Add", [y, shortcut], "block.sum")
    down = bidrb(b, total, "down.conv1", 4 * channels, 2 * channels, 1)
    if height % 8 == 0 and width % 8 == 0:
        down = bidrb(b, down, "down.conv2", 2 * channels, 2 * channels, 2)
    return b.build(down, total)


def kinds(model: ir.Model) -> Counter[str]:
    """How many nodes of each operator there are."""
    return Counter(node.op_type for node in model.graph)


def chain(model: ir.Model) -> list[str]:
    """The operators in the order of the graph, transposes with their permutation and concatenations with their axis."""
    words = []
    for node in model.graph:
        perm, axis = g.integers(node, "perm", ()), g.integer(node, "axis", -1)
        more = "".join(map(str, perm)) or (str(axis) if node.op_type == "Concat" else "")
        words.append(f"{node.op_type} {more}".strip())
    return words


def run(model: ir.Model, *passes: Pass[ir.Model]) -> ir.Model:
    """The same model after the passes."""
    for one in passes:
        one(model)
    return model


def node_of(model: ir.Model, layer: str) -> ir.Node:
    """The convolution kernel of a layer."""
    return next(n for n in model.graph if g.is_kernel(n, *g.CONV_KINDS) and g.text(n, "layer") == layer)


def text(model: ir.Model) -> bytes:
    """Everything a graph says, to compare."""
    return ir.to_proto(model).SerializeToString(deterministic=True)


def second_run(one: Pass[ir.Model], model: ir.Model) -> tuple[bool, bool]:
    """Whether running a pass on its own result says that it changed something, and whether it did."""
    before = text(model)
    modified = one(model).modified
    return modified, text(model) != before

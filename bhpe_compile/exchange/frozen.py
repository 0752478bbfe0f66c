"""A folded graph in torch: the network as it ships, bit for bit what ONNX Runtime and the compiled library compute.

Sums are sums of whole numbers: in float32 where the largest possible one is below 2^24, else in float64 (below 2^53),
so that any order of adding gives the same. Everything else is one float32 operation after the other, in the order of
the bodies in `functions.py`. It runs on the CPU: a GPU's convolutions are not exact.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.exchange.functions import DOMAIN, INT8, PACKED
from bhpe_compile.exchange.nodes import array_of, integer, integers
from bhpe_compile.networks.layers import (  # noqa: F401 (register the operators)
    crop,
    heat_maps,
    ops,
    sample_points,
    written_torch,
)
from bhpe_compile.networks.layers.fixed_point import fixed_point_linear

Values = list[Tensor]
"""A node's inputs in order; an optional one that is left out is None."""

_NONE: Tensor = None  # type: ignore[assignment]
Emit = Callable[[ir.Node, Values], Any]

PICTURES = 8
"""How many pictures are computed at once."""

EXACT_FLOAT32 = 1 << 24
"""Whole numbers up to here are exact in float32."""

DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.INT64: torch.int64,
    ir.DataType.INT32: torch.int32,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.BOOL: torch.bool,
}


class UnsupportedNodeError(Exception):
    """An operation that has no form here; its text names the node."""


class Frozen(nn.Module):
    """Takes the graph's inputs in their order; returns its outputs by name. Raises UnsupportedNodeError at once where
    an operation has no form here."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__()
        self.inputs = [value.name or "" for value in model.graph.inputs]
        self.outputs = [value.name or "" for value in model.graph.outputs]
        self.nodes = list(model.graph)
        self.constants: dict[str, Tensor] = {}
        for name, value in model.graph.initializers.items():
            array = array_of(value)
            if array is not None:
                self.constants[name] = _tensor(array)
        for node in self.nodes:
            if (node.domain, node.op_type) not in TABLE or not _plain_attributes(node):
                raise UnsupportedNodeError(f"node {node.name}: {node.op_type} has no form in torch here")
        self.weights = [self._weight(node) for node in self.nodes]
        self.last_uses = _last_uses(self.nodes, {*self.constants, *self.inputs, *self.outputs})

    def _weight(self, node: ir.Node) -> tuple[int, Tensor] | None:
        """Of a binary or 8-bit convolution, the place of its weight, and the weight as torch multiplies it."""
        if node.domain != DOMAIN or node.op_type not in (*PACKED, *INT8):
            return None
        constants = [self.constants.get(value.name or "", _NONE) if value else _NONE for value in node.inputs]
        if node.op_type in PACKED:
            signs = _signs(constants[2], integer(node, "channels"))
            if node.op_type == "PackedBinaryConvTranspose2d":
                signs = signs.transpose(0, 1).contiguous()
            return 2, signs
        zero, weight = int(constants[2]), constants[3].float()
        axis = 1 if node.op_type == "Int8ConvTranspose2d" else 0
        return 3, weight.to(_exact_kind(weight, axis, max(zero, 255 - zero)))

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        values = self._run(dict(zip(self.inputs, inputs, strict=True)), self.last_uses)
        return {name: values[name] for name in self.outputs}

    def pictures(self, *inputs: Tensor) -> dict[str, Tensor]:
        """The same for inputs of several pictures, [N, ...] in place of [1, ...], PICTURES of them at a time."""

        def one(*picture: Tensor) -> dict[str, Tensor]:
            found: dict[str, Tensor] = self(*(value.unsqueeze(0) for value in picture))
            return found

        found = torch.func.vmap(one, chunk_size=PICTURES)(*inputs)
        return {name: value.flatten(0, 1) for name, value in found.items()}

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every value of the graph by name."""
        return self._run(feeds, [()] * len(self.nodes))

    def _run(self, feeds: Mapping[str, Tensor], done_with: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """The values by name; those of `done_with`, names for each node, are dropped after it."""
        values: dict[str, Tensor] = {**self.constants, **feeds}
        for node, weight, done in zip(self.nodes, self.weights, done_with, strict=True):
            given = [values[one.name or ""] if one is not None else _NONE for one in node.inputs]
            if weight is not None:
                given[weight[0]] = weight[1]
            found = TABLE[node.domain, node.op_type](node, given)
            results = found if isinstance(found, (tuple, list)) else (found,)
            values |= {out.name or "": result for out, result in zip(node.outputs, results, strict=True)}
            for name in done:
                del values[name]
        return values


def _last_uses(nodes: Sequence[ir.Node], kept: Collection[str]) -> list[tuple[str, ...]]:
    """For each node the values that nothing reads after it, without `kept`."""
    seen, found = set(kept), []
    for node in reversed(nodes):
        names = {value.name or "" for value in (*node.inputs, *node.outputs) if value is not None}
        found.append(tuple(sorted(names - seen)))
        seen |= names
    return found[::-1]


def _plain_attributes(node: ir.Node) -> bool:
    """Whether `node` does what its entry of TABLE computes: none of them dilates, or pads one side alone."""
    top, left, bottom, right = integers(node, "pads", (0, 0, 0, 0))
    factors = (node.attributes[name].as_float() for name in ("alpha", "beta") if name in node.attributes)
    return (
        (top, left) == (bottom, right)
        and all(one == 1 for one in (*integers(node, "dilations", ()), *factors))
        and not any(integer(node, name) for name in ("ceil_mode", "transA"))
    )


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype == np.uint32:  # packed signs: torch has few operations on unsigned words
        array = array.view(np.int32)
    return torch.from_numpy(np.array(array, order="C"))


def _exact_kind(weight: Tensor, axis: int, largest: int) -> torch.dtype:
    """In which type sums of whole numbers |x| <= largest times the whole numbers of `weight` are exact."""
    others = [index for index in range(weight.ndim) if index != axis]
    bound = int(weight.abs().sum(others).max()) * largest
    return torch.float32 if bound < EXACT_FLOAT32 else torch.float64


def _column(values: Tensor) -> Tensor:
    return values.reshape(1, -1, 1, 1)


def _int8(node: ir.Node, given: Values) -> Tensor:
    x, step, zero, weight, scale, bias = given
    levels = (torch.round(x / step) + zero).clamp(0, 255) - zero.to(torch.float32)
    transposed = node.op_type == "Int8ConvTranspose2d"
    convolve: Callable[..., Tensor] = functional.conv_transpose2d if transposed else functional.conv2d
    geometry: dict[str, Any] = {"stride": integers(node, "strides", (1, 1)), "padding": _padding(node)}
    if node.op_type == "Int8DepthwiseConv2d":
        geometry["groups"] = integer(node, "group", 1)
    dot = convolve(levels.to(weight.dtype), weight, None, **geometry).float()
    return dot * _column(scale) + _column(bias)


def _level_table(node: ir.Node, given: Values) -> Tensor:
    x, step, zero, table, out_step, out_zero = given
    levels = (torch.round(x / step) + zero).clamp_(0, 255)
    found: Tensor = (table[levels.to(torch.int64)].float() - out_zero.float()) * out_step
    return found


def _padding(node: ir.Node) -> tuple[int, int]:
    top, left, _, _ = integers(node, "pads", (0, 0, 0, 0))
    return top, left


def _signs(words: Tensor, channels: int) -> Tensor:
    """int32 words [O, ceil(C/32), ...] -> +-1 as float32 [O, C, ...]."""
    places = torch.arange(32, dtype=torch.int32).reshape(1, 1, 32, *[1] * (words.ndim - 2))
    ones = (words.unsqueeze(2) >> places) & 1
    return ones.flatten(1, 2)[:, :channels].to(torch.float32).mul_(2).sub_(1)


def _binary(node: ir.Node, given: Values) -> Tensor:
    x, threshold, weight, scale, bias = given
    if node.op_type == "PackedBinaryLinear":
        result: Tensor = torch.ops.bhpe.binary_linear(x, threshold, weight, scale, bias)
        return result
    stride, padding = integers(node, "strides", (1, 1))[0], _padding(node)[0]
    operator = torch.ops.bhpe.binary_conv2d
    if node.op_type == "PackedBinaryConvTranspose2d":
        operator = torch.ops.bhpe.binary_conv_transpose2d
    found: Tensor = operator(x, threshold, weight, scale, bias, stride, padding)
    return found


def _rprelu(node: ir.Node, given: Values) -> Tensor:
    x, *constants = given
    gamma, beta, zeta = (one.reshape(1, -1, *[1] * (x.ndim - 2)) for one in constants)
    shifted = x - gamma
    return torch.where(x > gamma, shifted, beta * shifted) + zeta


def _pool2x2(node: ir.Node, given: Values) -> Tensor:
    (x,) = given
    a, b, c, d = (x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
    return (((a + b) + c) + d) * 0.25


def _max_pool(node: ir.Node, given: Values) -> Tensor:
    geometry = integers(node, "kernel_shape", ()), integers(node, "strides", (1, 1)), _padding(node)
    return functional.max_pool2d(given[0], *geometry)


def _clip(node: ir.Node, given: Values) -> Tensor:
    x, low, high = (*given, _NONE, _NONE)[:3]
    clipped: Tensor = x.clamp(None if low is None else low.item(), None if high is None else high.item())
    return clipped


def _slice(node: ir.Node, given: Values) -> Tensor:
    x, starts, ends, axes, steps = (*given, _NONE, _NONE)[:5]
    along = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), along, strides, strict=True):
        chosen = range(x.shape[axis])[slice(*_bounds(start, end, step))]
        x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64))
    return x


def _bounds(start: int, end: int, step: int) -> tuple[int, int | None, int]:
    """ONNX bounds as Python's: a far negative end of a backward slice is 'to the first'."""
    return start, (None if step < 0 and end < -(1 << 30) else end), step


def _gather(node: ir.Node, given: Values) -> Tensor:
    x, index = given
    axis = integer(node, "axis") % x.ndim
    found: Tensor = x.index_select(axis, index.reshape(-1) % x.shape[axis])
    return found.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _unsqueeze(node: ir.Node, given: Values) -> Tensor:
    x, axes = given
    rank = x.ndim + axes.numel()
    for axis in sorted(int(one) % rank for one in axes.reshape(-1)):
        x = x.unsqueeze(axis)
    return x


def _split(node: ir.Node, given: Values) -> tuple[Tensor, ...]:
    x, axis = given[0], integer(node, "axis")
    sizes = given[1].tolist() if len(given) > 1 else [x.shape[axis] // len(node.outputs)] * len(node.outputs)
    return torch.split(x, sizes, axis)


def _reshape(node: ir.Node, given: Values) -> Tensor:
    x, shape = given
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


def _gemm(node: ir.Node, given: Values) -> Tensor:
    a, b, c = (*given, _NONE)[:3]
    product = a @ (b.T if integer(node, "transB") else b)
    return product if c is None else product + c


def _layer_norm(node: ir.Node, given: Values) -> Tensor:
    x, weight, bias = (*given, _NONE)[:3]
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    return functional.layer_norm(x, x.shape[integer(node, "axis", -1) :], weight, bias, epsilon)


def _quantize(node: ir.Node, given: Values) -> Tensor:
    x, step, zero = given
    axis = integer(node, "axis", 1)
    shape = [-1 if index == axis else 1 for index in range(x.ndim)] if step.numel() > 1 else []
    limits = torch.iinfo(zero.dtype)
    levels = torch.round(x / step.reshape(shape)) + zero.reshape(shape)
    return levels.clamp(limits.min, limits.max).to(zero.dtype)


def _dequantize(node: ir.Node, given: Values) -> Tensor:
    x, step, zero = given
    axis = integer(node, "axis", 1)
    shape = [-1 if index == axis else 1 for index in range(x.ndim)] if step.numel() > 1 else []
    return (x.float() - zero.reshape(shape).float()) * step.reshape(shape)


def _reduce(of: Callable[..., Tensor]) -> Emit:
    def run(node: ir.Node, given: Values) -> Tensor:
        return of(given[0], given[1].tolist(), bool(integer(node, "keepdims", 1)))

    return run


def _norm(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, 2, axes, keep)
    return norm


def _plain(of: Callable[..., Tensor]) -> Emit:
    return lambda _, given: of(*given)


TABLE: dict[tuple[str, str], Emit] = {
    **{(DOMAIN, f"PackedBinary{kind}"): _binary for kind in ("Conv2d", "ConvTranspose2d", "Linear")},
    **{(DOMAIN, kind): _int8 for kind in INT8},
    (DOMAIN, "LevelTable"): _level_table,
    (DOMAIN, "AveragePool2x2"): _pool2x2,
    (DOMAIN, "ChannelAffine"): _plain(lambda x, scale, bias: x * scale + bias),
    (DOMAIN, "CellMean"): _plain(torch.ops.bhpe.cell_mean),
    (DOMAIN, "Logistic"): _plain(torch.ops.bhpe.logistic),
    (DOMAIN, "RotationVector"): _plain(torch.ops.bhpe.rotation_vector),
    (DOMAIN, "Crop"): lambda node, given: torch.ops.bhpe.crop(
        *given, integer(node, "height"), integer(node, "width")
    ),
    (DOMAIN, "FixedPointLinear"): _plain(fixed_point_linear),
    (DOMAIN, "HeatMap"): lambda node, given: torch.ops.bhpe.heat_map(*given, integer(node, "depth")),
    (DOMAIN, "RPReLU"): _rprelu,
    (DOMAIN, "SamplePoints"): _plain(torch.ops.bhpe.sample_points),
    (DOMAIN, "SoftArgmax"): lambda node, given: torch.ops.bhpe.soft_argmax(
        *given, integer(node, "depth"), integer(node, "axes")
    ),
    ("", "Abs"): _plain(torch.abs),
    ("", "Add"): _plain(torch.add),
    ("", "ArgMax"): lambda node, given: given[0].argmax(
        integer(node, "axis"), bool(integer(node, "keepdims", 1))
    ),
    ("", "Atan"): _plain(torch.atan),
    ("", "Cast"): lambda node, given: given[0].to(DTYPES[ir.DataType(integer(node, "to"))]),
    ("", "Clip"): _clip,
    ("", "Concat"): lambda node, given: torch.cat(given, integer(node, "axis")),
    ("", "DequantizeLinear"): _dequantize,
    ("", "Div"): _plain(torch.div),
    ("", "Erf"): _plain(torch.erf),
    ("", "Expand"): _plain(lambda x, shape: x * torch.ones(shape.tolist(), dtype=x.dtype)),
    ("", "Floor"): _plain(torch.floor),
    ("", "Gather"): _gather,
    ("", "Gemm"): _gemm,
    ("", "Greater"): _plain(torch.gt),
    ("", "Identity"): _plain(lambda x: x),
    ("", "LayerNormalization"): _layer_norm,
    ("", "Less"): _plain(torch.lt),
    ("", "MatMul"): _plain(torch.matmul),
    ("", "Max"): lambda _, given: reduce(torch.maximum, given),
    ("", "MaxPool"): _max_pool,
    ("", "Min"): lambda _, given: reduce(torch.minimum, given),
    ("", "Mul"): _plain(torch.mul),
    ("", "Neg"): _plain(torch.neg),
    ("", "QuantizeLinear"): _quantize,
    ("", "ReduceL2"): _reduce(_norm),
    ("", "ReduceMean"): _reduce(lambda x, axes, keep: x.mean(axes, keep)),
    ("", "ReduceSum"): _reduce(lambda x, axes, keep: x.sum(axes, keep)),
    ("", "Relu"): _plain(torch.relu),
    ("", "Reshape"): _reshape,
    ("", "Round"): _plain(torch.round),
    ("", "Sigmoid"): _plain(torch.sigmoid),
    ("", "Slice"): _slice,
    ("", "Softmax"): lambda node, given: torch.softmax(given[0], integer(node, "axis", -1)),
    ("", "Split"): _split,
    ("", "Sqrt"): lambda _, given: torch.sqrt(given[0].double()).to(
        given[0].dtype
    ),  # float32's is an ulp off
    ("", "Sub"): _plain(torch.sub),
    ("", "Transpose"): lambda node, given: given[0].permute(
        integers(node, "perm", range(given[0].ndim)[::-1])
    ),
    ("", "Unsqueeze"): _unsqueeze,
    ("", "Where"): _plain(torch.where),
}
"""(domain, operation) -> what computes it."""

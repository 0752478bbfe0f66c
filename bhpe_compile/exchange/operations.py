"""How torch's operations are written in ONNX: what `record` calls for each.

Every function takes the recorder, the operation's result and its own arguments; one it has no parameter for makes the
operation unsupported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bhpe_compile.exchange.functions import DOMAIN
from bhpe_compile.exchange.record import Recorder, UnsupportedError
from bhpe_compile.networks.layers import (  # noqa: F401 (register the operators)
    crop,
    heat_maps,
    ops,
    sample_points,
    written_torch,
)


def _pair(values: Sequence[int]) -> list[int]:
    return list(values) * 2 if len(values) == 1 else list(values)


def _unary(kind: str) -> Callable[..., None]:
    def emit(r: Recorder, y: Tensor, x: Tensor) -> None:
        r.emit(kind, [r.value(x)], y)

    return emit


def _binary(kind: str) -> Callable[..., None]:
    def emit(r: Recorder, y: Tensor, a: Any, b: Any) -> None:
        dtype = torch.result_type(a, b)
        r.emit(kind, [r.value(a, dtype), r.value(b, dtype)], y)

    return emit


def _reduce(kind: str) -> Callable[..., None]:
    def emit(r: Recorder, y: Tensor, x: Tensor, dims: Sequence[int], keepdim: bool = False) -> None:
        r.emit(kind, [r.value(x), r.ints(*dims)], y, keepdims=int(keepdim))

    return emit


def _norm(
    r: Recorder, y: Tensor, x: Tensor, order: float, dims: Sequence[int], keepdim: bool = False
) -> None:
    if order != 2:
        raise UnsupportedError(f"order {order}")
    _reduce("ReduceL2")(r, y, x, dims, keepdim)


def _rsub(r: Recorder, y: Tensor, x: Tensor, number: float) -> None:
    _binary("Sub")(r, y, number, x)


def _clip(r: Recorder, y: Tensor, x: Tensor, low: float | None = None, high: float | None = None) -> None:
    bounds = [None if bound is None else r.value(bound, x.dtype) for bound in (low, high)]
    r.emit("Clip", [r.value(x), *bounds], y)


def _where(r: Recorder, y: Tensor, condition: Tensor, a: Tensor, b: Tensor) -> None:
    r.emit("Where", [r.value(condition), r.value(a, y.dtype), r.value(b, y.dtype)], y)


def _same(r: Recorder, y: Tensor, x: Tensor) -> None:
    r.alias(x, y)


def _clone(r: Recorder, y: Tensor, x: Tensor, *, memory_format: Any = None) -> None:
    r.alias(x, y)


def _reshape(r: Recorder, y: Tensor, x: Tensor, *_: Any) -> None:
    r.emit("Reshape", [r.value(x), r.ints(*y.shape)], y)


def _expand(r: Recorder, y: Tensor, x: Tensor, _: Any) -> None:
    r.emit("Expand", [r.value(x), r.ints(*y.shape)], y)


def _unsqueeze(r: Recorder, y: Tensor, x: Tensor, axis: int) -> None:
    r.emit("Unsqueeze", [r.value(x), r.ints(axis % y.ndim)], y)


def _transpose(r: Recorder, y: Tensor, x: Tensor, first: int, second: int) -> None:
    perm = list(range(x.ndim))
    perm[first], perm[second] = perm[second], perm[first]
    r.emit("Transpose", [r.value(x)], y, perm=perm)


def _slice(
    r: Recorder,
    y: Tensor,
    x: Tensor,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> None:
    bounds = (start or 0, x.shape[axis] if end is None else end, axis, step)
    r.emit("Slice", [r.value(x), *(r.ints(bound) for bound in bounds)], y)


def _flip(r: Recorder, y: Tensor, x: Tensor, axes: Sequence[int]) -> None:
    count = len(axes)
    bounds = ([-1] * count, [-(1 << 63)] * count, axes, [-1] * count)
    r.emit("Slice", [r.value(x), *(r.ints(*bound) for bound in bounds)], y)


def _select(r: Recorder, y: Tensor, x: Tensor, axis: int, index: int) -> None:
    r.emit("Gather", [r.value(x), r.value(index, torch.int64)], y, axis=axis % x.ndim)


def _split(r: Recorder, y: Sequence[Tensor], x: Tensor, _: int, axis: int = 0) -> None:
    sizes = r.ints(*(part.shape[axis] for part in y))
    r.emit("Split", [r.value(x), sizes], *y, axis=axis % x.ndim)


def _cat(r: Recorder, y: Tensor, parts: Sequence[Tensor], axis: int = 0) -> None:
    r.emit("Concat", [r.value(part, y.dtype) for part in parts], y, axis=axis % y.ndim)


def _stack(r: Recorder, y: Tensor, parts: Sequence[Tensor], axis: int = 0) -> None:
    columns = [part.unsqueeze(axis) for part in parts]
    for part, column in zip(parts, columns, strict=True):
        _unsqueeze(r, column, part, axis)
    _cat(r, y, columns, axis)


def _cross(r: Recorder, y: Tensor, a: Tensor, b: Tensor, dim: int = -1) -> None:
    (a1, a2, a3), (b1, b2, b3) = (torch.split(x, 1, dim) for x in (a, b))
    _split(r, (a1, a2, a3), a, 1, dim)
    _split(r, (b1, b2, b3), b, 1, dim)
    parts = []
    for left, right in (((a2, b3), (a3, b2)), ((a3, b1), (a1, b3)), ((a1, b2), (a2, b1))):
        first, second = left[0] * left[1], right[0] * right[1]
        parts.append(first - second)
        _binary("Mul")(r, first, *left)
        _binary("Mul")(r, second, *right)
        _binary("Sub")(r, parts[-1], first, second)
    _cat(r, y, parts, dim)


def _softmax(r: Recorder, y: Tensor, x: Tensor, axis: int, to_float: bool) -> None:
    r.emit("Softmax", [r.value(x)], y, axis=axis % x.ndim)


def _product(r: Recorder, y: Tensor, a: Tensor, b: Tensor) -> None:
    r.emit("MatMul", [r.value(a), r.value(b)], y)


def _arg_max(r: Recorder, y: Tensor, x: Tensor, axis: int | None = None, keepdim: bool = False) -> None:
    if axis is None:
        raise UnsupportedError("of all axes")
    r.emit("ArgMax", [r.value(x)], y, axis=axis % x.ndim, keepdims=int(keepdim))


def _gelu(r: Recorder, y: Tensor, x: Tensor, *, approximate: str = "none") -> None:
    """x / 2 (1 + erf(x / sqrt 2))."""
    if approximate != "none":
        raise UnsupportedError(f"approximate={approximate}")
    parts = [torch.empty_like(x) for _ in range(4)]
    _binary("Mul")(r, parts[0], x, math.sqrt(0.5))
    _unary("Erf")(r, parts[1], parts[0])
    _binary("Add")(r, parts[2], parts[1], 1.0)
    _binary("Mul")(r, parts[3], x, 0.5)
    _binary("Mul")(r, y, parts[3], parts[2])


def _hard_swish(r: Recorder, y: Tensor, x: Tensor) -> None:
    """x clip(x / 6 + 1 / 2, 0, 1), in operations that every program computes alike."""
    parts = [torch.empty_like(x) for _ in range(3)]
    _binary("Mul")(r, parts[0], x, 1 / 6)
    _binary("Add")(r, parts[1], parts[0], 0.5)
    _clip(r, parts[2], parts[1], 0.0, 1.0)
    _binary("Mul")(r, y, x, parts[2])


def _silu(r: Recorder, y: Tensor, x: Tensor) -> None:
    gate = torch.empty_like(x)
    _unary("Sigmoid")(r, gate, x)
    _binary("Mul")(r, y, x, gate)


def _prelu(r: Recorder, y: Tensor, x: Tensor, slope: Tensor) -> None:
    """torch hands over the slopes as they are broadcast, [1, C, 1, 1] for one a channel."""
    r.emit("PRelu", [r.value(x), r.value(slope)], y)


def _leaky_relu(r: Recorder, y: Tensor, x: Tensor, slope: float = 0.01) -> None:
    r.emit("LeakyRelu", [r.value(x)], y, alpha=float(slope))


def _elu(r: Recorder, y: Tensor, x: Tensor, alpha: float = 1.0) -> None:
    r.emit("Elu", [r.value(x)], y, alpha=float(alpha))


def _power(r: Recorder, y: Tensor, x: Tensor, exponent: float) -> None:
    _binary("Pow")(r, y, x, exponent)


def _pad(r: Recorder, y: Tensor, x: Tensor, pads: Sequence[int], fill: float = 0.0) -> None:
    rank, fronts, backs = x.ndim, [0] * x.ndim, [0] * x.ndim
    for place in range(len(pads) // 2):
        fronts[rank - 1 - place], backs[rank - 1 - place] = pads[2 * place : 2 * place + 2]
    r.emit("Pad", [r.value(x), r.ints(*fronts, *backs), r.value(fill, x.dtype)], y, mode="constant")


def _permute(r: Recorder, y: Tensor, x: Tensor, order: Sequence[int]) -> None:
    r.emit("Transpose", [r.value(x)], y, perm=[axis % x.ndim for axis in order])


def _bilinear(
    r: Recorder, y: Tensor, x: Tensor, size: Sequence[int] | None, corners: bool, *factors: Any
) -> None:
    where = "align_corners" if corners else "half_pixel"
    sizes = r.ints(*y.shape)
    more = {"mode": "linear", "coordinate_transformation_mode": where}
    r.emit("Resize", [r.value(x), None, None, sizes], y, **more)


def _layer_norm(
    r: Recorder,
    y: Sequence[Tensor],
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
) -> None:
    if weight is None:
        raise UnsupportedError("no affine")
    inputs = [r.value(one) for one in (x, weight, bias) if one is not None]
    r.emit("LayerNormalization", inputs, y[0], axis=x.ndim - len(shape), epsilon=epsilon)


def _mm(r: Recorder, y: Tensor, a: Tensor, b: Tensor, bias: Tensor | None = None) -> None:
    plain = r.transposed(b)  # the weight itself, under its name
    factors = [r.value(a), r.value(b if plain is None else plain)]
    r.emit("Gemm", factors if bias is None else [*factors, r.value(bias)], y, transB=int(plain is not None))


def _addmm(r: Recorder, y: Tensor, bias: Tensor, a: Tensor, b: Tensor) -> None:
    _mm(r, y, a, b, bias)


def _convolution(
    r: Recorder,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> None:
    inputs = [r.value(x), r.value(weight), *([] if bias is None else [r.value(bias)])]
    extra = {"output_padding": output_padding} if transposed else {}
    kind = "ConvTranspose" if transposed else "Conv"
    size = list(weight.shape[2:])
    more: dict[str, Any] = {
        "strides": stride,
        "pads": padding * 2,
        "dilations": dilation,
        "group": groups,
        **extra,
    }
    r.emit(kind, inputs, y, kernel_shape=size, **more)


def _batch_norm(
    r: Recorder,
    y: Sequence[Tensor],
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    epsilon: float,
) -> None:
    if training or gamma is None or beta is None:
        raise UnsupportedError("statistics of the batch, or no affine")
    inputs = [r.value(t) for t in (x, gamma, beta, mean, var)]
    r.emit("BatchNormalization", inputs, y[0], epsilon=epsilon)


def _max_pool(
    r: Recorder,
    y: Sequence[Tensor],
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: Sequence[int] = (0,),
) -> None:
    more: dict[str, Any] = {"strides": _pair(stride), "pads": _pair(padding) * 2}
    r.emit("MaxPool", [r.value(x)], y[0], kernel_shape=_pair(kernel), **more)


def _average_pool(
    r: Recorder,
    y: Tensor,
    x: Tensor,
    kernel: list[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
) -> None:
    more: dict[str, Any] = {
        "strides": _pair(stride or kernel),
        "pads": _pair(padding) * 2,
        "count_include_pad": 1,
    }
    r.emit("AveragePool", [r.value(x)], y, kernel_shape=_pair(kernel), **more)


def _nearest(r: Recorder, y: Tensor, x: Tensor, *_: Any) -> None:
    """Every pixel becomes a block of pixels, where the factors are whole; others have positions of their own."""
    sizes = zip(y.shape[2:], x.shape[2:], strict=True)
    if any(after % before for after, before in sizes):
        raise UnsupportedError(
            f"from {list(x.shape[2:])} to {list(y.shape[2:])} pixels, which is no whole factor"
        )
    scales = torch.tensor([after / before for after, before in zip(y.shape, x.shape, strict=True)])
    more = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    r.emit("Resize", [r.value(x), None, r.value(scales)], y, **more)


def _bhpe_conv(kind: str) -> Callable[..., None]:
    def emit(r: Recorder, y: Tensor, *args: Any) -> None:
        five, stride, padding = args[:5], args[5], args[6]
        inputs = [r.value(t) for t in five]
        r.emit(kind, inputs, y, domain=DOMAIN, strides=[stride] * 2, pads=[padding] * 4)

    return emit


def _bhpe(kind: str, count: int) -> Callable[..., None]:
    def emit(r: Recorder, y: Tensor, *args: Any) -> None:
        r.emit(kind, [r.value(t) for t in args[:count]], y, domain=DOMAIN)

    return emit


def _heat_map(r: Recorder, y: Tensor, x: Tensor, depth: int) -> None:
    r.emit("HeatMap", [r.value(x)], y, domain=DOMAIN, depth=depth)


def _soft_argmax(r: Recorder, y: Tensor, x: Tensor, depth: int, axes: int) -> None:
    r.emit("SoftArgmax", [r.value(x)], y, domain=DOMAIN, depth=depth, axes=axes)


def _crop(r: Recorder, y: Tensor, x: Tensor, boxes: Tensor, height: int, width: int) -> None:
    r.emit("Crop", [r.value(x), r.value(boxes)], y, domain=DOMAIN, height=height, width=width)


TABLE: dict[str, Callable[..., None]] = {
    "aten._softmax.default": _softmax,
    "aten._unsafe_view.default": _reshape,
    "aten._prelu_kernel.default": _prelu,
    "aten.abs.default": _unary("Abs"),
    "aten.add.Tensor": _binary("Add"),
    "aten.addmm.default": _addmm,
    "aten.alias.default": _same,
    "aten.amax.default": _reduce("ReduceMax"),
    "aten.amin.default": _reduce("ReduceMin"),
    "aten.argmax.default": _arg_max,
    "aten.atan.default": _unary("Atan"),
    "aten.avg_pool2d.default": _average_pool,
    "aten.bmm.default": _product,
    "aten.cat.default": _cat,
    "aten.clamp.default": _clip,
    "aten.clamp_min.default": _clip,
    "aten.clone.default": _clone,
    "aten.constant_pad_nd.default": _pad,
    "aten.convolution.default": _convolution,
    "aten.detach.default": _same,
    "aten.div.Tensor": _binary("Div"),
    "aten.elu.default": _elu,
    "aten.erf.default": _unary("Erf"),
    "aten.exp.default": _unary("Exp"),
    "aten.expand.default": _expand,
    "aten.flip.default": _flip,
    "aten.gelu.default": _gelu,
    "aten.gt.Scalar": _binary("Greater"),
    "aten.hardswish.default": _hard_swish,
    "aten.hardtanh.default": _clip,
    "aten.leaky_relu.default": _leaky_relu,
    "aten.linalg_cross.default": _cross,
    "aten.linalg_vector_norm.default": _norm,
    "aten.log.default": _unary("Log"),
    "aten.lt.Scalar": _binary("Less"),
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.maximum.default": _binary("Max"),
    "aten.minimum.default": _binary("Min"),
    "aten.mean.dim": _reduce("ReduceMean"),
    "aten.mm.default": _mm,
    "aten.mul.Tensor": _binary("Mul"),
    "aten.native_batch_norm.default": _batch_norm,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.neg.default": _unary("Neg"),
    "aten.permute.default": _permute,
    "aten.pow.Tensor_Scalar": _power,
    "aten.relu.default": _unary("Relu"),
    "aten.round.default": _unary("Round"),
    "aten.rsub.Scalar": _rsub,
    "aten.select.int": _select,
    "aten.sigmoid.default": _unary("Sigmoid"),
    "aten.silu.default": _silu,
    "aten.slice.Tensor": _slice,
    "aten.split.Tensor": _split,
    "aten.sqrt.default": _unary("Sqrt"),
    "aten.stack.default": _stack,
    "aten.sub.Tensor": _binary("Sub"),
    "aten.sum.dim_IntList": _reduce("ReduceSum"),
    "aten.tanh.default": _unary("Tanh"),
    "aten.transpose.int": _transpose,
    "aten.unsqueeze.default": _unsqueeze,
    "aten.upsample_bilinear2d.default": _bilinear,
    "aten.upsample_nearest2d.default": _nearest,
    "aten.view.default": _reshape,
    "aten.where.self": _where,
    "bhpe.binary_conv2d.default": _bhpe_conv("BinaryConv2d"),
    "bhpe.binary_conv_transpose2d.default": _bhpe_conv("BinaryConvTranspose2d"),
    "bhpe.binary_linear.default": _bhpe("BinaryLinear", 5),
    "bhpe.cell_mean.default": _bhpe("CellMean", 1),
    "bhpe.crop.default": _crop,
    "bhpe.heat_map.default": _heat_map,
    "bhpe.logistic.default": _bhpe("Logistic", 1),
    "bhpe.rotation_vector.default": _bhpe("RotationVector", 1),
    "bhpe.rprelu.default": _bhpe("RPReLU", 4),
    "bhpe.sample_points.default": _bhpe("SamplePoints", 2),
    "bhpe.soft_argmax.default": _soft_argmax,
}
"""Operation -> what writes its node."""

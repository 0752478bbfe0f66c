"""Running a network once and writing down, as ONNX, every operation that depends on its input.

torch hands each operation, after its own simplification, to the active dispatch mode: about fifty kinds for our
networks. What does not depend on the input (coordinates, constants) is computed on the way and becomes an initializer.
The values that pass through are those of a normal run, so the outputs serve as reference. An operation without an
entry in the table does not stop the run; `refusal` names it, and there is no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from bhpe_compile.exchange.functions import DOMAIN, OPSET, VERSION
from bhpe_compile.models import ops, roi_align  # noqa: F401 (register the operators)

_TYPES = {torch.float32: ir.DataType.FLOAT, torch.int64: ir.DataType.INT64, torch.bool: ir.DataType.BOOL}
_SHAPED_ONLY = ("full_like", "zeros_like", "ones_like")
"""Operations that read nothing of their argument but its shape."""

Operand = ir.Value | None


class UnsupportedError(Exception):
    """An operation, or a form of one, that the table does not know."""


class Recorder(TorchDispatchMode):
    """Records what `graph` does while the mode is active; `begin` names the input, `finish` the outputs."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        self.refusal: str | None = None
        self._names = WeakTensorKeyDictionary()
        for name, tensor in (*graph.named_parameters(), *graph.named_buffers()):
            self._names[tensor] = name
        self._values = WeakTensorKeyDictionary()  # None: computed from the input, but not recorded
        self._transposed = WeakTensorKeyDictionary()  # constant -> what it is the transposed of
        self._initializers: dict[str, ir.Value] = {}
        self._nodes: list[ir.Node] = []
        self._inputs: list[ir.Value] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch's question whether its compiler must be told to keep out, for which it would import all of it."""
        return False

    # ---- what the table's functions use -------------------------------------------------------------------

    def value(self, tensor: Any, dtype: torch.dtype | None = None) -> ir.Value:
        """The ONNX value of a tensor; a constant (or number) becomes an initializer, of `dtype` where given."""
        if isinstance(tensor, Tensor) and tensor in self._values:
            found: ir.Value | None = self._values[tensor]
            if found is None or (dtype is not None and tensor.dtype != dtype):
                raise UnsupportedError("a result of another operation that is not recorded, or another type")
            return found
        name = str(self._names.get(tensor, "")) if isinstance(tensor, Tensor) else ""
        if name in self._initializers:
            return self._initializers[name]
        constant = torch.as_tensor(tensor, dtype=dtype).detach().contiguous()
        if constant.dtype not in _TYPES:
            raise UnsupportedError(f"constants of type {constant.dtype}")
        name = name or f"constant_{len(self._initializers)}"
        value = ir.val(name, const_value=ir.tensor(constant.numpy(), name=name))
        self._initializers[name] = value
        return value

    def ints(self, *numbers: int) -> ir.Value:
        """An int64 vector."""
        return self.value(torch.tensor(numbers, dtype=torch.int64))

    def emit(
        self, kind: str, inputs: Sequence[Operand], *results: Tensor, domain: str = "", **attributes: Any
    ) -> None:
        """One node whose outputs are the values of `results`."""
        values = []
        for result in results:
            if result.dtype not in _TYPES:
                raise UnsupportedError(f"values of type {result.dtype}")
            kind_of = ir.TensorType(_TYPES[result.dtype])
            values.append(ir.val(None, type=kind_of, shape=tuple(result.shape)))
        name = f"{kind}_{len(self._nodes)}"
        for index, value in enumerate(values):
            value.name = f"{name}.{index}" if index else f"{name}.out"
        self._nodes.append(ir.node(kind, list(inputs), attributes, domain=domain, outputs=values, name=name))
        for result, value in zip(results, values, strict=True):
            self._values[result] = value

    def alias(self, tensor: Tensor, result: Tensor) -> None:
        """`result` is the same value."""
        self._values[result] = self.value(tensor)

    def transposed(self, tensor: Tensor) -> Tensor | None:
        """The constant matrix that `tensor` is the transposed of."""
        found: Tensor | None = self._transposed.get(tensor)
        return found

    # ---- the run ------------------------------------------------------------------------------------------

    def begin(self, tensor: Tensor, name: str) -> None:
        """`tensor` is the input of the network."""
        value = ir.val(name, type=ir.TensorType(_TYPES[tensor.dtype]), shape=tuple(tensor.shape))
        self._inputs.append(value)
        self._values[tensor] = value

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        results = [r for r in (result if isinstance(result, tuple | list) else (result,)) if _is_tensor(r)]
        name = func._schema.name.partition("::")[2]
        if not any(tensor in self._values for tensor in _tensors(args)) or name in _SHAPED_ONLY:
            if name == "t":
                self._transposed[result] = args[0]
            return result
        try:
            if func._schema.is_mutable:
                raise UnsupportedError("it changes its argument")
            if str(func) not in TABLE:
                raise UnsupportedError("it has no entry in the table")
            TABLE[str(func)](self, result, *args, **options)
        except (
            UnsupportedError,
            TypeError,
        ) as problem:  # TypeError: more arguments than the table's function takes
            self.refusal = self.refusal or f"{func}: {problem}"
        for tensor in results:
            if tensor not in self._values:
                self._values[tensor] = None
        return result

    def finish(self, outputs: Mapping[str, Tensor]) -> ir.Model:
        """The model of all that was recorded. UnsupportedError when an operation was not."""
        if self.refusal is not None:
            raise UnsupportedError(self.refusal)
        values = []
        for name, tensor in outputs.items():
            value = self.value(tensor)
            if value.producer() is None or any(value is other for other in values):
                self.emit("Identity", [value], tensor)
                value = self.value(tensor)
            value.name = name
            values.append(value)
        graph = ir.Graph(
            self._inputs,
            values,
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": OPSET, DOMAIN: VERSION},
            name="bhpe",
        )
        return ir.Model(graph, ir_version=10)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    lists = [a for a in args if isinstance(a, list | tuple)]
    return [a for a in (*args, *(item for one in lists for item in one)) if _is_tensor(a)]


# ---- the table: (recorder, result, the operation's own arguments) -------------------------------------------


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
    (a1, a2, a3), (b1, b2, b3) = (x.split(1, dim) for x in (a, b))
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
    more = {"strides": stride, "pads": padding * 2, "dilations": dilation, "group": groups, **extra}
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
    more = {"strides": _pair(stride), "pads": _pair(padding) * 2}
    r.emit("MaxPool", [r.value(x)], y[0], kernel_shape=_pair(kernel), **more)


def _average_pool(
    r: Recorder,
    y: Tensor,
    x: Tensor,
    kernel: list[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
) -> None:
    more = {"strides": _pair(stride or kernel), "pads": _pair(padding) * 2, "count_include_pad": 1}
    r.emit("AveragePool", [r.value(x)], y, kernel_shape=_pair(kernel), **more)


def _grid_sample(
    r: Recorder, y: Tensor, x: Tensor, grid: Tensor, mode: int, padding: int, corners: bool
) -> None:
    if mode or padding:
        raise UnsupportedError("other than bilinear with zeros outside")
    more = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": int(corners)}
    r.emit("GridSample", [r.value(x), r.value(grid)], y, **more)


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


def _roi_align(
    r: Recorder, y: Tensor, x: Tensor, boxes: Tensor, index: Tensor, height: int, width: int
) -> None:
    r.emit(
        "RoiAlign",
        [r.value(t) for t in (x, boxes, index)],
        y,
        output_height=height,
        output_width=width,
        sampling_ratio=0,
        mode="avg",
        coordinate_transformation_mode="output_half_pixel",
    )


TABLE: dict[str, Callable[..., None]] = {
    "aten._softmax.default": _softmax,
    "aten._unsafe_view.default": _reshape,
    "aten.abs.default": _unary("Abs"),
    "aten.add.Tensor": _binary("Add"),
    "aten.addmm.default": _addmm,
    "aten.alias.default": _same,
    "aten.atan.default": _unary("Atan"),
    "aten.avg_pool2d.default": _average_pool,
    "aten.cat.default": _cat,
    "aten.clamp.default": _clip,
    "aten.clamp_min.default": _clip,
    "aten.convolution.default": _convolution,
    "aten.detach.default": _same,
    "aten.div.Tensor": _binary("Div"),
    "aten.expand.default": _expand,
    "aten.flip.default": _flip,
    "aten.grid_sampler_2d.default": _grid_sample,
    "aten.gt.Scalar": _binary("Greater"),
    "aten.hardtanh.default": _clip,
    "aten.linalg_cross.default": _cross,
    "aten.linalg_vector_norm.default": _norm,
    "aten.lt.Scalar": _binary("Less"),
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.maximum.default": _binary("Max"),
    "aten.mean.dim": _reduce("ReduceMean"),
    "aten.mm.default": _mm,
    "aten.mul.Tensor": _binary("Mul"),
    "aten.native_batch_norm.default": _batch_norm,
    "aten.neg.default": _unary("Neg"),
    "aten.relu.default": _unary("Relu"),
    "aten.rsub.Scalar": _rsub,
    "aten.select.int": _select,
    "aten.sigmoid.default": _unary("Sigmoid"),
    "aten.slice.Tensor": _slice,
    "aten.split.Tensor": _split,
    "aten.sqrt.default": _unary("Sqrt"),
    "aten.stack.default": _stack,
    "aten.sub.Tensor": _binary("Sub"),
    "aten.sum.dim_IntList": _reduce("ReduceSum"),
    "aten.transpose.int": _transpose,
    "aten.unsqueeze.default": _unsqueeze,
    "aten.view.default": _reshape,
    "aten.where.self": _where,
    "bhpe.binary_conv2d.default": _bhpe_conv("BinaryConv2d"),
    "bhpe.binary_conv_transpose2d.default": _bhpe_conv("BinaryConvTranspose2d"),
    "bhpe.binary_linear.default": _bhpe("BinaryLinear", 5),
    "bhpe.roi_align.default": _roi_align,
    "bhpe.rprelu.default": _bhpe("RPReLU", 4),
}
"""Operation -> what writes its node."""

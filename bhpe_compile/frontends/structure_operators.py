"""Operators of an ONNX graph as steps of a `Structure`: one function each, listed in `EMITTERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from torch import Tensor

from bhpe_compile.exchange.nodes import array_of, integer, integers, shape_of, text
from bhpe_compile.frontends.structure_layers import batch_norm, convolution, gemm, layer_norm, padded, prelu
from bhpe_compile.frontends.structure_writer import PER_AXIS, StructureWriter, number
from bhpe_compile.networks.structure import Setting, Structure

UNBOUNDED = 1e30
"""From here on a bound bounds nothing."""

ONE_TO_ONE = {
    **{"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hard_swish"},
}
"""Activations that are modules, without settings."""

FUNCTIONS = {
    **{"Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Neg": "neg", "Abs": "abs", "Erf": "erf"},
}
ELEMENTS = {
    **{"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Max": "maximum", "Min": "minimum"},
    "Sum": "add",
}
REDUCTIONS = {
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceL2": "length",
}
SHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def _clip(w: StructureWriter, node: ir.Node) -> None:
    bounds: dict[str, Any] = {}
    for index, name in ((1, "min"), (2, "max")):
        array = w.weight(node, index)
        bound = number(node, name, UNBOUNDED) if array is None else float(array.reshape(()))
        if abs(bound) < UNBOUNDED:
            bounds[name] = bound
    if len(bounds) == 2 and bounds["min"] < bounds["max"]:
        w.module("clip", node, low=bounds["min"], high=bounds["max"])
    elif bounds == {"min": 0.0}:
        w.module("relu", node)
    else:
        w.emit("clamp", [w.name_of(node.inputs[0], node)], node.outputs[0], **bounds)


def _hard_sigmoid(w: StructureWriter, node: ir.Node) -> None:
    slope, shift = (
        w.constant(np.array(number(node, name, usual), np.float32))
        for name, usual in (("alpha", 0.2), ("beta", 0.5))
    )
    y = w.emit("add", [w.emit("mul", [w.name_of(node.inputs[0], node), slope]), shift])
    w.emit("clamp", [y], node.outputs[0], min=0.0, max=1.0)


def _gelu(w: StructureWriter, node: ir.Node) -> None:
    if text(node, "approximate", "none") != "none":
        raise w.refusal(node, "it is approximated by Tanh")
    w.module("gelu", node)


def _power(w: StructureWriter, node: ir.Node) -> None:
    exponent = w.weight(node, 1)
    if exponent is None or exponent.size != 1:
        raise w.refusal(node, "its exponents are several")
    x = w.name_of(node.inputs[0], node)
    w.emit("power", [x], node.outputs[0], exponent=float(exponent.reshape(())))


def _elements(w: StructureWriter, node: ir.Node) -> None:
    rank, first = len(shape_of(node.outputs[0])), shape_of(node.outputs[0])[:1]
    for value in node.inputs:
        shape = shape_of(value)
        stored = array_of(value) is not None
        fits = len(shape) < rank or shape[:1] == (1,) if stored else shape[:1] == first and len(shape) == rank
        if not fits:
            raise w.refusal(node, "puts values of other numbers of pictures together")
    names = [w.name_of(value, node) for value in node.inputs]
    total = names[0]
    for name in names[1:]:
        total = w.emit(ELEMENTS[node.op_type], [total, name])
    w.names[node.outputs[0]] = total


def _reciprocal(w: StructureWriter, node: ir.Node) -> None:
    one = w.constant(np.array(1, np.float32))
    w.emit("div", [one, w.name_of(node.inputs[0], node)], node.outputs[0])


def _matmul(w: StructureWriter, node: ir.Node) -> None:
    shapes = [shape_of(value) for value in node.inputs]
    if any(array_of(value) is not None for value in node.inputs):
        stored = [array_of(value) is not None for value in node.inputs]
        rank = max(len(shape) for shape in shapes)
        if not all(len(s) < rank or s[0] == 1 for s, one in zip(shapes, stored, strict=True) if one):
            raise w.refusal(node, "its first axis is that of a stored factor")
        if rank < 3 and stored[0]:
            raise w.refusal(node, "mixes the first axis, along which the pictures of a batch lie")
    elif len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 3 or shapes[0][0] != shapes[1][0]:
        raise w.refusal(node, "mixes the first axis, along which the pictures of a batch lie")
    w.emit("matmul", [w.name_of(value, node) for value in node.inputs], node.outputs[0])


def _softmax(w: StructureWriter, node: ir.Node) -> None:
    rank, new = len(shape_of(node.inputs[0])), w.opset >= PER_AXIS
    axis = w.axis(node, integer(node, "axis", -1 if new else 1), rank)
    if not new and axis != rank - 1:
        raise w.refusal(node, f"is one of op set {w.opset}, along several axes at once")
    w.emit("softmax", [w.name_of(node.inputs[0], node)], node.outputs[0], axis=axis)


def _global_pool(w: StructureWriter, node: ir.Node) -> None:
    axes = tuple(range(2, len(shape_of(node.inputs[0]))))
    kind = "mean" if node.op_type == "GlobalAveragePool" else "max"
    w.emit(kind, [w.name_of(node.inputs[0], node)], node.outputs[0], axes=axes, keep=1)


def _reduce(w: StructureWriter, node: ir.Node) -> None:
    rank = len(shape_of(node.inputs[0]))
    axes = w.integers(node, 1, "axes")
    if axes is None:
        axes = tuple(range(rank))
    counted = tuple(w.axis(node, axis, rank) for axis in axes)
    x, keep = w.name_of(node.inputs[0], node), integer(node, "keepdims", 1)
    w.emit(REDUCTIONS[node.op_type], [x], node.outputs[0], axes=counted, keep=keep)


def _pool(w: StructureWriter, node: ir.Node) -> None:
    if len(node.outputs) > 1 or any(one != 1 for one in integers(node, "dilations", ())):
        raise w.refusal(node, "it is dilated, or tells where its maxima were")
    most = node.op_type == "MaxPool"
    x = w.name_of(node.inputs[0], node)
    top, left, bottom, right = integers(node, "pads", (0, 0, 0, 0))
    if not most and (top, left) != (bottom, right):
        raise w.refusal(node, "it is padded on one side")
    x, padding = padded(w, node, x, float(np.finfo(np.float32).min))
    settings: dict[str, Setting] = {
        "kernel": integers(node, "kernel_shape", ()),
        "stride": integers(node, "strides", (1, 1)),
        "padding": padding,
        "ceil": integer(node, "ceil_mode"),
    }
    if not most:
        settings["count_padding"] = integer(node, "count_include_pad")
    path = w.path(node.name or "pool")
    w.emit("max_pool" if most else "average_pool", [x], node.outputs[0], path, **settings)


def _reshape(w: StructureWriter, node: ir.Node) -> None:
    """Also Flatten, Squeeze and Unsqueeze: what the result's axes are is known."""
    _to_shape(w, node, w.name_of(node.inputs[0], node), shape_of(node.outputs[0]), node.outputs[0])


def _to_shape(
    w: StructureWriter, node: ir.Node, x: str, shape: tuple[int, ...], value: ir.Value | None
) -> str:
    if not shape or 0 in shape:
        raise w.refusal(node, "leaves no axis for the pictures of a batch")
    return w.emit("reshape", [x], value, rest=shape[1:])


def _transpose(w: StructureWriter, node: ir.Node) -> None:
    rank = len(shape_of(node.inputs[0]))
    order = integers(node, "perm", tuple(reversed(range(rank))))
    if order[0] != 0:
        raise w.refusal(node, "moves the first axis, along which the pictures of a batch lie")
    w.emit("transpose", [w.name_of(node.inputs[0], node)], node.outputs[0], order=order)


def _concat(w: StructureWriter, node: ir.Node) -> None:
    axis = w.axis(node, integer(node, "axis"), len(shape_of(node.outputs[0])))
    if any(array_of(value) is not None for value in node.inputs):
        raise w.refusal(node, "puts a constant behind values of every picture")
    w.emit("concat", [w.name_of(value, node) for value in node.inputs], node.outputs[0], axis=axis)


def _slice(w: StructureWriter, node: ir.Node) -> None:
    shape = shape_of(node.inputs[0])
    starts, ends = w.integers(node, 1, "starts") or (), w.integers(node, 2, "ends") or ()
    axes = w.integers(node, 3, "axes") or tuple(range(len(starts)))
    steps = w.integers(node, 4) or (1,) * len(starts)
    x = w.name_of(node.inputs[0], node)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(shape)
        last = None if step < 0 and end < -shape[axis] else end
        entries = range(shape[axis])[slice(start, last, step)]
        if entries == range(shape[axis]):
            continue
        w.axis(node, axis, len(shape))
        if not entries:
            raise w.refusal(node, "nothing is left")
        if step > 0:
            x = w.emit("slice", [x], axis=axis, start=entries[0], end=entries[-1] + 1, step=step)
        else:
            x = w.emit("select", [x], axis=axis, entries=tuple(entries))
    w.names[node.outputs[0]] = x


def _split(w: StructureWriter, node: ir.Node) -> None:
    shape = shape_of(node.inputs[0])
    axis = w.axis(node, integer(node, "axis"), len(shape))
    x, start = w.name_of(node.inputs[0], node), 0
    for value in node.outputs:
        end = start + shape_of(value)[axis]
        w.emit("slice", [x], value, axis=axis, start=start, end=end, step=1)
        start = end


def _gather(w: StructureWriter, node: ir.Node) -> None:
    shape, entries = shape_of(node.inputs[0]), w.integers(node, 1)
    axis = w.axis(node, integer(node, "axis"), len(shape))
    counted = tuple(entry % shape[axis] for entry in entries or ())
    y = w.emit("select", [w.name_of(node.inputs[0], node)], axis=axis, entries=counted)
    _to_shape(w, node, y, shape_of(node.outputs[0]), node.outputs[0])


def _pad(w: StructureWriter, node: ir.Node) -> None:
    if text(node, "mode", "constant") != "constant":
        raise w.refusal(node, "pads with values of the edge")
    rank = len(shape_of(node.inputs[0]))
    amounts, fill = w.integers(node, 1, "pads") or (), w.weight(node, 2)
    axes = w.integers(node, 3) or tuple(range(rank))
    pads = [0] * (2 * rank)
    for axis, front, back in zip(axes, amounts, amounts[len(axes) :], strict=False):
        if front or back:
            place = 2 * (rank - 1 - w.axis(node, axis, rank))
            pads[place : place + 2] = front, back
    value = number(node, "value", 0.0) if fill is None else float(fill.reshape(()))
    w.emit("pad", [w.name_of(node.inputs[0], node)], node.outputs[0], pads=tuple(pads), fill=value)


def _resize(w: StructureWriter, node: ir.Node) -> None:
    before, after = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    mode, where = text(node, "mode", "nearest"), text(node, "coordinate_transformation_mode", "half_pixel")
    if len(after) != 4 or before[:2] != after[:2]:
        raise w.refusal(node, "scales something else than rows and columns of maps")
    factors = {large / small for large, small in zip(after[2:], before[2:], strict=True)}
    x, size = w.name_of(node.inputs[0], node), after[2:]
    rounding = text(node, "nearest_mode", "round_prefer_floor")
    # a pixel becomes a block of pixels, which is what torch does where the factors are whole
    blocks = (
        (where, rounding) == ("asymmetric", "floor")
        or (where in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round_prefer"))
        or (where == "asymmetric" and rounding == "round_prefer_floor" and factors == {2.0})
    )
    if mode == "nearest" and blocks and all(factor.is_integer() for factor in factors):
        w.emit("resize", [x], node.outputs[0], size=size, mode="nearest")
    elif mode == "linear" and where in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = int(where == "align_corners")
        w.emit("resize", [x], node.outputs[0], size=size, mode="bilinear", corners=corners)
    else:
        raise w.refusal(node, f"mode {mode}, {where}, {rounding} has no form in torch")


def _depth_to_space(w: StructureWriter, node: ir.Node) -> None:
    block, (batch, channels, rows, columns) = integer(node, "blocksize", 1), shape_of(node.inputs[0])
    inner = channels // block**2
    columns_first = text(node, "mode", "DCR") == "CRD"
    parts = (inner, block, block) if columns_first else (block, block, inner)
    order = (0, 1, 4, 2, 5, 3) if columns_first else (0, 3, 4, 1, 5, 2)
    x = _to_shape(w, node, w.name_of(node.inputs[0], node), (batch, *parts, rows, columns), None)
    x = w.emit("transpose", [x], order=order)
    _to_shape(w, node, x, shape_of(node.outputs[0]), node.outputs[0])


def _expand(w: StructureWriter, node: ir.Node) -> None:
    before, after = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    if len(before) != len(after) or before[:1] != after[:1]:
        raise w.refusal(node, "changes the first axis, along which the pictures of a batch lie")
    w.emit("expand", [w.name_of(node.inputs[0], node)], node.outputs[0], rest=after[1:])


def _same(w: StructureWriter, node: ir.Node) -> None:
    if node.inputs[0] is None or node.outputs[0].dtype != node.inputs[0].dtype:
        raise w.refusal(node, "makes whole numbers, which have no gradient")
    w.names[node.outputs[0]] = w.name_of(node.inputs[0], node)


Emitter = Callable[[StructureWriter, ir.Node], None]


def _plain(kind: str) -> Emitter:
    return lambda w, node: void(w.module(kind, node))


def _function(kind: str) -> Emitter:
    return lambda w, node: void(w.emit(kind, [w.name_of(node.inputs[0], node)], node.outputs[0]))


def void(_: object) -> None:
    """Nothing, of what a lambda computes."""


EMITTERS: dict[str, Emitter] = {
    "Conv": convolution,
    "ConvTranspose": convolution,
    "Gemm": gemm,
    "MatMul": _matmul,
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "PRelu": prelu,
    **{kind: _plain(ours) for kind, ours in ONE_TO_ONE.items()},
    **{kind: _function(ours) for kind, ours in FUNCTIONS.items()},
    **dict.fromkeys(ELEMENTS, _elements),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(SHAPES, _reshape),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global_pool),
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    "Clip": _clip,
    "LeakyRelu": lambda w, node: void(w.module("leaky_relu", node, slope=number(node, "alpha", 0.01))),
    "Elu": lambda w, node: void(w.module("elu", node, alpha=number(node, "alpha", 1.0))),
    "HardSigmoid": _hard_sigmoid,
    "Gelu": _gelu,
    "Pow": _power,
    "Reciprocal": _reciprocal,
    "Softmax": _softmax,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Identity": _same,
    "Cast": _same,
}
"""What writes each operator."""


def written(source: str, model: ir.Model) -> tuple[Structure, dict[str, Tensor]]:
    """A graph, every operator of which is in `EMITTERS`, as structure and state. InputError names what has no form."""
    writer = StructureWriter(source, model)
    for node in model.graph:
        EMITTERS[node.op_type](writer, node)
    return writer.finished()

"""Bodies of the `bhpe` operators in standard ONNX operations (opset 18): what ONNX Runtime executes.

Signs are uint8 with zero point 1: 0 = -1, 1 = nothing, 2 = +1. ConvInteger and MatMulInteger then sum in int32,
exactly, and zero padding is the zero point, so it contributes 0. (A float convolution would lose that: runtimes
fuse the scale into the weights.) sign(x) is Where(x >= t, ...), because Sign(0) is 0.

    BinaryConv2d, BinaryLinear        y = scale * dot + bias
    BinaryConvTranspose2d             zeros between the pixels, then a convolution with the flipped kernel
    Packed...                         the same, weights as bits of uint32 words along the input channels;
                                      `channels` of them, bits beyond are 0 and cut off
    Int8Conv2d, Int8DepthwiseConv2d, Int8ConvTranspose2d
                                       the same with levels: QuantizeLinear(x, step, zero), weights int8
    LevelTable                        y = (table[clip(rint(x / step) + zero, 0, 255)] - out_zero) * out_step
    RPReLU                            y = (x > gamma ? x - gamma : beta * (x - gamma)) + zeta
    ChannelAffine                     y = x * scale + bias
    AveragePool2x2                    y = (((a + b) + c) + d) / 4 of x's pixels (0,0), (0,1), (1,0), (1,1)

A body says what the kernels compute, operation by operation and in their order, so that both give the same bits.

Those between heat maps and crops stand in `map_bodies.py`, linear layers in `linear_body.py`,
what is behind the last level in `written_bodies.py`.

Bodies are flat: ONNX Runtime infers wrong shapes through functions that call functions. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from bhpe_compile.exchange.attributes import attributes_of
from bhpe_compile.exchange.linear_body import LINEAR_OPERATORS
from bhpe_compile.exchange.map_bodies import MAP_OPERATORS
from bhpe_compile.exchange.written_bodies import WRITTEN_OPERATORS

DOMAIN = "bhpe"
VERSION = 1
OPSET = 18

BINARY_CONVOLUTIONS = ("BinaryConv2d", "BinaryConvTranspose2d")
BINARY = (*BINARY_CONVOLUTIONS, "BinaryLinear")
"""Operators that multiply signs by signs, their weights still floats."""

PACKED = tuple(f"Packed{name}" for name in BINARY)
"""The same in the same order, their weights bits."""

INT8 = ("Int8Conv2d", "Int8ConvTranspose2d", "Int8DepthwiseConv2d")
"""Convolutions of levels: inputs x, step, zero, weight (int8, [O,C,kh,kw]; transposed [C,O,kh,kw]), scale, bias."""

_UINT32, _BOOL, _FLOAT, _INT32 = (
    int(t) for t in (ir.DataType.UINT32, ir.DataType.BOOL, ir.DataType.FLOAT, ir.DataType.INT32)
)


class _Body:
    """Emits the nodes of one function."""

    def __init__(self) -> None:
        self.tape = Tape()

    def op(self, kind: str, *inputs: ir.Value, **attributes: ir.Attr | int | str | Sequence[int]) -> ir.Value:
        """One standard node."""
        return self.tape.op(kind, list(inputs), {a.name: a for a in attributes_of(attributes)})

    def ints(self, *values: int) -> ir.Value:
        """An int64 vector."""
        return self.op("Constant", value=ir.AttrTensor("value", ir.Tensor(np.array(values, np.int64))))

    def u8(self, value: int) -> ir.Value:
        """A uint8 scalar."""
        return self.op("Constant", value=ir.AttrTensor("value", ir.Tensor(np.array(value, np.uint8))))

    def attribute(self, name: str) -> ir.Value:
        """The function's integer-list attribute as an int64 vector."""
        return self.op("Constant", value_ints=ir.RefAttr("value_ints", name, ir.AttributeType.INTS))

    def pick(self, vector: ir.Value, first: int, last: int) -> ir.Value:
        """vector[first:last]."""
        return self.op("Slice", vector, self.ints(first), self.ints(last))

    def signs(self, x: ir.Value, threshold: ir.Value) -> ir.Value:
        """x >= threshold -> 2, else 0."""
        return self.op("Where", self.op("GreaterOrEqual", x, threshold), self.u8(2), self.u8(0))

    def weight_signs(self, weight: ir.Value) -> ir.Value:
        """Float weights -> signs."""
        zero = self.op("Constant", value=ir.AttrTensor("value", ir.Tensor(np.array(0, np.float32))))
        return self.signs(weight, zero)

    def activation_signs(self, x: ir.Value, threshold: ir.Value) -> ir.Value:
        """x [N,C,H,W] against threshold [C]."""
        return self.signs(x, self.op("Reshape", threshold, self.ints(1, -1, 1, 1)))

    def unpack(self, words: ir.Value) -> ir.Value:
        """uint32 [O, ceil(C/32), kh, kw] -> signs [O, C, kh, kw]."""
        places = np.arange(32, dtype=np.uint32).reshape(1, 1, 32, 1, 1)
        shift = self.op("Constant", value=ir.AttrTensor("value", ir.Tensor(places)))
        one = self.op("Constant", value=ir.AttrTensor("value", ir.Tensor(np.array(1, np.uint32))))
        shifted = self.op("BitShift", self.op("Unsqueeze", words, self.ints(2)), shift, direction="RIGHT")
        bits = self.op("Cast", self.op("BitwiseAnd", shifted, one), to=_BOOL)
        sizes = self.op("Shape", words)
        merged = self.op("Concat", self.pick(sizes, 0, 1), self.ints(-1), self.pick(sizes, 2, 4), axis=0)
        wide = self.op("Reshape", self.op("Where", bits, self.u8(2), self.u8(0)), merged)
        channels = self.op("Constant", value_int=ir.RefAttr("value_int", "channels", ir.AttributeType.INT))
        count = self.op("Reshape", channels, self.ints(1))
        return self.op("Slice", wide, self.ints(0), count, self.ints(1))

    def affine(self, dot: ir.Value, scale: ir.Value, bias: ir.Value, rank: int) -> ir.Value:
        """scale * dot + bias per channel (axis 1) of an int32 tensor."""
        value = self.op("Cast", dot, to=_FLOAT)
        if rank == 4:
            column = self.ints(1, -1, 1, 1)
            scale, bias = self.op("Reshape", scale, column), self.op("Reshape", bias, column)
        return self.op("Add", self.op("Mul", value, scale), bias)

    def conv(
        self, x: ir.Value, weight: ir.Value, scale: ir.Value, bias: ir.Value, zeros: Sequence[ir.Value]
    ) -> ir.Value:
        """Convolution of levels with the function's strides and pads; zeros: the zero point of x, and of signed weights
        none."""
        kinds = ir.AttributeType.INTS
        dot = self.op(
            "ConvInteger",
            x,
            weight,
            *zeros,
            strides=ir.RefAttr("strides", "strides", kinds),
            pads=ir.RefAttr("pads", "pads", kinds),
        )
        return self.affine(dot, scale, bias, 4)

    def conv_transpose(
        self, x: ir.Value, weight: ir.Value, scale: ir.Value, bias: ir.Value, zeros: Sequence[ir.Value]
    ) -> ir.Value:
        """The same transposed: [N,C,H,W] and [O,C,kh,kw], indices as in ConvTranspose."""
        step, pads, zero = self.attribute("strides"), self.attribute("pads"), zeros[0]
        one, none = self.ints(1), self.ints(0, 0)
        # [N,C,H,W] -> [N,C,H,1,W,1] -> s - 1 nothings behind every pixel -> [N,C,sH,sW]
        gap = self.op("Sub", step, one)
        before = self.ints(*[0] * 9)
        behind = self.op("Concat", before, self.pick(gap, 0, 1), self.ints(0), self.pick(gap, 1, 2), axis=0)
        spaced = self.op("Pad", self.op("Unsqueeze", x, self.ints(3, 5)), behind, zero)
        sizes = self.op("Shape", x)
        spread_to = self.op(
            "Concat", self.pick(sizes, 0, 2), self.op("Mul", self.pick(sizes, 2, 4), step), axis=0
        )
        spread = self.op("Reshape", spaced, spread_to)
        kernel = self.pick(self.op("Shape", weight), 2, 4)
        first = self.op("Sub", self.op("Sub", kernel, one), self.pick(pads, 0, 2))
        # s - 1 nothings already stand behind the last pixel
        last = self.op("Sub", self.op("Sub", kernel, step), self.pick(pads, 2, 4))
        padded = self.op("Pad", spread, self.op("Concat", none, first, none, last, axis=0), zero)
        flipped = self.op(
            "Slice", weight, self.ints(-1, -1), self.ints(-1000, -1000), self.ints(2, 3), self.ints(-1, -1)
        )
        dot = self.op("ConvInteger", padded, flipped, *zeros)
        return self.affine(dot, scale, bias, 4)

    def signs_zeros(self) -> Sequence[ir.Value]:
        """The zero points of signs: of activations, and of weights."""
        return self.u8(1), self.u8(1)

    def linear(self, x: ir.Value, weight: ir.Value, scale: ir.Value, bias: ir.Value) -> ir.Value:
        """signs [N,K] times signs [O,K] transposed."""
        transposed = self.op("Transpose", weight, perm=(1, 0))
        dot = self.op("MatMulInteger", x, transposed, self.u8(1), self.u8(1))
        return self.affine(dot, scale, bias, 2)


_Emit = Callable[..., ir.Value]
_FIVE = ("x", "threshold", "weight", "scale", "bias")
_SIX = ("x", "step", "zero", "weight", "scale", "bias")
_GEOMETRY = {"strides": ir.AttributeType.INTS, "pads": ir.AttributeType.INTS}
_CHANNELS = {"channels": ir.AttributeType.INT}


def _conv(b: _Body, x: ir.Value, t: ir.Value, w: ir.Value, s: ir.Value, c: ir.Value) -> ir.Value:
    return b.conv(b.activation_signs(x, t), b.weight_signs(w), s, c, b.signs_zeros())


def _packed_conv(b: _Body, x: ir.Value, t: ir.Value, w: ir.Value, s: ir.Value, c: ir.Value) -> ir.Value:
    return b.conv(b.activation_signs(x, t), b.unpack(w), s, c, b.signs_zeros())


def _conv_transpose(b: _Body, x: ir.Value, t: ir.Value, w: ir.Value, s: ir.Value, c: ir.Value) -> ir.Value:
    weight = b.weight_signs(b.op("Transpose", w, perm=(1, 0, 2, 3)))
    return b.conv_transpose(b.activation_signs(x, t), weight, s, c, b.signs_zeros())


def _packed_conv_transpose(
    b: _Body, x: ir.Value, t: ir.Value, w: ir.Value, s: ir.Value, c: ir.Value
) -> ir.Value:
    return b.conv_transpose(b.activation_signs(x, t), b.unpack(w), s, c, b.signs_zeros())


def _linear(b: _Body, x: ir.Value, t: ir.Value, w: ir.Value, s: ir.Value, c: ir.Value) -> ir.Value:
    return b.linear(b.signs(x, t), b.weight_signs(w), s, c)


def _packed_linear(b: _Body, x: ir.Value, t: ir.Value, w: ir.Value, s: ir.Value, c: ir.Value) -> ir.Value:
    tail = b.ints(2, 3)
    weight = b.op("Squeeze", b.unpack(b.op("Unsqueeze", w, tail)), tail)
    return b.linear(b.signs(x, t), weight, s, c)


def _int8_conv(
    b: _Body, x: ir.Value, step: ir.Value, zero: ir.Value, w: ir.Value, s: ir.Value, c: ir.Value
) -> ir.Value:
    return b.conv(b.op("QuantizeLinear", x, step, zero), w, s, c, [zero])


def _int8_conv_transpose(
    b: _Body, x: ir.Value, step: ir.Value, zero: ir.Value, w: ir.Value, s: ir.Value, c: ir.Value
) -> ir.Value:
    weight = b.op("Transpose", w, perm=(1, 0, 2, 3))
    return b.conv_transpose(b.op("QuantizeLinear", x, step, zero), weight, s, c, [zero])


def _int8_depthwise(
    b: _Body, x: ir.Value, step: ir.Value, zero: ir.Value, w: ir.Value, s: ir.Value, c: ir.Value
) -> ir.Value:
    kinds = ir.AttributeType
    dot = b.op(
        "ConvInteger",
        *(b.op("QuantizeLinear", x, step, zero), w, zero),
        strides=ir.RefAttr("strides", "strides", kinds.INTS),
        pads=ir.RefAttr("pads", "pads", kinds.INTS),
        group=ir.RefAttr("group", "group", kinds.INT),
    )
    return b.affine(dot, s, c, 4)


def _level_table(
    b: _Body,
    x: ir.Value,
    step: ir.Value,
    zero: ir.Value,
    table: ir.Value,
    out_step: ir.Value,
    out_zero: ir.Value,
) -> ir.Value:
    level = b.op("Cast", b.op("QuantizeLinear", x, step, zero), to=_INT32)
    found = b.op("Cast", b.op("Gather", table, level), to=_FLOAT)
    return b.op("Mul", b.op("Sub", found, b.op("Cast", out_zero, to=_FLOAT)), out_step)


def _average_pool(b: _Body, x: ir.Value) -> ir.Value:
    ends, axes, steps = b.ints(1 << 30, 1 << 30), b.ints(2, 3), b.ints(2, 2)
    corners = [b.op("Slice", x, b.ints(i, j), ends, axes, steps) for i in (0, 1) for j in (0, 1)]
    total = reduce(lambda a, c: b.op("Add", a, c), corners)
    quarter = b.op("Constant", value=ir.AttrTensor("value", ir.Tensor(np.array(0.25, np.float32))))
    return b.op("Mul", total, quarter)


def _rprelu(b: _Body, x: ir.Value, gamma: ir.Value, beta: ir.Value, zeta: ir.Value) -> ir.Value:
    shifted = b.op("Sub", x, gamma)
    kept = b.op("Where", b.op("Greater", x, gamma), shifted, b.op("Mul", beta, shifted))
    return b.op("Add", kept, zeta)


def _affine(b: _Body, x: ir.Value, scale: ir.Value, bias: ir.Value) -> ir.Value:
    return b.op("Add", b.op("Mul", x, scale), bias)


_OPERATORS: dict[str, tuple[_Emit, tuple[str, ...], dict[str, ir.AttributeType]]] = {
    "BinaryConv2d": (_conv, _FIVE, _GEOMETRY),
    "BinaryConvTranspose2d": (_conv_transpose, _FIVE, _GEOMETRY),
    "BinaryLinear": (_linear, _FIVE, {}),
    "PackedBinaryConv2d": (_packed_conv, _FIVE, {**_GEOMETRY, **_CHANNELS}),
    "PackedBinaryConvTranspose2d": (_packed_conv_transpose, _FIVE, {**_GEOMETRY, **_CHANNELS}),
    "PackedBinaryLinear": (_packed_linear, _FIVE, _CHANNELS),
    "Int8Conv2d": (_int8_conv, _SIX, _GEOMETRY),
    "Int8ConvTranspose2d": (_int8_conv_transpose, _SIX, _GEOMETRY),
    "Int8DepthwiseConv2d": (_int8_depthwise, _SIX, {**_GEOMETRY, "group": ir.AttributeType.INT}),
    "LevelTable": (_level_table, ("x", "step", "zero", "table", "out_step", "out_zero"), {}),
    "AveragePool2x2": (_average_pool, ("x",), {}),
    "RPReLU": (_rprelu, ("x", "gamma", "beta", "zeta"), {}),
    "ChannelAffine": (_affine, ("x", "scale", "bias"), {}),
    **LINEAR_OPERATORS,
    **MAP_OPERATORS,
    **WRITTEN_OPERATORS,
}

OPERATORS = tuple(_OPERATORS)
"""Names of the operators of the domain."""


def function(name: str) -> ir.Function:
    """A fresh body of one operator."""
    emit, inputs, attributes = _OPERATORS[name]
    body = _Body()
    values = [ir.Value(name=i) for i in inputs]
    result = emit(body, *values)
    result.name = "y"
    for index, node in enumerate(body.tape.nodes):
        node.name = f"n{index}"
        for value in node.outputs:
            value.name = value.name or f"v{index}"
    graph = ir.Graph(values, [result], nodes=body.tape.nodes, opset_imports={"": OPSET}, name=name)
    declared = [ir.Attr(attribute, kind, None) for attribute, kind in attributes.items()]
    return ir.Function(DOMAIN, name, graph=graph, attributes=declared)


def attach_bodies(model: ir.Model, *, anew: bool = False) -> None:
    """Give every `bhpe` node its body, in place; bodies nobody uses are dropped.

    anew: also where one is there, which others may have written or changed.
    """
    used = {node.op_type for node in model.graph.all_nodes() if node.domain == DOMAIN}
    there = {key: model.functions.pop(key) for key in list(model.functions) if key[0] == DOMAIN}
    for name in sorted(used & set(_OPERATORS)):
        key = (DOMAIN, name, "")
        model.functions[key] = function(name) if anew or key not in there else there[key]
    if used:
        model.opset_imports[DOMAIN] = VERSION

"""Bodies of the `bhpe` operators in standard ONNX operations (opset 18): what ONNX Runtime executes.

Signs are uint8 with zero point 1: 0 = -1, 1 = nothing, 2 = +1. ConvInteger and MatMulInteger then sum in int32,
exactly, and zero padding is the zero point, so it contributes 0. (A float convolution would lose that: runtimes
fuse the scale into the weights.) sign(x) is Where(x >= t, ...), because Sign(0) is 0.

    BinaryConv2d, BinaryLinear        y = scale * dot + bias
    BinaryConvTranspose2d             zeros between the pixels, then a convolution with the flipped kernel
    Packed...                         the same, weights as bits of uint32 words along the input channels
    UnpackSigns                       those words -> signs; `channels` of them, bits beyond are 0 and cut off
    RPReLU                            y = (x > gamma ? x - gamma : beta * (x - gamma)) + zeta
    ChannelAffine                     y = x * scale + bias

No torch here.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import FLOAT, UINT8, UINT32, opset18, script, values

op = opset18
DOMAIN = "bhpe"
VERSION = 1
BHPE = values.Opset(DOMAIN, VERSION)

# onnxscript compiles these bodies: they are ONNX in Python's syntax, not Python that runs.
# ruff: noqa: N802


@script(BHPE, default_opset=op)
def Signs(x: FLOAT, threshold: FLOAT) -> UINT8:
    """x >= threshold -> 2, else 0; shapes broadcast."""
    minus = op.Cast(op.Constant(value_int=0), to=2)
    plus = op.Cast(op.Constant(value_int=2), to=2)
    return op.Where(op.GreaterOrEqual(x, threshold), plus, minus)


@script(BHPE, default_opset=op)
def UnpackSigns(words: UINT32, channels: int) -> UINT8:
    """uint32 [O, ceil(C/32), kh, kw] -> uint8 [O, C, kh, kw] of 0 and 2."""
    minus = op.Cast(op.Constant(value_int=0), to=2)
    plus = op.Cast(op.Constant(value_int=2), to=2)
    places = op.Cast(op.Range(op.Constant(value_int=0), op.Constant(value_int=32), op.Constant(value_int=1)), to=12)
    shifted = op.BitShift(
        op.Unsqueeze(words, op.Constant(value_ints=[2])),
        op.Reshape(places, op.Constant(value_ints=[1, 1, 32, 1, 1])),
        direction="RIGHT",
    )
    bits = op.Cast(op.BitwiseAnd(shifted, op.Cast(op.Constant(value_int=1), to=12)), to=9)
    sizes = op.Shape(words)
    merged = op.Concat(
        op.Slice(sizes, op.Constant(value_ints=[0]), op.Constant(value_ints=[1])),
        op.Constant(value_ints=[-1]),
        op.Slice(sizes, op.Constant(value_ints=[2]), op.Constant(value_ints=[4])),
        axis=0,
    )
    wide = op.Reshape(op.Where(bits, plus, minus), merged)
    count = op.Reshape(op.Constant(value_int=channels), op.Constant(value_ints=[1]))
    return op.Slice(wide, op.Constant(value_ints=[0]), count, op.Constant(value_ints=[1]))


@script(BHPE, default_opset=op)
def SignConv2d(x: UINT8, weight: UINT8, scale: FLOAT, bias: FLOAT, strides: list[int], pads: list[int]) -> FLOAT:
    """scale * dot + bias of signs [N,C,H,W] and [O,C,kh,kw]."""
    column = op.Constant(value_ints=[1, -1, 1, 1])
    zero = op.Cast(op.Constant(value_int=1), to=2)
    dot = op.Cast(op.ConvInteger(x, weight, zero, zero, strides=strides, pads=pads), to=1)
    return op.Add(op.Mul(dot, op.Reshape(scale, column)), op.Reshape(bias, column))


@script(BHPE, default_opset=op)
def SignConvTranspose2d(
    x: UINT8, weight: UINT8, scale: FLOAT, bias: FLOAT, strides: list[int], pads: list[int]
) -> FLOAT:
    """scale * dot + bias of signs [N,C,H,W] and [O,C,kh,kw], kernel indices as in ConvTranspose."""
    zero = op.Cast(op.Constant(value_int=1), to=2)
    step = op.Constant(value_ints=strides)
    none = op.Constant(value_ints=[0, 0])
    one = op.Constant(value_ints=[1])
    padding = op.Constant(value_ints=pads)
    # [N,C,H,W] -> [N,C,H,1,W,1] -> s - 1 nothings behind every pixel -> [N,C,sH,sW]
    apart = op.Unsqueeze(x, op.Constant(value_ints=[3, 5]))
    gap = op.Sub(step, one)
    rows = op.Slice(gap, op.Constant(value_ints=[0]), op.Constant(value_ints=[1]))
    columns = op.Slice(gap, op.Constant(value_ints=[1]), op.Constant(value_ints=[2]))
    behind = op.Concat(
        op.Constant(value_ints=[0, 0, 0, 0, 0, 0, 0, 0, 0]), rows, op.Constant(value_ints=[0]), columns, axis=0
    )
    spaced = op.Pad(apart, behind, zero)
    lead = op.Slice(op.Shape(x), op.Constant(value_ints=[0]), op.Constant(value_ints=[2]))
    size = op.Slice(op.Shape(x), op.Constant(value_ints=[2]), op.Constant(value_ints=[4]))
    spread = op.Reshape(spaced, op.Concat(lead, op.Mul(size, step), axis=0))
    kernel = op.Slice(op.Shape(weight), op.Constant(value_ints=[2]), op.Constant(value_ints=[4]))
    first = op.Slice(padding, op.Constant(value_ints=[0]), op.Constant(value_ints=[2]))
    last = op.Slice(padding, op.Constant(value_ints=[2]), op.Constant(value_ints=[4]))
    before = op.Sub(op.Sub(kernel, one), first)
    after = op.Sub(op.Sub(kernel, step), last)  # the trailing s - 1 nothings are already there
    padded = op.Pad(spread, op.Concat(none, before, none, after, axis=0), zero)
    flipped = op.Slice(
        weight,
        op.Constant(value_ints=[-1, -1]),
        op.Constant(value_ints=[-1000, -1000]),
        op.Constant(value_ints=[2, 3]),
        op.Constant(value_ints=[-1, -1]),
    )
    return SignConv2d(padded, flipped, scale, bias, strides=[1, 1], pads=[0, 0, 0, 0])


@script(BHPE, default_opset=op)
def BinaryConv2d(
    x: FLOAT, threshold: FLOAT, weight: FLOAT, scale: FLOAT, bias: FLOAT, strides: list[int], pads: list[int]
) -> FLOAT:
    """x [N,C,H,W], threshold [C], weight [O,C,kh,kw], scale and bias [O]."""
    xb = Signs(x, op.Reshape(threshold, op.Constant(value_ints=[1, -1, 1, 1])))
    wb = Signs(weight, op.Constant(value_float=0.0))
    return SignConv2d(xb, wb, scale, bias, strides=strides, pads=pads)


@script(BHPE, default_opset=op)
def BinaryConvTranspose2d(
    x: FLOAT, threshold: FLOAT, weight: FLOAT, scale: FLOAT, bias: FLOAT, strides: list[int], pads: list[int]
) -> FLOAT:
    """x [N,C,H,W], threshold [C], weight [C,O,kh,kw], scale and bias [O]."""
    xb = Signs(x, op.Reshape(threshold, op.Constant(value_ints=[1, -1, 1, 1])))
    wb = Signs(op.Transpose(weight, perm=[1, 0, 2, 3]), op.Constant(value_float=0.0))
    return SignConvTranspose2d(xb, wb, scale, bias, strides=strides, pads=pads)


@script(BHPE, default_opset=op)
def BinaryLinear(x: FLOAT, threshold: FLOAT, weight: FLOAT, scale: FLOAT, bias: FLOAT) -> FLOAT:
    """x [N,K], threshold [K], weight [O,K], scale and bias [O]."""
    zero = op.Cast(op.Constant(value_int=1), to=2)
    wb = op.Transpose(Signs(weight, op.Constant(value_float=0.0)), perm=[1, 0])
    dot = op.Cast(op.MatMulInteger(Signs(x, threshold), wb, zero, zero), to=1)
    return op.Add(op.Mul(dot, scale), bias)


@script(BHPE, default_opset=op)
def PackedBinaryConv2d(
    x: FLOAT,
    threshold: FLOAT,
    weight: UINT32,
    scale: FLOAT,
    bias: FLOAT,
    strides: list[int],
    pads: list[int],
    channels: int,
) -> FLOAT:
    """weight uint32 [O, ceil(C/32), kh, kw]."""
    xb = Signs(x, op.Reshape(threshold, op.Constant(value_ints=[1, -1, 1, 1])))
    return SignConv2d(xb, UnpackSigns(weight, channels=channels), scale, bias, strides=strides, pads=pads)


@script(BHPE, default_opset=op)
def PackedBinaryConvTranspose2d(
    x: FLOAT,
    threshold: FLOAT,
    weight: UINT32,
    scale: FLOAT,
    bias: FLOAT,
    strides: list[int],
    pads: list[int],
    channels: int,
) -> FLOAT:
    """weight uint32 [O, ceil(C/32), kh, kw], kernel indices as in ConvTranspose."""
    xb = Signs(x, op.Reshape(threshold, op.Constant(value_ints=[1, -1, 1, 1])))
    return SignConvTranspose2d(xb, UnpackSigns(weight, channels=channels), scale, bias, strides=strides, pads=pads)


@script(BHPE, default_opset=op)
def PackedBinaryLinear(
    x: FLOAT, threshold: FLOAT, weight: UINT32, scale: FLOAT, bias: FLOAT, channels: int
) -> FLOAT:
    """weight uint32 [O, ceil(K/32)]."""
    zero = op.Cast(op.Constant(value_int=1), to=2)
    tail = op.Constant(value_ints=[2, 3])
    signs = op.Squeeze(UnpackSigns(op.Unsqueeze(weight, tail), channels=channels), tail)
    dot = op.Cast(op.MatMulInteger(Signs(x, threshold), op.Transpose(signs, perm=[1, 0]), zero, zero), to=1)
    return op.Add(op.Mul(dot, scale), bias)


@script(BHPE, default_opset=op)
def RPReLU(x: FLOAT, gamma: FLOAT, beta: FLOAT, zeta: FLOAT) -> FLOAT:
    """gamma, beta, zeta shaped to broadcast: [C,1,1] or [C]."""
    shifted = op.Sub(x, gamma)
    return op.Add(op.Where(op.Greater(x, gamma), shifted, op.Mul(beta, shifted)), zeta)


@script(BHPE, default_opset=op)
def ChannelAffine(x: FLOAT, scale: FLOAT, bias: FLOAT) -> FLOAT:
    """scale, bias shaped to broadcast: [C,1,1] or [C]."""
    return op.Add(op.Mul(x, scale), bias)


_SCRIPTS = (
    Signs,
    UnpackSigns,
    SignConv2d,
    SignConvTranspose2d,
    BinaryConv2d,
    BinaryConvTranspose2d,
    BinaryLinear,
    PackedBinaryConv2d,
    PackedBinaryConvTranspose2d,
    PackedBinaryLinear,
    RPReLU,
    ChannelAffine,
)


def _function(one: values.OnnxFunction) -> ir.Function:
    proto = one.to_function_proto()
    del proto.value_info[:]  # it would declare every tensor a scalar
    return ir.serde.deserialize_function(proto)


FUNCTIONS: dict[str, ir.Function] = {one.name: _function(one) for one in _SCRIPTS}
"""All bodies by operator name."""


def attach_bodies(model: ir.Model) -> None:
    """Give every `bhpe` node its body, and the bodies those call theirs; drop bodies nobody needs."""
    needed: list[str] = []
    waiting = [node.op_type for node in model.graph.all_nodes() if node.domain == DOMAIN]
    while waiting:
        name = waiting.pop()
        if name in FUNCTIONS and name not in needed:
            needed.append(name)
            waiting += [node.op_type for node in FUNCTIONS[name] if node.domain == DOMAIN]
    for identifier in [key for key in model.functions if key[0] == DOMAIN and key[1] not in needed]:
        del model.functions[identifier]
    for name in sorted(needed):
        function = FUNCTIONS[name].clone()
        model.functions[function.identifier()] = function
    if needed:
        model.opset_imports[DOMAIN] = VERSION

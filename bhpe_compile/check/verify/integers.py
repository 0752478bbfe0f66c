"""Integer accumulators of binary and 8-bit layers, computed from the ONNX file alone.

    binary   dot[o] = sum over valid taps and channels of sign(x) * sign(w)      padded taps contribute 0
    8-bit    dot[o] = sum over valid taps and channels of (level(x) - zero) * level(w)

Activations come as the bits or levels an artefact really read, weights from the folded ONNX model: neither the
kernels' layouts nor their tables take part. Products of +-1 are summed by float32 matrix multiplication, exact below
2**24; products of levels in float64, exact below 2**53.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bhpe_compile.exchange.functions import DOMAIN, PACKED
from bhpe_compile.exchange.nodes import CONVOLUTIONS


@dataclass(frozen=True)
class BinaryLayer:
    """One binary node of a folded model: +-1 weights [O, C, kh, kw] and its geometry."""

    name: str
    weight: NDArray[np.float32]
    threshold: NDArray[np.float32]
    channels: int
    stride: int
    padding: int
    transposed: bool
    x_name: str

    def accumulate(self, signs: NDArray[np.float32]) -> NDArray[np.int64]:
        """signs float32 [N, H, W, C] of +-1 -> integers [N, Ho, Wo, O]."""
        return _convolve(signs, self.weight, self.stride, self.padding, self.transposed)


@dataclass(frozen=True)
class Int8Layer:
    """One quantized node of a folded model: weight levels [O, C, kh, kw], its input's zero point, its geometry."""

    name: str
    weight: NDArray[np.float64]
    zero: int
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int
    transposed: bool
    levels_name: str

    @property
    def stride(self) -> int:
        """Of rows."""
        return self.strides[0]

    @property
    def strided(self) -> bool:
        """Whether only every `stride`-th pixel is read, so that an artefact may keep no others."""
        alike = self.strides[0] == self.strides[1]
        return self.groups == 1 and alike and self.weight.shape[2:] == (1, 1) and not any(self.pads)

    def accumulate(self, values: NDArray[np.integer]) -> NDArray[np.int64]:
        """level - zero, integers [N, H, W, C] -> integers [N, Ho, Wo, O]."""
        if self.transposed:
            return _convolve(
                values.astype(np.float64), self.weight, self.stride, self.pads[0], transposed=True
            )
        top, left, bottom, right = self.pads
        x = np.pad(values.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
        return _windows(x, self.weight, self.strides, depthwise=self.groups > 1)


def _windows(
    x: NDArray[np.floating], weight: NDArray[np.floating], strides: tuple[int, int], *, depthwise: bool
) -> NDArray[np.int64]:
    """Sums of whole numbers, padded already: [N, H, W, C] and [O, C, kh, kw], or [C, 1, kh, kw] where `depthwise`."""
    kh, kw = weight.shape[2:]
    height, width = (x.shape[1] - kh) // strides[0] + 1, (x.shape[2] - kw) // strides[1] + 1
    total = np.zeros((x.shape[0], height, width, weight.shape[0]), x.dtype)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + (height - 1) * strides[0] + 1, strides[0])
            columns = slice(j, j + (width - 1) * strides[1] + 1, strides[1])
            tap = weight[:, :, i, j]
            total += x[:, rows, columns] * tap[:, 0] if depthwise else x[:, rows, columns] @ tap.T
    return total.astype(np.int64)


def _convolve(
    x: NDArray[np.floating], weight: NDArray[np.floating], stride: int, padding: int, transposed: bool
) -> NDArray[np.int64]:
    """Sums of whole numbers [N, H, W, C] and [O, C, kh, kw] in their own float type."""
    if transposed:  # zeros between the pixels, then a plain convolution with the flipped kernel
        n, height, width, c = x.shape
        spread = np.zeros((n, (height - 1) * stride + 1, (width - 1) * stride + 1, c), x.dtype)
        spread[:, ::stride, ::stride] = x
        x, weight = spread, weight[:, :, ::-1, ::-1]
        padding, stride = weight.shape[2] - 1 - padding, 1
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    kh, kw = weight.shape[2:]
    height = (x.shape[1] - kh) // stride + 1
    width = (x.shape[2] - kw) // stride + 1
    total = np.zeros((x.shape[0], height, width, weight.shape[0]), x.dtype)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + (height - 1) * stride + 1, stride)
            columns = slice(j, j + (width - 1) * stride + 1, stride)
            total += x[:, rows, columns] @ weight[:, :, i, j].T
    return total.astype(np.int64)


def unpack_signs(bits: NDArray[np.uint8], channels: int, border: int) -> NDArray[np.float32]:
    """Packed bits [N, H+2b, W+2b, bytes] -> float32 +-1 [N, H, W, channels]."""
    inner = bits[:, border : bits.shape[1] - border, border : bits.shape[2] - border]
    ones = np.unpackbits(inner, axis=-1, count=channels, bitorder="little")
    return ones.astype(np.float32) * 2 - 1


def binary_layers(model: onnx.ModelProto) -> dict[str, BinaryLayer]:
    """All binary nodes of a folded model by layer name, in graph order."""
    initializers = {t.name: t for t in model.graph.initializer}
    layers: dict[str, BinaryLayer] = {}
    for node in model.graph.node:
        if node.domain != DOMAIN or node.op_type not in PACKED:
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        packed = numpy_helper.to_array(initializers[node.input[2]])
        channels = int(attributes["channels"])
        if packed.ndim == 2:
            packed = packed[:, :, None, None]
        words = np.ascontiguousarray(np.moveaxis(packed, 1, -1)).astype("<u4")
        ones = np.unpackbits(words.view(np.uint8), axis=-1, count=channels, bitorder="little")
        weight = np.moveaxis(ones.astype(np.float32) * 2 - 1, -1, 1)
        layers[node.name] = BinaryLayer(
            name=node.name,
            weight=weight,
            threshold=numpy_helper.to_array(initializers[node.input[1]]).reshape(-1),
            channels=channels,
            stride=int(attributes.get("strides", [1])[0]),
            padding=int(attributes.get("pads", [0])[0]),
            transposed=node.op_type == "PackedBinaryConvTranspose2d",
            x_name=node.input[0],
        )
    return layers


def int8_layers(model: onnx.ModelProto) -> dict[str, Int8Layer]:
    """All quantized convolutions of a folded model by layer name, in graph order."""
    arrays = {t.name: t for t in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    layers: dict[str, Int8Layer] = {}

    def array(name: str) -> NDArray[Any]:
        return np.asarray(numpy_helper.to_array(arrays[name]))

    def quantize_behind(name: str) -> onnx.NodeProto | None:
        back = producers.get(name)
        return (
            producers.get(back.input[0]) if back is not None and back.op_type == "DequantizeLinear" else None
        )

    for node in model.graph.node:
        if node.domain or node.op_type not in CONVOLUTIONS:
            continue
        x, w = quantize_behind(node.input[0]), quantize_behind(node.input[1])
        if x is None or w is None:
            continue
        transposed = node.op_type == "ConvTranspose"
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        weight = np.moveaxis(array(w.input[0]), 1 if transposed else 0, 0)
        levels = np.rint(weight / array(w.input[1]).reshape(-1, 1, 1, 1)).astype(np.float64)
        layers[node.name] = Int8Layer(
            name=node.name,
            weight=levels,
            levels_name=x.output[0],
            zero=int(array(x.input[2])),
            strides=_pair(attributes.get("strides", (1, 1))),
            pads=_sides(attributes.get("pads", (0, 0, 0, 0))),
            groups=int(attributes.get("group", 1)),
            transposed=transposed,
        )
    return layers


def _pair(values: Sequence[int]) -> tuple[int, int]:
    rows, columns = map(int, values)
    return rows, columns


def _sides(values: Sequence[int]) -> tuple[int, int, int, int]:
    top, left, bottom, right = map(int, values)
    return top, left, bottom, right

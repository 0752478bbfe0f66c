"""Integer accumulators of a binary layer, computed from the ONNX file alone.

    dot[o] = sum over valid taps and channels of sign(x) * sign(w)        padded taps contribute 0

Activations come as the bits an artefact really read, weights from the folded ONNX model: neither the kernels'
layouts nor their tables take part. Products of +-1 are summed by float32 matrix multiplication, exact below 2**24.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

BINARY_OPS = ("PackedBinaryConv2d", "PackedBinaryConvTranspose2d", "PackedBinaryLinear")


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
        weight, stride, padding = self.weight, self.stride, self.padding
        if self.transposed:  # zeros between the pixels, then a plain convolution with the flipped kernel
            n, height, width, c = signs.shape
            spread = np.zeros((n, (height - 1) * stride + 1, (width - 1) * stride + 1, c), np.float32)
            spread[:, ::stride, ::stride] = signs
            signs, weight = spread, weight[:, :, ::-1, ::-1]
            padding, stride = weight.shape[2] - 1 - padding, 1
        signs = np.pad(signs, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        kh, kw = weight.shape[2:]
        height = (signs.shape[1] - kh) // stride + 1
        width = (signs.shape[2] - kw) // stride + 1
        total = np.zeros((signs.shape[0], height, width, weight.shape[0]), np.float32)
        for i in range(kh):
            for j in range(kw):
                window = signs[
                    :, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride
                ]
                total += window @ weight[:, :, i, j].T
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
        if node.domain != "bhpe" or node.op_type not in BINARY_OPS:
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

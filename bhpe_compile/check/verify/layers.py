"""What layers read: the signs in front of binary layers, the levels in front of 8-bit ones.

The same arrays come from a value of model.onnx, and from the memory of a compiled step that reads it:

    binary   bool [N, H, W, C], whether x reaches the threshold
    8-bit    int16 [N, H, W, C], clip(rint(x / step) + zero, 0, 255); of a strided 1x1 convolution the pixels it reads

Memory holds packed bits, or levels less 0 (uint8), 128 (int8) or their zero point (int16), with a border around the map
and a few spare pixels behind its last column (`kernels/int8_layout.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bhpe_compile.exchange.functions import DOMAIN, INT8, PACKED

Array = NDArray[Any]

SLACK = 1e-4
"""Of the largest value of a map: how far two programs that compute a float part of it may be apart."""

HALF_SLACK = 2.0**-10
"""Of a value itself: where it is kept as float16, a rounding may fall the other way."""


@dataclass(frozen=True)
class Layer:
    """A layer of model.onnx that reads the value `x`; `threshold` of a binary one, `step` and `zero` of another."""

    name: str
    kind: Literal["binary", "int8"]
    x: str
    threshold: Array | None = None
    step: float = 1.0
    zero: int = 0
    every: int = 1
    """Only every so-many-th pixel of a row and column is read."""

    def of_value(self, x: Array) -> Array:
        """From the float value, [N, C, H, W] or [N, K]."""
        last = np.moveaxis(x, 1, -1) if x.ndim == 4 else x[:, None, None, :]
        if self.threshold is not None:
            return np.asarray(last >= self.threshold)
        picked = last[:, :: self.every, :: self.every].astype(np.float32)
        levels: Array = np.clip(
            np.rint(picked / np.float32(self.step)) + np.float32(self.zero), 0, 255
        ).astype(np.int16)
        return levels

    def doubtful(self, x: Array) -> Array:
        """Where a value that is off by a rounding, as `SLACK` says, may have another sign or level; shape as of
        `of_value`."""
        last = np.moveaxis(x, 1, -1) if x.ndim == 4 else x[:, None, None, :]
        slack = SLACK * np.abs(x).max(initial=0.0) + HALF_SLACK * np.abs(last)
        if self.threshold is not None:
            return np.asarray(np.abs(last - self.threshold) <= slack)
        picked = (slice(None), slice(None, None, self.every), slice(None, None, self.every))
        place = last[picked].astype(np.float64) / self.step
        to_edge = 0.5 - np.abs(place - np.rint(place))
        return np.asarray(to_edge <= slack[picked] / self.step)

    def of_memory(self, memory: Array, shape: tuple[int, ...]) -> Array:
        """From what a step reads; shape: that of the result."""
        inside = self._inside(memory, shape)
        if self.threshold is not None:
            return np.unpackbits(inside, axis=-1, count=shape[-1], bitorder="little").astype(np.bool_)
        return (inside.astype(np.int16) + self._shift(memory)).reshape(shape)

    def to_memory(self, read: Array, memory: Array) -> Array:
        """A copy of `memory` that holds `read`."""
        copy = memory.copy()
        inside = self._inside(copy, read.shape)
        if self.threshold is not None:
            rows = np.packbits(read, axis=-1, bitorder="little")
            inside[..., : rows.shape[-1]] = rows
        else:
            inside[...] = read - self._shift(memory)
        return copy

    def _shift(self, memory: Array) -> int:
        return {"uint8": 0, "int8": 128, "int16": self.zero}[str(memory.dtype)]

    @staticmethod
    def _inside(memory: Array, shape: tuple[int, ...]) -> Array:
        border = (memory.shape[1] - shape[1]) // 2
        view: Array = memory[:, border : border + shape[1], border : border + shape[2]]
        return view


def layers_of(model: onnx.ModelProto) -> dict[str, Layer]:
    """The layers of a folded model that read signs or levels, by name, in graph order."""
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}

    def array(name: str) -> Array:
        return np.asarray(numpy_helper.to_array(arrays[name]))

    layers: dict[str, Layer] = {}
    for node in model.graph.node:
        if node.domain != DOMAIN:
            continue
        if node.op_type in PACKED:
            layers[node.name] = Layer(node.name, "binary", node.input[0], array(node.input[1]).reshape(-1))
        elif node.op_type in INT8:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            plain = tuple(arrays[node.input[3]].dims[2:]) == (1, 1) and not any(attributes["pads"])
            step, zero = array(node.input[1]), array(node.input[2])
            rows, columns = map(int, attributes["strides"])
            plain = plain and rows == columns and node.op_type == "Int8Conv2d"
            every = rows if plain else 1
            layers[node.name] = Layer(node.name, "int8", node.input[0], None, float(step), int(zero), every)
    return layers

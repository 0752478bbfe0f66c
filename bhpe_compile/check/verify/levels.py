"""The levels of an 8-bit layer as an artefact holds them in memory.

uint8 memory holds levels, int8 memory levels less 128, int16 memory levels less their zero point; around the map lies
a border, behind its last column a few spare pixels, and of a strided 1x1 convolution only the pixels it reads are kept
(see kernels.int8_layout and passes.lower.quantize_activations).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.check.verify.integers import Int8Layer


@dataclass(frozen=True)
class LevelMemory:
    """What one layer read: `memory` [N, H+2b, W', C], of which rows x columns pixels from `border` on are the map."""

    layer: Int8Layer
    memory: NDArray[Any]
    rows: int
    columns: int

    @classmethod
    def of(cls, layer: Int8Layer, shape: tuple[int, ...], memory: NDArray[Any]) -> Self:
        """shape: of the layer's whole input, [N, H, W, C]."""
        step = layer.stride if layer.strided else 1
        return cls(layer, memory, -(-shape[1] // step), -(-shape[2] // step))

    @property
    def shift(self) -> int:
        """What memory holds for level 0 is -shift."""
        return {"uint8": 0, "int8": 128, "int16": self.layer.zero}[str(self.memory.dtype)]

    def _inside(self, array: NDArray[Any]) -> NDArray[Any]:
        border = (self.memory.shape[1] - self.rows) // 2
        view: NDArray[Any] = array[:, border : border + self.rows, border : border + self.columns]
        return view

    def pick(self, levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Of all levels [N, H, W, C] those that are kept."""
        step = self.layer.stride if self.layer.strided else 1
        return levels[:, ::step, ::step]

    def values(self) -> NDArray[np.int64]:
        """level - zero of every kept pixel."""
        return self._inside(self.memory).astype(np.int64) + self.shift - self.layer.zero

    def filled(self, levels: NDArray[np.uint8]) -> NDArray[Any]:
        """A copy of the memory with other levels in the map."""
        copy = self.memory.copy()
        self._inside(copy)[...] = levels.astype(np.int64) - self.shift
        return copy

    def accumulate(self) -> NDArray[np.int64]:
        """The layer's accumulators [N, Ho, Wo, O] from the levels in memory."""
        layer = replace(self.layer, strides=(1, 1)) if self.layer.strided else self.layer
        return layer.accumulate(self.values())

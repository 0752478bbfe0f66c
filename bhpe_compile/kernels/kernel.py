"""What every kernel description offers, and the record of one kernel argument."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import Tile

Array = NDArray[Any]


@dataclass(frozen=True)
class Parameter:
    """One argument of a kernel, in calling order. `dtype` is a NumPy name."""

    role: str
    shape: tuple[int, ...]
    dtype: str
    is_output: bool = False


class Kernel(ABC):
    """A kernel description: pure geometry, from which code, argument list and reference follow."""

    parallel: ClassVar[bool] = False
    """Whether the function takes two more int32 arguments, `part` and `parts`, and does that share of its work:
    calls for every part together, in any order or at the same time, write what one call for part 0 of 1 writes."""

    @abstractmethod
    def symbol(self) -> str:
        """A C identifier made of everything that determines the code except the instruction set."""

    @abstractmethod
    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        """The arguments in calling order, outputs last."""

    @abstractmethod
    def prim_func(self, isa: VectorIsa) -> Any:
        """The `tvm.tirx.PrimFunc`; compile it under `tir.PASS_CONFIG`."""

    @abstractmethod
    def reference(self, **arrays: Array) -> dict[str, Array]:
        """Outputs by role, computed in NumPy from the same arrays the kernel takes."""

    def tile_key(self) -> str | None:
        """What the best register tile depends on, as a key of the targets' tables; None for kernels without tiles.

        Kernels of equal symbol have equal keys, so a model holds one tile a symbol.
        """
        return None

    def default_tile(self, isa: VectorIsa) -> Tile | None:
        """The tile the kernel chooses by itself; None for kernels without tiles."""
        return None

    def chosen_tile(self, isa: VectorIsa) -> Tile | None:
        """The tile the code is made with: the one the description names, else the kernel's own choice."""
        tile: Tile | None = getattr(self, "tile", None)
        return tile or self.default_tile(isa)

    def whole_tile(self, isa: VectorIsa) -> Tile | None:
        """The tile of a whole row and all channels, beyond which larger ones make no difference."""
        return None

    def pack(self, isa: VectorIsa, weight: Array) -> dict[str, Array]:
        """Constant arguments made from the ONNX weight, by role; kernels without weights have none."""
        raise TypeError(f"{type(self).__name__} has no weight to pack")

    def constants(self, isa: VectorIsa, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """All constant arguments by role, as the kernel takes them: weights packed, tables as bytes, the rest flat
        float32."""
        packed = self.pack(isa, arrays["weight"]) if "weight" in arrays else {}
        for role, array in arrays.items():
            if role != "weight":
                kind = np.uint8 if role == "table" else np.float32
                packed[role] = np.ascontiguousarray(np.asarray(array, kind).reshape(-1))
        return packed


def packed_bytes(channels: int) -> int:
    """Bytes of one pixel of a packed bits tensor: whole 32-bit words, channel c is bit c%8 of byte c//8."""
    return 4 * (-(-channels // 32))


def unpack_bits(bits: Array, channels: int) -> NDArray[np.bool_]:
    """uint8 [..., packed_bytes(channels)] -> bool [..., channels]."""
    return np.unpackbits(bits, axis=-1, count=channels, bitorder="little").astype(np.bool_)


def pack_bits(values: NDArray[np.bool_], border: int = 0) -> NDArray[np.uint8]:
    """bool [N, H, W, C] -> uint8 [N, H+2*border, W+2*border, packed_bytes(C)], everything else 0."""
    n, height, width, channels = values.shape
    packed = np.packbits(values, axis=-1, bitorder="little")
    bits = np.zeros((n, height + 2 * border, width + 2 * border, packed_bytes(channels)), np.uint8)
    bits[:, border : border + height, border : border + width, : packed.shape[-1]] = packed
    return bits

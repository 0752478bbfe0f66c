"""Binary transposed convolution k4 s2 p1 on packed bits: four binary convolutions with 2x2 windows.

Output pixel (2y + i, 2x + j) belongs to phase (i, j); see `window` for the taps of a phase. Each phase has
its own weights and border table and runs through the same inner loops as `BinaryConv2d`.
Weight layout: [4, ceil(Cout / V), 2 * 2 * words, V], phase 2*i + j first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bhpe_compile.kernels.binary_core import BinaryCore, default_tile
from bhpe_compile.kernels.binary_layout import (
    border_parameter,
    border_table,
    check_channels,
    pack_border,
    pack_words,
    reference_dot,
    unpack_words,
    words_of,
)
from bhpe_compile.kernels.epilogue import Epilogue
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter, packed_bytes
from bhpe_compile.kernels.tir import Share, function
from bhpe_compile.kernels.window import Deconvolution, Window, phase_weights
from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import Tile


@dataclass(frozen=True)
class BinaryConvTranspose2d(Deconvolution, Kernel):
    """x bits [N, H+2b, W+2b, CB] -> [N, 2H, 2W, Cout]; b = `in_border` >= 1."""

    in_border: int
    epilogue: Epilogue
    tile: Tile | None = None

    def __post_init__(self) -> None:
        if self.in_border < 1:
            raise ValueError("a transposed convolution k4 s2 p1 needs an input border of 1")
        check_channels(self.in_channels, 4)
        self.epilogue.check(self.out_channels)

    def symbol(self) -> str:
        return f"binary_deconv2d_{self.sizes}_b{self.in_border}{self.epilogue.symbol()}"

    def tile_key(self) -> str:
        return f"binary_deconv2d_{self.sizes}"

    def default_tile(self, isa: VectorIsa) -> Tile:
        return default_tile(isa, self.width, self.out_channels, 4 * words_of(self.in_channels, isa))

    def whole_tile(self, isa: VectorIsa) -> Tile:
        return Tile(self.width, -(-self.out_channels // isa.popcount_lanes))

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        edge = 2 * self.in_border
        x = (self.batch, self.height + edge, self.width + edge, packed_bytes(self.in_channels))
        panels = -(-self.out_channels // isa.popcount_lanes)
        weight = (4, panels, 4 * words_of(self.in_channels, isa), isa.popcount_lanes)
        return (
            Parameter("x", x, "uint8"),
            Parameter("weight", weight, f"uint{isa.word_bits}"),
            border_parameter((4, 2, 2), self.in_channels, self.out_channels, isa),
            *self.epilogue.parameters(*self.out_shape, isa),
        )

    def pack(self, isa: VectorIsa, weight: Array) -> dict[str, Array]:
        """uint32 [Cout, ceil(Cin/32), 4, 4], kernel indices as in ConvTranspose (bit i of word g = 32g+i)."""
        taps = [one.transpose(0, 2, 1) for one in phase_weights(weight)]
        tables = [
            border_table(one, self.in_channels, *windows)
            for one, windows in zip(taps, self.phases, strict=True)
        ]
        packed = [pack_words(one, self.in_channels, isa) for one in taps]
        border = pack_border(np.stack(tables), self.in_channels, isa)
        return {"weight": np.stack(packed), "border": border}

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            epilogue = EpilogueEmitter(self.epilogue, buffers, isa, *self.out_shape, exact_products=True)
            core = BinaryCore(isa, self.batch, self.in_channels, self.in_border, epilogue, share, self.tile)
            epilogue.begin(share)
            core.prepare()
            for phase, windows in enumerate(self.phases):
                core.emit(*windows, phase)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        def dot(packed: Array, rows: Window, columns: Window) -> Array:
            weight = unpack_words(packed, self.out_channels, 4, self.in_channels)
            return reference_dot(arrays["x"], weight, self.in_channels, self.in_border, rows, columns)

        dots = [dot(one, *windows) for one, windows in zip(arrays["weight"], self.phases, strict=True)]
        return self.epilogue.reference(self.interleaved(dots).astype(np.int32), arrays)

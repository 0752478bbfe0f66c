"""Binary 2-D convolution on packed bits, with a fused epilogue.

With activations and weights in {-1, +1} as bits a, w (1 for +1) and `taps` valid taps of C channels,

    dot = C * taps - 2 * popcount(a xor w)

Lanes are output channels. A padded tap counts 0: its activation bits are 0 in the bordered input, so it adds
popcount(w) to the sum, and the border table holds, for each border class of the output pixel,

    border = C * valid taps + 2 * popcount(w at the taps cut off),      dot = border - 2 * popcount(a xor w).

Sums mostly begin at -border / 2, and what they end at is -dot / 2.

Weight layout: [ceil(Cout / V), kernel * kernel * words, V], one word of `word_bits` input channels a lane,
V lanes a vector; unused lanes and unused bits are 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bhpe_compile.kernels.binary_core import BinaryCore, default_tile, short_tile
from bhpe_compile.kernels.binary_layout import (
    border_parameter,
    border_table,
    check_channels,
    pack_border,
    pack_words,
    reference_dot,
    sums_from_border,
    unpack_words,
    words_of,
)
from bhpe_compile.kernels.epilogue import Epilogue
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter, packed_bytes
from bhpe_compile.kernels.tir import Share, function
from bhpe_compile.kernels.window import Convolution, Window
from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import Tile


@dataclass(frozen=True)
class BinaryConv2d(Convolution, Kernel):
    """x bits [N, H+2b, W+2b, CB] -> [N, Ho, Wo, Cout]; b = `in_border` >= `padding`."""

    kernel: int  # square windows, padded alike on all sides
    stride: int
    padding: int
    in_border: int
    epilogue: Epilogue
    tile: Tile | None = None

    def __post_init__(self) -> None:
        if self.in_border < self.padding:
            raise ValueError(f"input border {self.in_border} is smaller than the padding {self.padding}")
        check_channels(self.in_channels, self.kernel**2)
        self.epilogue.check(self.out_channels)
        _ = self.rows, self.columns  # a kernel larger than the map is refused here

    @property
    def has_border_table(self) -> bool:
        """Whether any output pixel has a tap in the padding."""
        return self.rows.is_cut or self.columns.is_cut

    def _has_starts(self, isa: VectorIsa) -> bool:
        """Whether what sums begin at lies in memory: where it varies, and where sums are so short that LLVM would
        rather add one constant to each of their floats."""
        words = self.kernel**2 * words_of(self.in_channels, isa)
        short = sums_from_border(self.in_channels, isa) and short_tile(isa, words) is not None
        return self.has_border_table or short

    def symbol(self) -> str:
        shape = f"k{self.kernel}s{self.stride}p{self.padding}b{self.in_border}"
        return f"binary_conv2d_{self.sizes}_{shape}{self.epilogue.symbol()}"

    def _windows(self) -> tuple[Window, Window]:
        return self.loops(self.epilogue.is_per_pixel(self.columns.count) and self.in_border == 0)

    def tile_key(self) -> str:
        rows, columns = self._windows()
        outputs = f"n{self.batch}_{rows.count}x{columns.count}_{self.in_channels}to{self.out_channels}"
        return f"binary_conv2d_{outputs}_k{self.kernel}s{self.stride}"

    def default_tile(self, isa: VectorIsa) -> Tile:
        words = self.kernel**2 * words_of(self.in_channels, isa)
        return default_tile(isa, self._windows()[1].count, self.out_channels, words)

    def whole_tile(self, isa: VectorIsa) -> Tile:
        return Tile(self._windows()[1].count, -(-self.out_channels // isa.popcount_lanes))

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        edge = 2 * self.in_border
        x = (self.batch, self.height + edge, self.width + edge, packed_bytes(self.in_channels))
        words = self.kernel**2 * words_of(self.in_channels, isa)
        panels = -(-self.out_channels // isa.popcount_lanes)
        listed = [
            Parameter("x", x, "uint8"),
            Parameter("weight", (panels, words, isa.popcount_lanes), f"uint{isa.word_bits}"),
        ]
        if self._has_starts(isa):
            classes = (self.rows.classes, self.columns.classes)
            listed.append(border_parameter(classes, self.in_channels, self.out_channels, isa))
        return (*listed, *self.epilogue.parameters(*self.out_shape, isa))

    def pack(self, isa: VectorIsa, weight: Array) -> dict[str, Array]:
        """uint32 [Cout, ceil(Cin/32), k, k] or [Cout, ceil(Cin/32)] (bit i of word g = channel 32g+i)."""
        taps = weight.reshape(self.out_channels, -1, self.kernel**2).transpose(0, 2, 1)
        packed = {"weight": pack_words(taps, self.in_channels, isa)}
        if self._has_starts(isa):
            table = border_table(taps, self.in_channels, self.rows, self.columns)
            packed["border"] = pack_border(table, self.in_channels, isa)
        return packed

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            epilogue = EpilogueEmitter(self.epilogue, buffers, isa, *self.out_shape, exact_products=True)
            core = BinaryCore(isa, self.batch, self.in_channels, self.in_border, epilogue, share, self.tile)
            epilogue.begin(share)
            core.prepare()
            core.emit(*self._windows())

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        weight = unpack_words(arrays["weight"], self.out_channels, self.kernel**2, self.in_channels)
        dot = reference_dot(arrays["x"], weight, self.in_channels, self.in_border, self.rows, self.columns)
        return self.epilogue.reference(dot.astype(np.int32), arrays)


def binary_linear(batch: int, inputs: int, outputs: int, epilogue: Epilogue) -> BinaryConv2d:
    """A binary dense layer: the 1x1 convolution of a 1x1 map."""
    return BinaryConv2d(batch, 1, 1, inputs, outputs, 1, 1, 0, 0, epilogue)

"""Float 2-D convolution (and, for 1x1 maps, matrix-vector product) with a fused epilogue.

    out = epilogue(sum over valid taps and input channels of x * w)

float32 activations and sums; weights are float16 in memory by default, or int8 whose step is part of the scale, and
widened on load.
Weight layout: [ceil(Cout / V), taps * Cin, V].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bhpe_compile.kernels.dense_core import DenseCore, default_tile
from bhpe_compile.kernels.dense_layout import pack_floats, panel_lanes, reference_sum, unpack_floats
from bhpe_compile.kernels.epilogue import Epilogue
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Share, function
from bhpe_compile.kernels.window import Convolution, Extents, Window, word
from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import Tile


@dataclass(frozen=True)
class DenseConv2d(Convolution, Kernel):
    """x float32 [N, H, W, Cin] -> [N, Ho, Wo, Cout]; any sizes, zero padding."""

    epilogue: Epilogue
    weight_dtype: Literal["float16", "float32", "int8"] = "float16"
    tile: Tile | None = None
    dilation: Extents = 1

    def __post_init__(self) -> None:
        self.epilogue.check(self.out_channels)
        _ = self.rows, self.columns  # a kernel larger than the map is refused here

    def symbol(self) -> str:
        narrow = {"float16": "", "float32": "_w32", "int8": "_w8"}[self.weight_dtype]
        return f"dense_conv2d_{self.sizes}_{self.shape_word}{narrow}{self.epilogue.symbol()}"

    def _windows(self) -> tuple[Window, Window]:
        return self.loops(self.epilogue.is_per_pixel(self.columns.count))

    def tile_key(self) -> str:
        rows, columns = self._windows()
        outputs = f"n{self.batch}_{rows.count}x{columns.count}_{self.in_channels}to{self.out_channels}"
        return f"dense_conv2d_{outputs}_k{word(self.kernel)}s{word(self.stride)}"

    def default_tile(self, isa: VectorIsa) -> Tile:
        return default_tile(isa, self._windows()[1].count, self.out_channels)

    def whole_tile(self, isa: VectorIsa) -> Tile:
        return Tile(self._windows()[1].count, -(-self.out_channels // panel_lanes(self.out_channels, isa)))

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        lanes = panel_lanes(self.out_channels, isa)
        weight = (-(-self.out_channels // lanes), self.taps * self.in_channels, lanes)
        return (
            Parameter("x", (self.batch, self.height, self.width, self.in_channels), "float32"),
            Parameter("weight", weight, self.weight_dtype),
            *self.epilogue.parameters(*self.out_shape, isa),
        )

    def pack(self, isa: VectorIsa, weight: Array) -> dict[str, Array]:
        """float [Cout, Cin, kh, kw], or [Cout, Cin] for a linear layer."""
        taps = weight.reshape(self.out_channels, self.in_channels, -1).transpose(0, 2, 1)
        return {"weight": pack_floats(taps, isa, self.weight_dtype)}

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            epilogue = EpilogueEmitter(self.epilogue, buffers, isa, *self.out_shape, exact_products=True)
            core = DenseCore(isa, self.batch, self.in_channels, self.weight_dtype, epilogue, share, self.tile)
            epilogue.begin(share)
            core.emit(*self._windows())

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        weight = unpack_floats(arrays["weight"], self.out_channels, self.taps)
        return self.epilogue.reference(reference_sum(arrays["x"], weight, self.rows, self.columns), arrays)

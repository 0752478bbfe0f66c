"""Float transposed convolution k4 s2 p1: four convolutions with 2x2 windows, one for each output phase.

Weight layout: [4, ceil(Cout / V), 2 * 2 * Cin, V], phase 2*i + j first (see `window`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bhpe_compile.kernels.dense_core import DenseCore, default_tile
from bhpe_compile.kernels.dense_layout import pack_floats, panel_lanes, reference_sum, unpack_floats
from bhpe_compile.kernels.epilogue import Epilogue
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Share, function
from bhpe_compile.kernels.window import Deconvolution, phase_weights
from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import Tile


@dataclass(frozen=True)
class DenseConvTranspose2d(Deconvolution, Kernel):
    """x float32 [N, H, W, Cin] -> [N, 2H, 2W, Cout]."""

    epilogue: Epilogue
    weight_dtype: Literal["float16", "float32"] = "float16"
    tile: Tile | None = None

    def __post_init__(self) -> None:
        self.epilogue.check(self.out_channels)

    def symbol(self) -> str:
        narrow = "" if self.weight_dtype == "float16" else "_w32"
        return f"dense_deconv2d_{self.sizes}{narrow}{self.epilogue.symbol()}"

    def tile_key(self) -> str:
        return f"dense_deconv2d_{self.sizes}"

    def default_tile(self, isa: VectorIsa) -> Tile:
        return default_tile(isa, self.width, self.out_channels)

    def whole_tile(self, isa: VectorIsa) -> Tile:
        return Tile(self.width, -(-self.out_channels // panel_lanes(self.out_channels, isa)))

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        lanes = panel_lanes(self.out_channels, isa)
        weight = (4, -(-self.out_channels // lanes), 4 * self.in_channels, lanes)
        return (
            Parameter("x", (self.batch, self.height, self.width, self.in_channels), "float32"),
            Parameter("weight", weight, self.weight_dtype),
            *self.epilogue.parameters(*self.out_shape, isa),
        )

    def pack(self, isa: VectorIsa, weight: Array) -> dict[str, Array]:
        """float [Cin, Cout, 4, 4], the ConvTranspose layout."""
        taps = [one.transpose(1, 2, 0) for one in phase_weights(weight)]
        packed = [pack_floats(one, isa, self.weight_dtype) for one in taps]
        return {"weight": np.stack(packed)}

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            epilogue = EpilogueEmitter(self.epilogue, buffers, isa, *self.out_shape, exact_products=True)
            core = DenseCore(isa, self.batch, self.in_channels, self.weight_dtype, epilogue, share, self.tile)
            epilogue.begin(share)
            for phase, windows in enumerate(self.phases):
                core.emit(*windows, phase)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        sums = [
            reference_sum(arrays["x"], unpack_floats(one, self.out_channels, 4), *windows)
            for one, windows in zip(arrays["weight"], self.phases, strict=True)
        ]
        return self.epilogue.reference(self.interleaved(sums), arrays)

"""Float transposed convolution k4 s2 p1: four convolutions with 2x2 windows, one for each output phase.

Weight layout: [4, ceil(Cout / V), 2 * 2 * Cin, V], phase 2*i + j first (see `window`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from bhpe_compile.kernels.dense_core import DenseCore, default_tile
from bhpe_compile.kernels.dense_layout import pack_floats, panel_lanes, reference_sum, unpack_floats
from bhpe_compile.kernels.epilogue import Epilogue
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Share, function
from bhpe_compile.kernels.window import PHASES, deconvolution_phase, phase_taps
from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import Tile


@dataclass(frozen=True)
class DenseConvTranspose2d(Kernel):
    """x float32 [N, H, W, Cin] -> [N, 2H, 2W, Cout]."""

    parallel: ClassVar[bool] = True
    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int
    epilogue: Epilogue
    weight_dtype: Literal["float16", "float32"] = "float16"
    tile: Tile | None = None

    def __post_init__(self) -> None:
        self.epilogue.check(self.out_channels)

    def symbol(self) -> str:
        sizes = f"n{self.batch}_{self.height}x{self.width}_{self.in_channels}to{self.out_channels}"
        narrow = "" if self.weight_dtype == "float16" else "_w32"
        return f"dense_deconv2d_{sizes}{narrow}{self.epilogue.symbol()}"

    def tile_key(self) -> str:
        return (
            f"dense_deconv2d_n{self.batch}_{self.height}x{self.width}_{self.in_channels}to{self.out_channels}"
        )

    def default_tile(self, isa: VectorIsa) -> Tile:
        return default_tile(isa, self.width, self.out_channels)

    def whole_tile(self, isa: VectorIsa) -> Tile:
        return Tile(self.width, -(-self.out_channels // panel_lanes(self.out_channels, isa)))

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        lanes = panel_lanes(self.out_channels, isa)
        weight = (4, -(-self.out_channels // lanes), 4 * self.in_channels, lanes)
        sizes = (self.batch, 2 * self.height, 2 * self.width, self.out_channels)
        return (
            Parameter("x", (self.batch, self.height, self.width, self.in_channels), "float32"),
            Parameter("weight", weight, self.weight_dtype),
            *self.epilogue.parameters(*sizes),
        )

    def pack(self, isa: VectorIsa, weight: Array) -> dict[str, Array]:
        """float [Cin, Cout, 4, 4], the ConvTranspose layout."""
        phases = [weight[:, :, phase_taps(i), :][..., phase_taps(j)] for i, j in PHASES]
        shape = (self.in_channels, self.out_channels, 4)
        packed = [pack_floats(w.reshape(shape).transpose(1, 2, 0), isa, self.weight_dtype) for w in phases]
        return {"weight": np.stack(packed)}

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            sizes = (self.batch, 2 * self.height, 2 * self.width, self.out_channels)
            epilogue = EpilogueEmitter(self.epilogue, buffers, isa, *sizes)
            core = DenseCore(isa, self.batch, self.in_channels, self.weight_dtype, epilogue, share, self.tile)
            epilogue.begin(share)
            for phase, (i, j) in enumerate(PHASES):
                core.emit(deconvolution_phase(self.height, i), deconvolution_phase(self.width, j), phase)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        total = np.zeros((self.batch, 2 * self.height, 2 * self.width, self.out_channels))
        for phase, (i, j) in enumerate(PHASES):
            weight = unpack_floats(arrays["weight"][phase], self.out_channels, 4)
            rows, columns = deconvolution_phase(self.height, i), deconvolution_phase(self.width, j)
            total[:, i::2, j::2] = reference_sum(arrays["x"], weight, rows, columns)
        return self.epilogue.reference(total, arrays)

"""8-bit transposed convolution k4 s2 p1: four convolutions with 2x2 windows, one for each output phase.

Weight layout: [4, ceil(Cout / V), 2 * words of a row, V * group], phase 2*i + j first (see `window`, `int8_layout`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bhpe_compile.kernels.epilogue import Epilogue
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.int8_core import Int8Core
from bhpe_compile.kernels.int8_layout import (
    check_products,
    instruction_of,
    pack_int8,
    pack_start,
    reference_dot,
    row_words,
    stored_width,
    unpack_int8,
)
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Share, function
from bhpe_compile.kernels.window import Deconvolution, phase_weights
from bhpe_compile.targets.isa import VectorIsa


@dataclass(frozen=True)
class Int8ConvTranspose2d(Deconvolution, Kernel):
    """x levels [N, H+2b, W', C] as `Quantize` writes them -> [N, 2H, 2W, Cout]; b = `in_border` >= 1."""

    in_border: int
    epilogue: Epilogue

    def __post_init__(self) -> None:
        if self.in_border < 1:
            raise ValueError("a transposed convolution needs an input border of 1")
        check_products(self.in_channels, 4)
        self.epilogue.check(self.out_channels)

    @property
    def stored_width(self) -> int:
        """Pixels of a row of x."""
        return max(stored_width(columns, self.in_channels, self.in_border) for _, columns in self.phases)

    def symbol(self) -> str:
        return f"int8_deconv2d_{self.sizes}_b{self.in_border}{self.epilogue.symbol()}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        use = isa.int8
        x = (self.batch, self.height + 2 * self.in_border, self.stored_width, self.in_channels)
        panels = -(-self.out_channels // use.lanes)
        weight = (4, panels, 2 * row_words(2, self.in_channels, use), use.lanes * use.group)
        listed = [Parameter("x", x, use.dtype), Parameter("weight", weight, "int8")]
        if use.shift is not None:
            listed.append(Parameter("start", (4, panels * use.lanes), "int32"))
        return (*listed, *self.epilogue.parameters(*self.out_shape, isa))

    def constants(self, isa: VectorIsa, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """weight int8 [Cin, Cout, 4, 4]; zero, the zero point, as one number; the rest float32."""
        packed = super().constants(isa, {r: a for r, a in arrays.items() if r not in ("weight", "zero")})
        taps = [one.transpose(1, 2, 0) for one in phase_weights(arrays["weight"])]
        packed["weight"] = np.stack([pack_int8(t, 2, isa.int8) for t in taps])
        if isa.int8.shift is not None:
            zero = int(np.asarray(arrays["zero"]).reshape(()))
            packed["start"] = np.stack([pack_start(zero, t, isa.int8) for t in taps])
        return packed

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            epilogue = EpilogueEmitter(self.epilogue, buffers, isa, *self.out_shape)
            width = self.stored_width
            core = Int8Core(isa, self.batch, self.in_channels, self.in_border, width, epilogue, share)
            epilogue.begin(share)
            for phase, windows in enumerate(self.phases):
                core.emit(*windows, phase)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        use = instruction_of(arrays["x"], arrays["weight"])
        dots = []
        for phase, windows in enumerate(self.phases):
            weight = unpack_int8(arrays["weight"][phase], self.out_channels, 2, use)
            dot = reference_dot(arrays["x"], weight, self.in_channels, self.in_border, *windows)
            start = arrays["start"][phase, : self.out_channels] if "start" in arrays else 0
            dots.append(dot + start)
        return self.epilogue.reference(self.interleaved(dots).astype(np.int32), arrays)

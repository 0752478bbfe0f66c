"""8-bit 2-D convolution with a fused epilogue; arithmetic and layouts in `int8_layout`."""

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
from bhpe_compile.kernels.window import Convolution, four
from bhpe_compile.targets.isa import VectorIsa


@dataclass(frozen=True)
class Int8Conv2d(Convolution, Kernel):
    """x levels [N, H+2b, W', C] as `Quantize` writes them -> [N, Ho, Wo, Cout]; b = `in_border` >= `padding`."""

    in_border: int
    epilogue: Epilogue
    row_pixels: int | None = None
    """Pixels of a stored row; None: as many as it needs."""

    def __post_init__(self) -> None:
        if self.in_border < max(four(self.padding)):
            raise ValueError(f"input border {self.in_border} is smaller than the padding {self.padding}")
        check_products(self.in_channels, self.taps)
        self.epilogue.check(self.out_channels)
        least = stored_width(self.columns, self.in_channels, self.in_border)
        _ = self.rows  # a kernel larger than the map is refused here
        if self.row_pixels is not None and self.row_pixels < least:
            raise ValueError(f"stored rows of {self.row_pixels} pixels are shorter than {least}")

    @property
    def stored_width(self) -> int:
        """Pixels of a row of x."""
        return self.row_pixels or stored_width(self.columns, self.in_channels, self.in_border)

    def symbol(self) -> str:
        shape = f"{self.shape_word}b{self.in_border}w{self.stored_width}"
        return f"int8_conv2d_{self.sizes}_{shape}{self.epilogue.symbol()}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        use = isa.int8
        x = (self.batch, self.height + 2 * self.in_border, self.stored_width, self.in_channels)
        panels = -(-self.out_channels // use.lanes)
        words = self.rows.taps * row_words(self.columns.taps, self.in_channels, use)
        listed = [
            Parameter("x", x, use.dtype),
            Parameter("weight", (panels, words, use.lanes * use.group), "int8"),
        ]
        if use.shift is not None:
            listed.append(Parameter("start", (panels * use.lanes,), "int32"))
        return (*listed, *self.epilogue.parameters(*self.out_shape, isa))

    def constants(self, isa: VectorIsa, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """weight int8 [Cout, Cin, kh, kw]; zero, the zero point, as one number; the rest float32."""
        weight = arrays["weight"].reshape(self.out_channels, self.in_channels, -1)
        taps = weight.transpose(0, 2, 1)
        packed = super().constants(isa, {r: a for r, a in arrays.items() if r not in ("weight", "zero")})
        packed["weight"] = pack_int8(taps, self.rows.taps, isa.int8)
        if isa.int8.shift is not None:
            packed["start"] = pack_start(int(np.asarray(arrays["zero"]).reshape(())), taps, isa.int8)
        return packed

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            epilogue = EpilogueEmitter(self.epilogue, buffers, isa, *self.out_shape)
            width = self.stored_width
            flat = (
                self.epilogue.is_per_pixel(self.columns.count) and self.in_border == 0 and width == self.width
            )
            windows = self.loops(flat)
            width = windows[1].size if flat else width
            core = Int8Core(isa, self.batch, self.in_channels, self.in_border, width, epilogue, share)
            epilogue.begin(share)
            core.emit(*windows)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        use = instruction_of(arrays["x"], arrays["weight"])
        weight = unpack_int8(arrays["weight"], self.out_channels, self.rows.taps, use)
        dot = reference_dot(arrays["x"], weight, self.in_channels, self.in_border, self.rows, self.columns)
        if "start" in arrays:
            dot += arrays["start"][: self.out_channels]
        return self.epilogue.reference(dot.astype(np.int32), arrays)

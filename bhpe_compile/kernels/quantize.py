"""Float NHWC tensor -> 8-bit levels as an 8-bit convolution reads them, with its border.

    q = clamp(round(x / step) + zero, 0, 255)       ties to even, as ONNX's QuantizeLinear
    stored: q - shift                               see `int8_layout`; the border holds q = zero

`stride` 2 keeps every second pixel: a strided 1x1 convolution reads no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bhpe_compile.kernels.epilogue import Storage
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.levels_tir import level_of, nothing, shift_of
from bhpe_compile.kernels.tir import (
    Expr,
    Share,
    T,
    cast,
    chunks,
    fill,
    function,
    load_floats,
    splat,
    store,
)
from bhpe_compile.targets.isa import VectorIsa

UNROLLED_VECTORS = 8
"""Vectors of one run handled by straight-line code; more become a loop."""


@dataclass(frozen=True)
class Quantize(Kernel):
    """x [N, H, W, C] of `dtype`, quantization float32 [2] = (step, zero) -> out [N, Ho+2b, `stored_width`, C]."""

    parallel: ClassVar[bool] = True
    batch: int
    height: int
    width: int
    channels: int
    stride: int
    border: int
    stored_width: int
    dtype: Storage = "float32"
    divides: bool = True
    """Whether the step is another one than 1."""

    def __post_init__(self) -> None:
        if self.stored_width < self.columns + 2 * self.border:
            raise ValueError(
                f"a stored row of {self.stored_width} pixels does not hold the map and its border"
            )

    @property
    def rows(self) -> int:
        """Rows that are kept."""
        return -(-self.height // self.stride)

    @property
    def columns(self) -> int:
        """Pixels of a row that are kept."""
        return -(-self.width // self.stride)

    def symbol(self) -> str:
        shape = f"n{self.batch}_{self.height}x{self.width}x{self.channels}"
        narrow = ("_half" if self.dtype == "float16" else "") + ("" if self.divides else "_whole")
        return f"quantize_{shape}_s{self.stride}b{self.border}w{self.stored_width}{narrow}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        out = (self.batch, self.rows + 2 * self.border, self.stored_width, self.channels)
        return (
            Parameter("x", (self.batch, self.height, self.width, self.channels), self.dtype),
            Parameter("quantization", (2,), "float32"),
            Parameter("out", out, isa.int8.dtype, is_output=True),
        )

    def prim_func(self, isa: VectorIsa) -> Any:
        use, lanes_of = isa.int8, isa.float_lanes
        row = self.stored_width * self.channels
        left, kept = self.border * self.channels, self.columns * self.channels

        def body(buffers: Any, share: Share) -> None:
            out, quantization = buffers["out"], buffers["quantization"]
            step, zero = quantization[0], quantization[1]
            border, shift = nothing(zero, isa), shift_of(zero, isa)

            def one(base_in: Expr, base_out: Expr, lanes: int) -> None:
                value = load_floats(buffers["x"], base_in, lanes, isa)
                if self.divides:
                    value = value / splat(step, lanes)
                level = level_of(value, zero, lanes, isa, shift)
                store(out, base_out, lanes, cast(use.dtype, lanes, level))

            def run(base_in: Expr, base_out: Expr, count: int) -> None:
                """`count` values in a row."""
                whole, pieces = count // lanes_of, chunks(count, lanes_of)
                if whole > UNROLLED_VECTORS:
                    with T.serial(0, whole) as vector:
                        one(base_in + vector * lanes_of, base_out + vector * lanes_of, lanes_of)
                    pieces = pieces[whole:]
                for offset, lanes in pieces:
                    one(base_in + offset, base_out + offset, lanes)

            rows = self.rows + 2 * self.border
            if self.border:
                with T.If(share.is_last), T.Then(), T.serial(0, self.batch) as n:
                    for edge in (n * rows * row, (n * rows + rows - self.border) * row):
                        fill(out, edge, self.border * row, border)
            with share.rows(self.batch, self.rows) as (n, y):
                line = (n * rows + self.border + y) * row
                source = (n * self.height + y * self.stride) * self.width * self.channels
                if left:
                    fill(out, line, left, border)
                if self.stride == 1:
                    run(source, line + left, kept)
                else:
                    with T.serial(0, self.columns) as x:
                        pixel = source + x * (self.stride * self.channels)
                        run(pixel, line + left + x * self.channels, self.channels)
                if row - left - kept:
                    fill(out, line + left + kept, row - left - kept, border)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        """Levels 0 .. 255; `int8_layout.stored` tells what memory holds."""
        step, zero = arrays["quantization"].astype(np.float32)
        picked = arrays["x"][:, :: self.stride, :: self.stride].astype(np.float32)
        shape = (self.batch, self.rows + 2 * self.border, self.stored_width, self.channels)
        levels = np.full(shape, zero, np.uint8)
        inside = slice(self.border, self.border + self.rows), slice(self.border, self.border + self.columns)
        levels[:, *inside] = np.clip(np.rint(picked / step) + zero, 0, 255)
        return {"out": levels}

"""Float NHWC tensor -> 8-bit levels as an 8-bit convolution reads them, with its border.

    q = clamp(round(x / step) + zero, 0, 255)       ties to even, as ONNX's QuantizeLinear
    stored: q - shift                               see `int8_layout`; the border holds q = zero

`stride` 2 keeps every second pixel: a strided 1x1 convolution reads no others. With `channels_first` x is
[N, C, H, W], a picture as networks are given it: vectors of pixels, one of each channel, are laid side by side.
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

    channels_first: bool = False

    def __post_init__(self) -> None:
        if self.channels_first and self.stride != 1:
            raise ValueError("with channels first every pixel is kept")
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
        narrow += "_first" if self.channels_first else ""
        return f"quantize_{shape}_s{self.stride}b{self.border}w{self.stored_width}{narrow}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        out = (self.batch, self.rows + 2 * self.border, self.stored_width, self.channels)
        first = (self.batch, self.channels, self.height, self.width)
        last = (self.batch, self.height, self.width, self.channels)
        return (
            Parameter("x", first if self.channels_first else last, self.dtype),
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

            def levels(base: Expr, lanes: int) -> Expr:
                value = load_floats(buffers["x"], base, lanes, isa)
                if self.divides:
                    value = value / splat(step, lanes)
                return cast(use.dtype, lanes, level_of(value, zero, lanes, isa, shift))

            def one(base_in: Expr, base_out: Expr, lanes: int) -> None:
                store(out, base_out, lanes, levels(base_in, lanes))

            def pixels(n: Expr, y: Expr, x: Expr, base_out: Expr, lanes: int) -> None:
                """`lanes` pixels of all channels, which lie apart."""
                planes = [
                    levels(((n * self.channels + c) * self.height + y) * self.width + x, lanes)
                    for c in range(self.channels)
                ]
                if lanes == 1:
                    for c, plane in enumerate(planes):
                        store(out, base_out + c, 1, plane)
                    return
                order = [c * lanes + pixel for pixel in range(lanes) for c in range(self.channels)]
                store(out, base_out, lanes * self.channels, T.Shuffle(planes, order))

            def picture_row(n: Expr, y: Expr, base_out: Expr) -> None:
                whole = self.width // lanes_of
                if whole:
                    with T.serial(0, whole) as vector:
                        x = vector * lanes_of
                        pixels(n, y, x, base_out + x * self.channels, lanes_of)
                for offset, lanes in chunks(self.width, lanes_of)[whole:]:
                    pixels(n, y, offset, base_out + offset * self.channels, lanes)

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
                if self.channels_first:
                    picture_row(n, y, line + left)
                elif self.stride == 1:
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
        x = arrays["x"].transpose(0, 2, 3, 1) if self.channels_first else arrays["x"]
        picked = x[:, :: self.stride, :: self.stride].astype(np.float32)
        shape = (self.batch, self.rows + 2 * self.border, self.stored_width, self.channels)
        levels = np.full(shape, zero, np.uint8)
        inside = slice(self.border, self.border + self.rows), slice(self.border, self.border + self.columns)
        levels[:, *inside] = np.clip(np.rint(picked / step) + zero, 0, 255)
        return {"out": levels}

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
from bhpe_compile.kernels.tir import (
    Expr,
    Share,
    T,
    cast,
    chunks,
    f32,
    fill,
    function,
    load_floats,
    maximum,
    minimum,
    nearest_int,
    splat,
    store,
)
from bhpe_compile.targets.isa import VectorIsa

FAR = 512.0
"""A level that no zero point brings back into 0 .. 255."""

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
        narrow = "_half" if self.dtype == "float16" else ""
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
            nothing = (
                T.Cast(use.dtype, zero - T.float32(use.shift))
                if use.shift is not None
                else T.Cast(use.dtype, 0)
            )
            shift = zero if use.shift is None else T.float32(use.shift)

            def one(base_in: Expr, base_out: Expr, lanes: int) -> None:
                value = load_floats(buffers["x"], base_in, lanes, isa) / splat(step, lanes)
                if isa.rounds:
                    level = T.nearbyint(value) + splat(zero, lanes)
                    level = maximum(level, f32(0, lanes), lanes, isa)
                    level = minimum(level, f32(255, lanes), lanes, isa) - splat(shift, lanes)
                    # int32 first: a conversion every vector unit has
                    whole = cast("int32", lanes, level)
                else:  # beyond these it is level 0 or 255 anyway
                    value = minimum(maximum(value, f32(-FAR, lanes), lanes, isa), f32(FAR, lanes), lanes, isa)
                    moved = nearest_int(value, lanes) + splat(T.Cast("int32", zero), lanes)
                    moved = T.min(T.max(moved, splat(T.int32(0), lanes)), splat(T.int32(255), lanes))
                    whole = moved - splat(T.Cast("int32", shift), lanes)
                store(out, base_out, lanes, cast(use.dtype, lanes, whole))

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
                        fill(out, edge, self.border * row, nothing)
            with share.rows(self.batch, self.rows) as (n, y):
                line = (n * rows + self.border + y) * row
                source = (n * self.height + y * self.stride) * self.width * self.channels
                if left:
                    fill(out, line, left, nothing)
                if self.stride == 1:
                    run(source, line + left, kept)
                else:
                    with T.serial(0, self.columns) as x:
                        pixel = source + x * (self.stride * self.channels)
                        run(pixel, line + left + x * self.channels, self.channels)
                if row - left - kept:
                    fill(out, line + left + kept, row - left - kept, nothing)

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

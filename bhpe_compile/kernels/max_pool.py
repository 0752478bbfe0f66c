"""Max pooling, with an optional packed output.

Padding never wins a maximum, so taps outside the map read the nearest pixel inside, which belongs to the same
window whenever padding < kernel: no comparison with the border is needed.

float16 is compared by its bits, as many at once as a register holds and without a conversion: read as int16, they are
in order but for negative ones, which are in order when all their bits but the sign are turned over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bhpe_compile.kernels.bits_tir import BitsWriter
from bhpe_compile.kernels.epilogue import Storage
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter, pack_bits, packed_bytes
from bhpe_compile.kernels.tiling import channel_loops
from bhpe_compile.kernels.tir import (
    Expr,
    Share,
    T,
    dtype_of,
    function,
    local,
    ramp,
    splat,
    store,
    store_floats,
    widen,
)
from bhpe_compile.kernels.window import Convolved, Extents, Sides, Window, both, four
from bhpe_compile.targets.isa import VectorIsa

LARGE = 16
"""Windows of as many pixels are pooled line by line."""

LONGEST = 128
"""Pixels of the longest row whose columns are kept on the stack."""


def turned(bits: Expr, lanes: int) -> Expr:
    """The bits of float16 as int16 in the same order, and back: its own inverse."""
    others = T.bitwise_and(T.shift_right(bits, splat(T.int16(15), lanes)), splat(T.int16(0x7FFF), lanes))
    return T.bitwise_xor(bits, others)


@dataclass(frozen=True)
class MaxPool2d(Convolved, Kernel):
    """x [N, H, W, C] of `dtype` -> out [N, Ho, Wo, C] of `out_dtype` and/or bits (out >= threshold)."""

    parallel: ClassVar[bool] = True
    batch: int
    height: int
    width: int
    channels: int
    kernel: Extents
    stride: Extents
    padding: Sides
    store: bool = True
    bits: bool = False
    bits_border: int = 0
    dtype: Storage = "float32"
    out_dtype: Storage = "float32"

    def __post_init__(self) -> None:
        if not all(0 <= side < both(self.kernel)[i % 2] for i, side in enumerate(four(self.padding))):
            raise ValueError(f"max pooling needs padding {self.padding} below kernel {self.kernel}")
        if not (self.store or self.bits):
            raise ValueError("max pooling must store floats, bits or both")
        if self.bits and self.channels % 8:
            raise ValueError(f"packed output needs a multiple of 8 channels, not {self.channels}")
        _ = self.rows, self.columns  # a kernel larger than the map is refused here

    @property
    def by_lines(self) -> bool:
        """Whether columns are pooled before rows: of large windows whose neighbours share most of their columns."""
        return (
            self.rows.taps * self.columns.taps >= LARGE
            and 2 * self.columns.stride < self.columns.taps
            and self.width <= LONGEST
        )

    def symbol(self) -> str:
        shape = f"n{self.batch}_{self.height}x{self.width}x{self.channels}"
        wide = "h" if self.out_dtype == "float16" else ""
        outputs = (f"_store{wide}" if self.store else "") + (f"_bits{self.bits_border}" if self.bits else "")
        narrow = "_half" if self.dtype == "float16" else ""
        return f"max_pool2d_{shape}_{self.shape_word}{narrow}{outputs}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        height, width = self.rows.count, self.columns.count
        listed = [Parameter("x", (self.batch, self.height, self.width, self.channels), self.dtype)]
        if self.bits:
            listed.append(Parameter("threshold", (self.channels,), "float32"))
        if self.store:
            shape = (self.batch, height, width, self.channels)
            listed.append(Parameter("out", shape, self.out_dtype, is_output=True))
        if self.bits:
            edge = 2 * self.bits_border
            bits = (self.batch, height + edge, width + edge, packed_bytes(self.channels))
            listed.append(Parameter("bits", bits, "uint8", is_output=True))
        return tuple(listed)

    def prim_func(self, isa: VectorIsa) -> Any:
        height, width = self.rows.count, self.columns.count
        halves, narrow = self.dtype == "float16", self.out_dtype == "float16"
        kept = "int16" if halves else "float32"
        at_once = isa.float_lanes
        if halves and not self.bits and isa.float_registers == 1:
            at_once *= 2

        def body(buffers: Any, share: Share) -> None:
            def inside(out: Expr, tap: int, axis: Window) -> Expr:
                return T.max(T.min(out * axis.stride + (tap - axis.pad), axis.size - 1), 0)

            def load(n: Expr, row: Expr, column: Expr, c: Expr, lanes: int) -> Expr:
                pixel = (n * self.height + row) * self.width + column
                value = buffers["x"][ramp(pixel * self.channels + c, lanes)]
                return turned(T.reinterpret(dtype_of("int16", lanes), value), lanes) if halves else value

            def largest(values: list[Expr], lanes: int) -> Any:
                best = local(lanes, kept)
                every = ramp(0, lanes)
                for i, value in enumerate(values):
                    store(best, 0, lanes, T.max(best[every], value) if i else value)
                return best[every]

            def write(n: Expr, y: Expr, x: Expr, c: Expr, lanes: int, best: Expr) -> None:
                if halves:
                    best = T.reinterpret(dtype_of("float16", lanes), turned(best, lanes))
                floats = widen(best, lanes, isa) if halves and (self.bits or not narrow) else best
                if self.store:
                    at = ((n * height + y) * width + x) * self.channels + c
                    if halves and narrow:
                        store(buffers["out"], at, lanes, best)
                    else:
                        store_floats(buffers["out"], at, lanes, floats, isa)
                if self.bits:
                    shape = (self.batch, height, width, self.channels)
                    writer = BitsWriter(buffers["bits"], isa, *shape, self.bits_border)
                    writer.write(n, y, x, c, lanes, floats >= buffers["threshold"][ramp(c, lanes)])

            def one(n: Expr, y: Expr, x: Expr, c: Expr, lanes: int) -> None:
                values = [
                    load(n, inside(y, kh, self.rows), inside(x, kw, self.columns), c, lanes)
                    for kh in range(self.rows.taps)
                    for kw in range(self.columns.taps)
                ]
                write(n, y, x, c, lanes, largest(values, lanes))

            def line(n: Expr, y: Expr, c: Expr, lanes: int) -> None:
                """A row of outputs: first the largest of each column, then the largest of those."""
                columns = local(self.width * lanes, kept)
                with T.serial(0, self.width) as x:
                    values = [load(n, inside(y, kh, self.rows), x, c, lanes) for kh in range(self.rows.taps)]
                    store(columns, x * lanes, lanes, largest(values, lanes))
                with T.serial(0, width) as x:
                    values = [
                        columns[ramp(inside(x, kw, self.columns) * lanes, lanes)]
                        for kw in range(self.columns.taps)
                    ]
                    write(n, y, x, c, lanes, largest(values, lanes))

            if self.bits:
                shape = (self.batch, height, width, self.channels)
                BitsWriter(buffers["bits"], isa, *shape, self.bits_border).clear(share)
            with share.rows(self.batch, height) as (n, y):
                if self.by_lines:
                    for c, lanes in channel_loops(self.channels, at_once):
                        line(n, y, c, lanes)
                else:
                    with T.serial(0, width) as x:
                        for c, lanes in channel_loops(self.channels, at_once):
                            one(n, y, x, c, lanes)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        taps = []
        for kh in range(self.rows.taps):
            for kw in range(self.columns.taps):
                y = np.arange(self.rows.count) * self.rows.stride + kh - self.rows.pad
                x = np.arange(self.columns.count) * self.columns.stride + kw - self.columns.pad
                cut = (y < 0) | (y >= self.height), (x < 0) | (x >= self.width)
                picked = arrays["x"][:, y.clip(0, self.height - 1)][:, :, x.clip(0, self.width - 1)]
                outside = cut[0][:, None] | cut[1][None, :]
                taps.append(np.where(outside[None, :, :, None], -np.inf, picked))
        best = np.max(taps, axis=0).astype(np.float32)
        outputs: dict[str, Array] = {}
        if self.store:
            outputs["out"] = best.astype(self.out_dtype)
        if self.bits:
            outputs["bits"] = pack_bits(best >= arrays["threshold"], self.bits_border)
        return outputs

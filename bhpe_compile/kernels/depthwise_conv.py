"""Float depthwise convolution with a fused epilogue: every channel has a window of its own.

    out[c] = epilogue(sum over valid taps of x[c] * w[c])

Lanes are channels, so inputs and weights are loaded as they lie in memory: channels last, one row of weights a tap.
Weights are float32 [taps, C]. Rows whose windows lie inside the map are computed without a loop over taps; taps that
fall outside it are left out, those of the columns when the code is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from bhpe_compile.kernels.epilogue import Epilogue
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tiling import channel_loops
from bhpe_compile.kernels.tir import Expr, Share, T, f32, function, local, ramp, store
from bhpe_compile.kernels.window import Convolution, Extents, Window
from bhpe_compile.targets.isa import VectorIsa

PIXELS = 4
"""Outputs of a row that are summed at once: they share each tap's weights, and hide the latency of multiply-add."""

UNROLLED_TAPS = 25
"""Windows of more taps keep the loop over their rows."""


@dataclass(frozen=True)
class DepthwiseConv2d(Convolution, Kernel):
    """x float32 [N, H, W, C] -> [N, Ho, Wo, C]; any sizes, zero padding."""

    epilogue: Epilogue
    dilation: Extents = 1

    def __post_init__(self) -> None:
        if self.in_channels != self.out_channels:
            raise ValueError(f"a depthwise convolution keeps its {self.in_channels} channels")
        self.epilogue.check(self.out_channels)
        _ = self.rows, self.columns  # a kernel larger than the map is refused here

    def symbol(self) -> str:
        return f"depthwise_conv2d_{self.sizes}_{self.shape_word}{self.epilogue.symbol()}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        return (
            Parameter("x", (self.batch, self.height, self.width, self.in_channels), "float32"),
            Parameter("weight", (self.taps, self.in_channels), "float32"),
            *self.epilogue.parameters(*self.out_shape, isa),
        )

    def pack(self, isa: VectorIsa, weight: Array) -> dict[str, Array]:
        """float [C, 1, kh, kw]."""
        taps = weight.reshape(self.in_channels, -1).T
        return {"weight": np.ascontiguousarray(taps, np.float32)}

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            epilogue = EpilogueEmitter(self.epilogue, buffers, isa, *self.out_shape, exact_products=True)
            epilogue.begin(share)
            _Loops(self, isa, epilogue).emit(share)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        x, weight = arrays["x"].astype(np.float64), arrays["weight"].astype(np.float64)
        return self.epilogue.reference(depthwise_sum(x, weight, self.rows, self.columns), arrays)


def depthwise_sum(x: Array, weight: Array, rows: Window, columns: Window) -> Array:
    """Sums in the type of x: x [N, H, W, C], weight [taps, C] -> [N, rows, columns, C]; taps outside count as 0."""
    n, _, _, channels = x.shape
    behind = [
        max(0, (axis.count - 1) * axis.stride + axis.reach - axis.pad - axis.size) for axis in (rows, columns)
    ]
    padded = np.pad(x, ((0, 0), (rows.pad, behind[0]), (columns.pad, behind[1]), (0, 0)))
    total = np.zeros((n, rows.count, columns.count, channels), x.dtype)
    for tap in range(len(weight)):
        kh, kw = divmod(tap, columns.taps)
        y, column = kh * rows.dilation, kw * columns.dilation
        part = padded[:, y :: rows.stride, column :: columns.stride][:, : rows.count, : columns.count]
        total += part * weight[tap]
    return total


@dataclass(frozen=True)
class _Loops:
    kernel: DepthwiseConv2d
    isa: VectorIsa
    epilogue: EpilogueEmitter

    def emit(self, share: Share) -> None:
        kernel = self.kernel
        with share.rows(kernel.batch, kernel.rows.count) as (n, y):
            for c, lanes in channel_loops(kernel.in_channels, self.isa.float_lanes):
                self._row(n, y, c, lanes)

    def _row(self, n: Expr, y: Expr, c: Expr, lanes: int) -> None:
        """Outputs of one row, channels c .. c + lanes - 1."""
        columns = self.kernel.columns

        def is_whole(start: int) -> bool:
            inside = start + PIXELS <= columns.count
            return inside and all(all(columns.valid(start + p)) for p in range(PIXELS))

        for whole, group in groupby(range(0, columns.count, PIXELS), is_whole):
            starts = list(group)
            if whole and len(starts) > 1:
                with T.serial(0, len(starts)) as xo:
                    self._pixels(n, y, starts[0] + xo * PIXELS, PIXELS, c, lanes, None)
                continue
            for start in starts:
                pixels = min(PIXELS, columns.count - start)
                taps = None if whole else [columns.valid(start + p) for p in range(pixels)]
                self._pixels(n, y, start, pixels, c, lanes, taps)

    def _pixels(
        self, n: Expr, y: Expr, x: Expr, pixels: int, c: Expr, lanes: int, taps: list[tuple[bool, ...]] | None
    ) -> None:
        """`taps` lists the valid column taps of each pixel, None where all are."""
        sums = local(pixels * lanes, "float32")
        for p in range(pixels):
            store(sums, p * lanes, lanes, f32(0, lanes))
        self._taps(y, lambda kh: self._tap_row(sums, n, y, x, pixels, c, lanes, taps, kh))
        for offset, width in self.epilogue.vectors(lanes):
            for p in range(pixels):
                dot = sums[ramp(p * lanes + offset, width)]
                self.epilogue.finish(dot, n, y, x + p, c + offset, width)

    def _taps(self, y: Expr, visit: Callable[[Expr], None]) -> None:
        """`visit` every row of taps that lies inside the map at output row y."""
        rows = self.kernel.rows
        if not rows.is_cut and self.kernel.taps <= UNROLLED_TAPS:
            for kh in range(rows.taps):
                visit(kh)
            return
        first, step = rows.pad - y * rows.stride, rows.dilation

        def some() -> None:
            low = T.truncdiv(T.max(first, 0) + (step - 1), step)
            high = T.truncdiv(T.max(first + rows.size, 0) + (step - 1), step)
            with T.serial(low, T.min(high, rows.taps)) as kh:
                visit(kh)

        if not rows.is_cut or self.kernel.taps > UNROLLED_TAPS or rows.first_cut <= rows.first_whole:
            some()
            return
        with T.If(T.And(y >= rows.first_whole, y < rows.first_cut)):
            with T.Then():
                for kh in range(rows.taps):
                    visit(kh)
            with T.Else():
                some()

    def _tap_row(
        self,
        sums: Any,
        n: Expr,
        y: Expr,
        x: Expr,
        pixels: int,
        c: Expr,
        lanes: int,
        taps: list[tuple[bool, ...]] | None,
        kh: Expr,
    ) -> None:
        kernel, rows, columns = self.kernel, self.kernel.rows, self.kernel.columns
        buffers = self.epilogue.buffers
        row = n * rows.size + y * rows.stride + kh * rows.dilation - rows.pad
        for kw in range(columns.taps):
            valid = [p for p in range(pixels) if taps is None or taps[p][kw]]
            if not valid:
                continue
            weight = buffers["weight"][ramp((kh * columns.taps + kw) * kernel.in_channels + c, lanes)]
            for p in valid:
                column = (x + p) * columns.stride + kw * columns.dilation - columns.pad
                value = buffers["x"][ramp((row * columns.size + column) * kernel.in_channels + c, lanes)]
                at = ramp(p * lanes, lanes)
                T.buffer_store(sums, sums[at] + value * weight, [at])

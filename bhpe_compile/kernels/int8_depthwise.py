"""8-bit depthwise convolution with a fused epilogue: every channel has a window of its own.

    dot[c] = start[c] + sum over taps of (q[c] - shift) * w[c]     exact in int32; levels and start as in `int8_layout`

Lanes are channels, so a tap is one load of levels as they lie in memory. They are widened to 16 bits; where the vector
unit adds two products at once, two taps are laid side by side, and so are their weights: int16 [groups, C, taps of a
group], 0 where a last group has one tap too few. `Quantize` writes a border, so no tap is cut off.

Where only levels are written, `int8_depthwise_rows` computes it on vector units that have a way for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.kernels import int8_depthwise_rows as by_rows
from bhpe_compile.kernels.depthwise_conv import depthwise_sum
from bhpe_compile.kernels.epilogue import Epilogue
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.int8_layout import check_products
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tiling import channel_loops
from bhpe_compile.kernels.tir import (
    Expr,
    Share,
    T,
    cast,
    dtype_of,
    function,
    local,
    ramp,
    splat,
    store,
)
from bhpe_compile.kernels.window import Convolution, four
from bhpe_compile.targets.isa import VectorIsa

UNROLLED_TAPS = 25
"""Windows of more taps keep a loop over their rows."""


@dataclass(frozen=True)
class Int8DepthwiseConv2d(Convolution, Kernel):
    """x levels [N, H+2b, W', C] as `Quantize` writes them -> [N, Ho, Wo, C]; b = `in_border` >= `padding`."""

    in_border: int
    stored_width: int
    epilogue: Epilogue

    def __post_init__(self) -> None:
        if self.in_channels != self.out_channels:
            raise ValueError(f"a depthwise convolution keeps its {self.in_channels} channels")
        if self.in_border < max(four(self.padding)):
            raise ValueError(f"input border {self.in_border} is smaller than the padding {self.padding}")
        if self.stored_width < self.width + 2 * self.in_border:
            raise ValueError(
                f"a stored row of {self.stored_width} pixels does not hold the map and its border"
            )
        check_products(1, self.taps)
        self.epilogue.check(self.out_channels)
        _ = self.rows, self.columns  # a kernel larger than the map is refused here

    def symbol(self) -> str:
        shape = f"{self.shape_word}b{self.in_border}w{self.stored_width}"
        return f"int8_depthwise_{self.sizes}_{shape}{self.epilogue.symbol()}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        rows = self.height + 2 * self.in_border
        weight = (len(self.groups(isa.depthwise.taps)), self.in_channels, isa.depthwise.taps)
        listed = [
            Parameter("x", (self.batch, rows, self.stored_width, self.in_channels), isa.int8.dtype),
            Parameter("weight", weight, "int16"),
        ]
        if isa.int8.shift is not None:
            listed.append(Parameter("start", (self.in_channels,), "int32"))
        every = (*listed, *self.epilogue.parameters(*self.out_shape, isa))
        layout = by_rows.layout(self, isa)
        if layout is None:
            return every
        size = len(layout.channels)
        shapes = dict.fromkeys(by_rows.BY_CHANNEL, (size,)) | {"weight": (layout.weight_size,)}
        kinds = {"weight": layout.use.weights}
        return tuple(
            replace(one, shape=shapes.get(one.role, one.shape), dtype=kinds.get(one.role, one.dtype))
            for one in every
        )

    def groups(self, together: int) -> list[list[int]]:
        """The taps, `together` at a time, row by row of the window where those stay a loop."""
        columns = self.columns.taps
        spans = (
            [range(self.taps)]
            if self.taps <= UNROLLED_TAPS
            else [range(kh * columns, (kh + 1) * columns) for kh in range(self.rows.taps)]
        )
        return [list(span[at : at + together]) for span in spans for at in range(0, len(span), together)]

    def constants(self, isa: VectorIsa, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """weight int8 [C, 1, kh, kw]; zero, the zero point, as one number; the rest float32."""
        taps = arrays["weight"].reshape(self.in_channels, -1).T.astype(np.int16)
        packed = super().constants(isa, {r: a for r, a in arrays.items() if r not in ("weight", "zero")})
        groups = self.groups(isa.depthwise.taps)
        weight = np.zeros((len(groups), self.in_channels, isa.depthwise.taps), np.int16)
        for index, group in enumerate(groups):
            weight[index, :, : len(group)] = taps[group].T
        packed["weight"] = weight
        if isa.int8.shift is not None:
            zero = int(np.asarray(arrays["zero"]).reshape(()))
            packed["start"] = (isa.int8.shift - zero) * taps.sum(0, dtype=np.int32)
        layout = by_rows.layout(self, isa)
        if layout is not None:
            window = taps.astype(np.int8).reshape(self.rows.taps, self.columns.taps, -1)
            packed["weight"] = layout.packed_weight(window)
            packed |= {role: layout.by_channel(packed[role]) for role in by_rows.BY_CHANNEL if role in packed}
        return packed

    def unpacked(self, weight: Array) -> NDArray[np.int64]:
        """The inverse for the weights: int64 [taps, C]."""
        taps = np.zeros((self.taps, self.in_channels), np.int64)
        for index, group in enumerate(self.groups(weight.shape[2])):
            taps[group] = weight[index, :, : len(group)].T
        return taps

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            epilogue = EpilogueEmitter(self.epilogue, buffers, isa, *self.out_shape)
            epilogue.begin(share)
            layout = by_rows.layout(self, isa)
            if layout is None:
                _Loops(self, isa, epilogue).emit(share)
            else:
                by_rows.RowLoops(layout, epilogue).emit(share)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        top, left = (self.in_border - axis.pad for axis in (self.rows, self.columns))
        inside = arrays["x"][:, top:, left:].astype(np.int64)
        rows, columns = (
            replace(axis, size=size, pad=0)
            for axis, size in zip((self.rows, self.columns), inside.shape[1:3], strict=True)
        )
        layout = by_rows.layout_of(self, arrays["weight"])
        if layout is None:
            taps = self.unpacked(arrays["weight"])
        else:
            taps = layout.unpacked_weight(arrays["weight"])
            arrays |= {r: layout.of_channels(arrays[r]) for r in by_rows.BY_CHANNEL if r in arrays}
        dot = depthwise_sum(inside, taps, rows, columns)
        if "start" in arrays:
            dot = dot + arrays["start"]
        return self.epilogue.reference(dot.astype(np.int32), arrays)


@dataclass(frozen=True)
class _Loops:
    kernel: Int8DepthwiseConv2d
    isa: VectorIsa
    epilogue: EpilogueEmitter

    def emit(self, share: Share) -> None:
        kernel = self.kernel
        with share.rows(kernel.batch, kernel.rows.count) as (n, y):
            for c, lanes in channel_loops(kernel.in_channels, self.isa.depthwise.lanes):
                self._row(n, y, c, lanes)

    def _row(self, n: Expr, y: Expr, c: Expr, lanes: int) -> None:
        most, count = self.isa.depthwise.pixels, self.kernel.columns.count
        whole, rest = divmod(count, most)
        if whole > 1:
            with T.serial(0, whole) as xo:
                self._pixels(n, y, xo * most, most, c, lanes)
        elif whole:
            self._pixels(n, y, 0, most, c, lanes)
        if rest:
            self._pixels(n, y, whole * most, rest, c, lanes)

    def _pixels(self, n: Expr, y: Expr, x: Expr, pixels: int, c: Expr, lanes: int) -> None:
        kernel = self.kernel
        sums = local(pixels * lanes, "int32")
        start: Any = splat(T.int32(0), lanes)
        if self.isa.int8.shift is not None:
            start = self.epilogue.buffers["start"][ramp(c, lanes)]
        for p in range(pixels):
            store(sums, p * lanes, lanes, start)
        groups = kernel.groups(self.isa.depthwise.taps)
        if kernel.taps <= UNROLLED_TAPS:
            for index, group in enumerate(groups):
                self._group(sums, n, y, x, pixels, c, lanes, index, group, 0)
        else:
            a_row = len(groups) // kernel.rows.taps
            with T.serial(0, kernel.rows.taps) as kh:
                for index, group in enumerate(groups[:a_row]):
                    self._group(sums, n, y, x, pixels, c, lanes, kh * a_row + index, group, kh)
        for offset, width in self.epilogue.vectors(lanes):
            for p in range(pixels):
                dot = cast("float32", width, sums[ramp(p * lanes + offset, width)])
                self.epilogue.finish(dot, n, y, x + p, c + offset, width)

    def _group(
        self,
        sums: Any,
        n: Expr,
        y: Expr,
        x: Expr,
        pixels: int,
        c: Expr,
        lanes: int,
        index: Expr,
        group: list[int],
        kh: Expr,
    ) -> None:
        """The products of the taps of one group, for all pixels; `kh` is added to the taps' rows."""
        use, channels = self.isa.depthwise, self.kernel.in_channels
        base = (index * channels + c) * use.taps
        weight = self.epilogue.buffers["weight"][ramp(base, lanes * use.taps)]
        for p in range(pixels):
            at = ramp(p * lanes, lanes)
            values = [self._levels(n, y, x + p, c, lanes, tap, kh) for tap in group]
            if use.step is not None and lanes == use.lanes:
                side_by_side = self._interleaved(values[0], values[-1], lanes)
                added = T.call_llvm_pure_intrin(dtype_of("int32", lanes), use.step.name, side_by_side, weight)
                T.buffer_store(sums, sums[at] + added, [at])
                continue
            total = sums[at]
            for i, value in enumerate(values):
                total = total + cast("int32", lanes, value) * cast(
                    "int32", lanes, self._weight(base + i, lanes)
                )
            T.buffer_store(sums, total, [at])

    def _weight(self, base: Expr, lanes: int) -> Expr:
        """The weights of one tap of a group."""
        step = self.isa.depthwise.taps
        return self.epilogue.buffers["weight"][base if lanes == 1 else T.ramp(base, step, lanes)]

    @staticmethod
    def _interleaved(first: Expr, second: Expr, lanes: int) -> Expr:
        """int16: channel 0 of both, channel 1 of both, ..."""
        order = [index for lane in range(lanes) for index in (lane, lanes + lane)]
        return T.Shuffle([first, second], order)

    def _levels(self, n: Expr, y: Expr, x: Expr, c: Expr, lanes: int, tap: int, kh: Expr) -> Expr:
        kernel = self.kernel
        rows, columns = kernel.rows, kernel.columns
        down, across = divmod(tap, columns.taps)
        height = kernel.height + 2 * kernel.in_border
        row = n * height + y * rows.stride + (kernel.in_border - rows.pad + down) + kh
        column = x * columns.stride + (kernel.in_border - columns.pad + across)
        base = (row * kernel.stored_width + column) * kernel.in_channels + c
        return cast("int16", lanes, self.epilogue.buffers["x"][ramp(base, lanes)])

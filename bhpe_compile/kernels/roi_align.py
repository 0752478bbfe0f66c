"""RoIAlign as ONNX defines it: average, output_half_pixel, spatial scale 1, adaptive sampling ratio.

A bin of a box of width w, cut into `out_width` bins, averages ceil(w / out_width) samples an axis, each
bilinear between neighbours; samples before -1 or after `size` count 0, others are limited to the map.
Rows and columns separate, so with Y and X the (sparse) weights of samples on rows and columns

    out[py, px] = sum_r Y[py, r] * sum_c X[px, c] * x[r, c]

is computed as: for each output row, blend the few image rows it needs into `line` (long vectors), then pick
columns from it. Column samples are the same for every row and are tabled once a box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Expr, Share, T, f32, function, local, ramp, splat, store
from bhpe_compile.targets.isa import VectorIsa

TABLED = 2
"""Column samples a bin whose weights are kept in a table; further ones (very large boxes) are recomputed."""

MAX_SAMPLES = 256
"""Samples a bin and axis at most: bounds the time an infinite box takes."""

LINE_LIMIT = 8192
"""Floats of one image row and of one output row that may lie on the stack."""

GROUP = 4
"""Channels picked at once; rows on the stack have this much room behind them."""


@dataclass(frozen=True)
class RoiAlign(Kernel):
    """x float32 [N, H, W, C], boxes float32 [R, 4] (x1, y1, x2, y2 pixels), batch_index int64 [R]
    -> out float32 [R, out_height, out_width, C]."""

    parallel: ClassVar[bool] = True
    batch: int
    height: int
    width: int
    channels: int
    boxes: int
    out_height: int
    out_width: int

    def __post_init__(self) -> None:
        if max(self.width, self.out_width) * self.channels > LINE_LIMIT:
            raise ValueError(f"RoiAlign takes rows of at most {LINE_LIMIT} values (width x channels)")

    def symbol(self) -> str:
        shape = f"n{self.batch}_{self.height}x{self.width}x{self.channels}"
        return f"roi_align_{shape}_r{self.boxes}_{self.out_height}x{self.out_width}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        out = (self.boxes, self.out_height, self.out_width, self.channels)
        return (
            Parameter("x", (self.batch, self.height, self.width, self.channels), "float32"),
            Parameter("boxes", (self.boxes, 4), "float32"),
            Parameter("batch_index", (self.boxes,), "int64"),
            Parameter("out", out, "float32", is_output=True),
        )

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            _Emitter(self, isa, buffers).emit(share)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        out = np.zeros((self.boxes, self.out_height, self.out_width, self.channels), np.float32)
        for r, (x1, y1, x2, y2) in enumerate(arrays["boxes"].astype(np.float32)):
            image = arrays["x"][arrays["batch_index"][r]]
            rows = _weights(y1, y2, self.height, self.out_height)
            columns = _weights(x1, x2, self.width, self.out_width)
            out[r] = np.einsum("pr,qc,rcd->pqd", rows, columns, image, optimize=True)
        return {"out": out}


def _weights(first: np.float32, last: np.float32, size: int, bins: int) -> NDArray[np.float64]:
    """[bins, size]: the share of each row (or column) in each bin."""
    length = np.maximum(last - first, np.float32(1))
    step = length / np.float32(bins)
    samples = int(min(np.ceil(step), MAX_SAMPLES))
    weights = np.zeros((bins, size))
    for b in range(bins):
        for s in range(samples):
            at = first + np.float32(b) * step + np.float32(s + 0.5) * step / np.float32(samples)
            if -1 <= at <= size:
                place = min(max(float(at), 0.0), size - 1.0)
                low = int(place)
                weights[b, low] += (1 - (place - low)) / samples
                weights[b, min(low + 1, size - 1)] += (place - low) / samples
    return weights


class _Axis:
    """Start, step and sample count of one axis of the current box, in stack slots."""

    def __init__(self, size: int, bins: int) -> None:
        self.size, self.bins = size, bins
        self.reals = local(4, "float32")  # start, bin size, low weight, high weight
        self.whole = local(3, "int32")  # samples, low index, high index

    def begin(self, first: Expr, last: Expr) -> None:
        step = T.max(last - first, T.float32(1)) / T.float32(self.bins)
        store(self.reals, 0, 1, first)
        store(self.reals, 1, 1, step)
        samples = T.min(T.max(T.ceil(self.reals[1]), T.float32(1)), T.float32(MAX_SAMPLES))
        store(self.whole, 0, 1, T.Cast("int32", samples))

    def sample(self, b: Expr, s: Expr) -> None:
        """Neighbours and weights of sample s of bin b."""
        real, count = self.reals, T.Cast("float32", self.whole[0])
        at = real[0] + T.Cast("float32", b) * real[1]
        at = at + (T.Cast("float32", s) + T.float32(0.5)) * real[1] / count
        inside = T.bitwise_and(at >= T.float32(-1), at <= T.float32(self.size))
        place = T.max(T.min(at, T.float32(self.size - 1)), T.float32(0))
        store(self.whole, 1, 1, T.Cast("int32", place))
        store(self.whole, 2, 1, T.min(self.whole[1] + 1, self.size - 1))
        part = place - T.Cast("float32", self.whole[1])
        share = T.Select(inside, T.float32(1) / count, T.float32(0))
        store(real, 3, 1, part * share)
        store(real, 2, 1, share - real[3])


class _Emitter:
    def __init__(self, kernel: RoiAlign, isa: VectorIsa, buffers: Any) -> None:
        self.kernel, self.isa, self.buffers = kernel, isa, buffers
        self.rows = _Axis(kernel.height, kernel.out_height)
        self.columns = _Axis(kernel.width, kernel.out_width)
        self.line = local(kernel.width * kernel.channels + GROUP, "float32")
        self.picked = local(kernel.out_width * kernel.channels + GROUP, "float32")
        self.places = local(kernel.out_width * TABLED * 2, "int32")
        self.shares = local(kernel.out_width * TABLED * 2, "float32")
        self.span = local(2, "int32")  # the part of `line` in use

    def emit(self, share: Share) -> None:
        kernel, boxes = self.kernel, self.buffers["boxes"]
        with T.serial(0, kernel.boxes) as r:
            self.columns.begin(boxes[r * 4], boxes[r * 4 + 2])
            self.rows.begin(boxes[r * 4 + 1], boxes[r * 4 + 3])
            self._table()
            chosen = T.Cast("int32", self.buffers["batch_index"][r])
            image = T.max(T.min(chosen, kernel.batch - 1), 0) * (
                kernel.height * kernel.width * kernel.channels
            )
            with share.loop(kernel.out_height) as py:
                self._blend(image, py)
                self._pick()
                row = kernel.out_width * kernel.channels
                base = (r * kernel.out_height + py) * row
                self._vectors(
                    0, row, lambda at, n: store(self.buffers["out"], base + at, n, self.picked[ramp(at, n)])
                )

    def _table(self) -> None:
        """Column neighbours and weights of the first samples of every bin, and the columns they span."""
        kernel, axis = self.kernel, self.columns
        axis.sample(0, 0)
        store(self.span, 0, 1, axis.whole[1] * kernel.channels)
        axis.sample(kernel.out_width - 1, axis.whole[0] - 1)
        store(self.span, 1, 1, (axis.whole[2] + 1) * kernel.channels)
        with T.serial(0, kernel.out_width) as px, T.serial(0, T.min(axis.whole[0], TABLED)) as s:
            axis.sample(px, s)
            for side in range(2):
                at = (px * TABLED + s) * 2 + side
                store(self.places, at, 1, axis.whole[1 + side] * kernel.channels)
                store(self.shares, at, 1, axis.reals[2 + side])

    def _blend(self, image: Expr, py: Expr) -> None:
        """line = sum over the samples of output row py of their two image rows."""
        first, count = self.span[0], self.span[1] - self.span[0]
        row = self.kernel.width * self.kernel.channels
        self._vectors(first, count, lambda at, n: store(self.line, at, n, f32(0, n)))
        axis = self.rows
        with T.serial(0, axis.whole[0]) as s:
            axis.sample(py, s)

            def add(at: Expr, n: int) -> None:
                x = self.buffers["x"]
                low = x[ramp(image + axis.whole[1] * row + at, n)] * splat(axis.reals[2], n)
                high = x[ramp(image + axis.whole[2] * row + at, n)] * splat(axis.reals[3], n)
                store(self.line, at, n, self.line[ramp(at, n)] + low + high)

            self._vectors(first, count, add)

    def _pick(self) -> None:
        """picked[px] = sum over the samples of bin px of their two columns of `line`.

        Whole groups are stored: what spills over the end of a pixel is overwritten by the next one.
        """
        kernel, axis = self.kernel, self.columns
        total = local(GROUP, "float32")
        every = ramp(0, GROUP)

        def add(places: Any, shares: Any, c: int) -> None:
            low = self.line[ramp(places[0] + c, GROUP)] * splat(shares[0], GROUP)
            high = self.line[ramp(places[1] + c, GROUP)] * splat(shares[1], GROUP)
            store(total, 0, GROUP, total[every] + low + high)

        with T.serial(0, kernel.out_width) as px:
            for c in range(0, kernel.channels, GROUP):
                store(total, 0, GROUP, f32(0, GROUP))
                with T.serial(0, T.min(axis.whole[0], TABLED)) as s:
                    at = (px * TABLED + s) * 2
                    pair = (at, at + 1)
                    add([self.places[i] for i in pair], [self.shares[i] for i in pair], c)
                with T.serial(TABLED, T.max(axis.whole[0], TABLED)) as s:
                    axis.sample(px, s)
                    places = [axis.whole[1 + side] * kernel.channels for side in range(2)]
                    add(places, [axis.reals[2 + side] for side in range(2)], c)
                store(self.picked, px * kernel.channels + c, GROUP, total[every])

    def _vectors(self, first: Expr, count: Expr, visit: Any) -> None:
        """visit(at, lanes) over first .. first + count - 1, in vectors and then single values."""
        lanes = self.isa.float_lanes
        whole = T.floordiv(count, lanes) if not isinstance(count, int) else count // lanes
        with T.serial(0, whole) as vector:
            visit(first + vector * lanes, lanes)
        with T.serial(0, count - whole * lanes) as rest:
            visit(first + whole * lanes + rest, 1)

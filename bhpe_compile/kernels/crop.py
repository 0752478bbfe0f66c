"""Crops of pictures; formula and grids in `networks/layers/crop.py`.

Rows and columns separate: for each output row, the few image rows it needs are blended into `line` (long vectors), and
columns are picked from it. Column samples are the same for every row and are tabled once a box. All sums are whole
numbers below 2^24, exact in float32 in any order and with fused multiply-adds; one division ends them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Expr, Share, T, f32, function, local, nearest, ramp, splat, store
from bhpe_compile.networks.layers.grids import BOX, FURTHEST, LEVELS, LONGEST, MOST_SAMPLES, SUB
from bhpe_compile.targets.isa import VectorIsa

LINE_LIMIT = 8192
"""Floats of one image row and of one output row that may lie on the stack."""

MOST_CELLS = 256
"""Bins an axis: their places are int32, and their samples are tabled on the stack."""

GROUP = 4
"""Channels picked at once; rows on the stack have this much room behind them."""


@dataclass(frozen=True)
class Crop(Kernel):
    """x float32 [N, H, W, C], boxes float32 [N, 4] (x0, y0, x1, y1 in pixels)
    -> out float32 [N, out_height, out_width, C]."""

    parallel: ClassVar[bool] = True
    batch: int
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int

    def __post_init__(self) -> None:
        if max(self.width, self.out_width) * self.channels > LINE_LIMIT:
            raise ValueError(f"Crop takes rows of at most {LINE_LIMIT} values (width x channels)")
        if max(self.out_height, self.out_width) > MOST_CELLS:
            raise ValueError(f"Crop makes at most {MOST_CELLS} x {MOST_CELLS} pixels")

    def symbol(self) -> str:
        shape = f"n{self.batch}_{self.height}x{self.width}x{self.channels}"
        return f"crop_{shape}_{self.out_height}x{self.out_width}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        out = (self.batch, self.out_height, self.out_width, self.channels)
        return (
            Parameter("x", (self.batch, self.height, self.width, self.channels), "float32"),
            Parameter("boxes", (self.batch, 4), "float32"),
            Parameter("out", out, "float32", is_output=True),
        )

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            _Emitter(self, isa, buffers).emit(share)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        levels = np.rint(arrays["x"] * np.float32(LEVELS)).astype(np.int64)
        crops = []
        for picture, box in zip(levels, arrays["boxes"].astype(np.float32), strict=True):
            rows, down = _weights(box[1], box[3], self.height, self.out_height)
            columns, across = _weights(box[0], box[2], self.width, self.out_width)
            total = np.einsum("pr,qc,rcd->pqd", rows, columns, picture, optimize=True)
            share = np.float32(LEVELS * SUB * SUB * down * across)
            crops.append(total.astype(np.float32) / share)
        return {"out": np.stack(crops)}


def _weights(first: np.float32, last: np.float32, pixels: int, cells: int) -> tuple[NDArray[np.int64], int]:
    """[cells, pixels]: the weight of each row (or column) in each bin, and the samples of a bin."""

    def corner(place: np.float32) -> int:
        limited = np.fmin(np.fmax(place * np.float32(BOX), np.float32(-FURTHEST)), np.float32(FURTHEST))
        return int(np.rint(limited))

    start = corner(first)
    size = min(max(corner(last) - start, 1), LONGEST)
    count = min(max(-(-size // (BOX * cells)), 1), MOST_SAMPLES)
    weights = np.zeros((cells, pixels), np.int64)
    for i in range(cells):
        for s in range(count):
            inner = (2 * (2 * count * i + 2 * s + 1) * size + count * cells) // (2 * count * cells)
            place = 2 * start + inner
            if -SUB <= place <= SUB * pixels:
                place = min(max(place, 0), SUB * (pixels - 1))
                weights[i] += np.maximum(0, SUB - np.abs(place - SUB * np.arange(pixels)))
    return weights, count


class _Axis:
    """Start, size and sample count of one axis of the current box, and one sample, in stack slots."""

    def __init__(self, pixels: int, cells: int, isa: VectorIsa) -> None:
        self.pixels, self.cells, self.isa = pixels, cells, isa
        self.box = local(3, "int32")  # start, size in 1/16 pixel, samples
        self.corner = local(1, "int32")
        self.place = local(3, "int32")  # in 1/32 pixel, low index, high index
        self.share = local(2, "float32")  # low weight, high weight

    @property
    def count(self) -> Expr:
        """Samples of a bin."""
        return self.box[2]

    def begin(self, first: Expr, last: Expr) -> None:
        for slot, place in ((0, first), (1, last)):
            limited = T.max(place * T.float32(BOX), T.float32(-FURTHEST))  # this, for what is no number
            limited = T.min(limited, T.float32(FURTHEST))
            store(self.box, slot, 1, T.Cast("int32", nearest(limited, 1, self.isa)))
        store(self.box, 1, 1, T.max(T.min(self.box[1] - self.box[0], LONGEST), 1))
        samples = T.truncdiv(self.box[1] + (BOX * self.cells - 1), BOX * self.cells)
        store(self.box, 2, 1, T.max(T.min(samples, MOST_SAMPLES), 1))

    def sample(self, i: Expr, s: Expr) -> None:
        """Neighbours and weights of sample s of bin i."""
        start, size, count = self.box[0], self.box[1], self.box[2]
        inner = T.truncdiv(
            (count * i * 2 + s * 2 + 1) * 2 * size + count * self.cells, count * (2 * self.cells)
        )
        store(self.place, 0, 1, start * 2 + inner)
        inside = T.bitwise_and(self.place[0] >= -SUB, self.place[0] <= SUB * self.pixels)
        whole = T.Select(inside, T.int32(SUB), T.int32(0))
        store(self.corner, 0, 1, whole)
        store(self.place, 0, 1, T.max(T.min(self.place[0], SUB * (self.pixels - 1)), 0))
        store(self.place, 1, 1, T.truncdiv(self.place[0], SUB))
        store(self.place, 2, 1, T.min(self.place[1] + 1, self.pixels - 1))
        part = T.min(self.place[0] - self.place[1] * SUB, self.corner[0])
        store(self.share, 1, 1, T.Cast("float32", part))
        store(self.share, 0, 1, T.Cast("float32", self.corner[0] - part))


class _Emitter:
    def __init__(self, kernel: Crop, isa: VectorIsa, buffers: Any) -> None:
        self.kernel, self.isa, self.buffers = kernel, isa, buffers
        self.rows = _Axis(kernel.height, kernel.out_height, isa)
        self.columns = _Axis(kernel.width, kernel.out_width, isa)
        self.line = local(kernel.width * kernel.channels + GROUP, "float32")
        self.picked = local(kernel.out_width * kernel.channels + GROUP, "float32")
        self.places = local(kernel.out_width * MOST_SAMPLES * 2, "int32")
        self.shares = local(kernel.out_width * MOST_SAMPLES * 2, "float32")
        self.span = local(2, "int32")  # the part of `line` in use
        self.divisor = local(1, "float32")

    def emit(self, share: Share) -> None:
        kernel, boxes = self.kernel, self.buffers["boxes"]
        with T.serial(0, kernel.batch) as r:
            self.columns.begin(boxes[r * 4], boxes[r * 4 + 2])
            self.rows.begin(boxes[r * 4 + 1], boxes[r * 4 + 3])
            whole = self.columns.count * self.rows.count * (LEVELS * SUB * SUB)
            store(self.divisor, 0, 1, T.Cast("float32", whole))
            self._table()
            image = r * (kernel.height * kernel.width * kernel.channels)
            with share.loop(kernel.out_height) as py:
                self._blend(image, py)
                self._pick()
                row = kernel.out_width * kernel.channels
                base = (r * kernel.out_height + py) * row

                def finish(at: Expr, n: int, base: Expr = base) -> None:
                    value = self.picked[ramp(at, n)] / splat(self.divisor[0], n)
                    store(self.buffers["out"], base + at, n, value)

                self._vectors(0, row, finish)

    def _table(self) -> None:
        """Column neighbours and weights of the samples of every bin, and the columns they span."""
        kernel, axis = self.kernel, self.columns
        axis.sample(0, 0)
        store(self.span, 0, 1, axis.place[1] * kernel.channels)
        axis.sample(kernel.out_width - 1, axis.count - 1)
        store(self.span, 1, 1, (axis.place[2] + 1) * kernel.channels)
        with T.serial(0, kernel.out_width) as px, T.serial(0, axis.count) as s:
            axis.sample(px, s)
            for side in range(2):
                at = (px * MOST_SAMPLES + s) * 2 + side
                store(self.places, at, 1, axis.place[1 + side] * kernel.channels)
                store(self.shares, at, 1, axis.share[side])

    def _blend(self, image: Expr, py: Expr) -> None:
        """line = sum over the samples of output row py of the levels of their two image rows."""
        first, count = self.span[0], self.span[1] - self.span[0]
        row = self.kernel.width * self.kernel.channels
        self._vectors(first, count, lambda at, n: store(self.line, at, n, f32(0, n)))
        axis, x = self.rows, self.buffers["x"]
        with T.serial(0, axis.count) as s:
            axis.sample(py, s)

            def add(at: Expr, n: int) -> None:
                total = self.line[ramp(at, n)]
                for side in range(2):
                    value = x[ramp(image + axis.place[1 + side] * row + at, n)]
                    levels = nearest(value * f32(LEVELS, n), n, self.isa)
                    total = total + levels * splat(axis.share[side], n)
                store(self.line, at, n, total)

            self._vectors(first, count, add)

    def _pick(self) -> None:
        """picked[px] = sum over the samples of bin px of their two columns of `line`.

        Whole groups are stored: what spills over the end of a pixel is overwritten by the next one.
        """
        kernel, axis = self.kernel, self.columns
        total = local(GROUP, "float32")
        every = ramp(0, GROUP)
        with T.serial(0, kernel.out_width) as px:
            for c in range(0, kernel.channels, GROUP):
                store(total, 0, GROUP, f32(0, GROUP))
                with T.serial(0, axis.count) as s:
                    at = (px * MOST_SAMPLES + s) * 2
                    low = self.line[ramp(self.places[at] + c, GROUP)] * splat(self.shares[at], GROUP)
                    high = self.line[ramp(self.places[at + 1] + c, GROUP)] * splat(self.shares[at + 1], GROUP)
                    store(total, 0, GROUP, total[every] + low + high)
                store(self.picked, px * kernel.channels + c, GROUP, total[every])

    def _vectors(self, first: Expr, count: Expr, visit: Any) -> None:
        """visit(at, lanes) over first .. first + count - 1, in vectors and then single values."""
        lanes = self.isa.float_lanes
        whole = T.floordiv(count, lanes) if not isinstance(count, int) else count // lanes
        with T.serial(0, whole) as vector:
            visit(first + vector * lanes, lanes)
        with T.serial(0, count - whole * lanes) as rest:
            visit(first + whole * lanes + rest, 1)

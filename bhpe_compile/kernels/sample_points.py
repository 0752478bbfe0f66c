"""Bilinear samples of an NHWC map at a list of points; formula and order in `networks/layers/sample_points.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import (
    Expr,
    T,
    chunks,
    function,
    local,
    ramp,
    splat,
    store,
    uncontracted,
)
from bhpe_compile.targets.isa import VectorIsa


@dataclass(frozen=True)
class SamplePoints(Kernel):
    """x float32 [N, H, W, C], points float32 [N, J, 2] (x, y in cells) -> out float32 [N, J, C]; J = `count`."""

    batch: int
    height: int
    width: int
    channels: int
    count: int

    def symbol(self) -> str:
        shape = f"n{self.batch}_{self.height}x{self.width}x{self.channels}"
        return f"sample_points_{shape}_j{self.count}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        return (
            Parameter("x", (self.batch, self.height, self.width, self.channels), "float32"),
            Parameter("points", (self.batch, self.count, 2), "float32"),
            Parameter("out", (self.batch, self.count, self.channels), "float32", is_output=True),
        )

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any) -> None:
            index, weight = local(4, "int32"), local(4, "float32")

            def axis(at: int, value: Expr, size: int) -> None:
                """Neighbours and weights of one coordinate into index and weight [at, at + 1]."""
                limited = T.min(T.max(value, T.float32(-1)), T.float32(size))  # -1 for what is no number
                low = T.floor(limited)
                first = T.Cast("int32", low)
                for side in range(2):
                    place = first + side
                    part = limited - low if side else T.float32(1) - (limited - low)
                    inside = T.bitwise_and(place >= 0, place < size)
                    store(weight, at + side, 1, T.Select(inside, part, T.float32(0)))
                    store(index, at + side, 1, T.max(T.min(place, size - 1), 0))

            with T.serial(0, self.batch) as n, T.serial(0, self.count) as j:
                point = n * self.count + j
                axis(0, buffers["points"][point * 2], self.width)
                axis(2, buffers["points"][point * 2 + 1], self.height)

                def one(c: Expr, lanes: int) -> None:
                    total = None
                    for dy in range(2):
                        for dx in range(2):
                            pixel = (n * self.height + index[2 + dy]) * self.width + index[dx]
                            value = buffers["x"][ramp(pixel * self.channels + c, lanes)]
                            part = uncontracted(value * splat(weight[2 + dy] * weight[dx], lanes), lanes)
                            total = part if total is None else total + part
                    store(buffers["out"], point * self.channels + c, lanes, total)

                whole = self.channels // isa.float_lanes
                with T.serial(0, whole) as vector:
                    one(vector * isa.float_lanes, isa.float_lanes)
                for offset, lanes in chunks(self.channels, isa.float_lanes)[whole:]:
                    one(offset, lanes)

        return function(self.symbol(), self.parameters(isa), body)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        size = np.array([self.width, self.height], np.float32)
        limited = np.fmin(np.fmax(arrays["points"], np.float32(-1)), size)
        low = np.floor(limited)
        part = limited - low
        total = None
        for dy in range(2):
            for dx in range(2):
                place = low.astype(np.int64) + np.array([dx, dy])
                share = np.where((place >= 0) & (place < size), np.where([dx, dy], part, 1 - part), 0)
                share = share.astype(np.float32)
                x, y = place[..., 0].clip(0, self.width - 1), place[..., 1].clip(0, self.height - 1)
                value = arrays["x"][np.arange(self.batch)[:, None], y, x]
                one = value * (share[..., 1] * share[..., 0])[..., None]
                total = one if total is None else total + one
        return {"out": np.asarray(total, np.float32)}

"""Bilinear sampling of an NHWC map at points: GridSample(align_corners=1, padding_mode=zeros) on a list.

A normalised coordinate g in [-1, 1] is the pixel coordinate (g + 1) / 2 * (size - 1); of its four neighbours
those outside the map count 0. Coordinates are first limited to [-1, size], beyond which all neighbours lie
outside, so that a point far away cannot overflow an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Expr, T, chunks, function, local, ramp, splat, store
from bhpe_compile.targets.isa import VectorIsa


@dataclass(frozen=True)
class SamplePoints(Kernel):
    """x float32 [N, H, W, C], grid float32 [N, J, 2] (x, y) -> out float32 [N, J, C]; J = `points`."""

    batch: int
    height: int
    width: int
    channels: int
    points: int

    def symbol(self) -> str:
        shape = f"n{self.batch}_{self.height}x{self.width}x{self.channels}"
        return f"sample_points_{shape}_j{self.points}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        return (
            Parameter("x", (self.batch, self.height, self.width, self.channels), "float32"),
            Parameter("grid", (self.batch, self.points, 2), "float32"),
            Parameter("out", (self.batch, self.points, self.channels), "float32", is_output=True),
        )

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any) -> None:
            index, weight = local(4, "int32"), local(4, "float32")

            def axis(at: int, value: Expr, size: int) -> None:
                """Neighbours and weights of one coordinate into index and weight [at, at + 1]."""
                exact = (value + T.float32(1)) * T.float32(0.5 * (size - 1))
                limited = T.max(T.min(exact, T.float32(size)), T.float32(-1))
                low = T.floor(limited)
                first = T.Cast("int32", low)
                for side in range(2):
                    place = first + side
                    part = limited - low if side else T.float32(1) - (limited - low)
                    inside = T.bitwise_and(place >= 0, place < size)
                    store(weight, at + side, 1, T.Select(inside, part, T.float32(0)))
                    store(index, at + side, 1, T.max(T.min(place, size - 1), 0))

            with T.serial(0, self.batch) as n, T.serial(0, self.points) as j:
                point = n * self.points + j
                axis(0, buffers["grid"][point * 2], self.width)
                axis(2, buffers["grid"][point * 2 + 1], self.height)

                def one(c: Expr, lanes: int) -> None:
                    total = None
                    for dy in range(2):
                        for dx in range(2):
                            pixel = (n * self.height + index[2 + dy]) * self.width + index[dx]
                            value = buffers["x"][ramp(pixel * self.channels + c, lanes)]
                            part = value * splat(weight[2 + dy] * weight[dx], lanes)
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
        exact = ((arrays["grid"] + np.float32(1)) * (np.float32(0.5) * (size - 1))).astype(np.float32)
        low = np.floor(np.clip(exact, -1, size))
        part = np.clip(exact, -1, size) - low
        out = np.zeros((self.batch, self.points, self.channels), np.float32)
        for dy in range(2):
            for dx in range(2):
                place = low.astype(np.int64) + np.array([dx, dy])
                inside = np.all((place >= 0) & (place < size), axis=-1)
                x, y = place[..., 0].clip(0, self.width - 1), place[..., 1].clip(0, self.height - 1)
                share = (part[..., 0] if dx else 1 - part[..., 0]) * (
                    part[..., 1] if dy else 1 - part[..., 1]
                )
                value = arrays["x"][np.arange(self.batch)[:, None], y, x]
                out += value * np.where(inside, share, 0).astype(np.float32)[..., None]
        return {"out": out}

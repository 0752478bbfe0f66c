"""The mean over all pixels of a map, channel by channel.

    out[c] = (((x_0[c] + x_1[c]) + x_2[c]) + ..) * (1 / pixels)      pixels row by row

Lanes are channels, so a pixel is one load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Expr, T, chunks, f32, function, local, ramp, store
from bhpe_compile.targets.isa import VectorIsa

VECTORS = 4
"""Vectors of channels that are summed at once: they hide the latency of an addition."""


@dataclass(frozen=True)
class MapMean(Kernel):
    """x float32 [N, H, W, C] -> out [N, 1, 1, C], or [N, C] with `flat`."""

    batch: int
    height: int
    width: int
    channels: int
    flat: bool = False

    def symbol(self) -> str:
        flat = "_flat" if self.flat else ""
        return f"map_mean_n{self.batch}_{self.height}x{self.width}x{self.channels}{flat}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        out = (self.batch, self.channels) if self.flat else (self.batch, 1, 1, self.channels)
        return (
            Parameter("x", (self.batch, self.height, self.width, self.channels), "float32"),
            Parameter("out", out, "float32", is_output=True),
        )

    def prim_func(self, isa: VectorIsa) -> Any:
        lanes, pixels, channels = isa.float_lanes, self.height * self.width, self.channels

        def body(buffers: Any) -> None:
            def columns(n: Expr, c: Expr, widths: list[tuple[int, int]]) -> None:
                """Channels from c on, as vectors (offset, lanes)."""
                sums = local(sum(width for _, width in widths), "float32")
                for offset, width in widths:
                    store(sums, offset, width, f32(0, width))
                with T.serial(0, pixels) as pixel:
                    base = (n * pixels + pixel) * channels + c
                    for offset, width in widths:
                        at = ramp(offset, width)
                        T.buffer_store(sums, sums[at] + buffers["x"][ramp(base + offset, width)], [at])
                for offset, width in widths:
                    mean = sums[ramp(offset, width)] * f32(1 / pixels, width)
                    store(buffers["out"], n * channels + c + offset, width, mean)

            many = lanes * VECTORS
            whole, rest = divmod(channels, many)
            with T.serial(0, self.batch) as n:
                if whole:
                    with T.serial(0, whole) as block:
                        columns(n, block * many, [(k * lanes, lanes) for k in range(VECTORS)])
                if rest:
                    columns(n, whole * many, chunks(rest, lanes))

        return function(self.symbol(), self.parameters(isa), body)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        pixels = arrays["x"].reshape(self.batch, -1, self.channels)
        total = np.add.accumulate(pixels, axis=1, dtype=np.float32)[:, -1]
        mean = total * np.float32(1 / (self.height * self.width))
        return {"out": mean if self.flat else mean[:, None, None]}

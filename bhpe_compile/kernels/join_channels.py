"""Maps with channels last, put one behind the other along the channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Expr, Share, T, chunks, function, ramp, store
from bhpe_compile.targets.isa import VectorIsa

UNROLLED_VECTORS = 8
"""Vectors of one source that are copied by straight-line code; more become a loop."""


@dataclass(frozen=True)
class JoinChannels(Kernel):
    """x0, x1, ... float32 [*shape, channels[k]] -> out [*shape, sum of channels]; `pixels` is the product of shape."""

    parallel: ClassVar[bool] = True
    pixels: int
    channels: tuple[int, ...]
    shape: tuple[int, ...]

    def symbol(self) -> str:
        sizes = "x".join(map(str, self.shape))
        return f"join_channels_{sizes}_{'_'.join(map(str, self.channels))}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        sources = (Parameter(f"x{k}", (*self.shape, size), "float32") for k, size in enumerate(self.channels))
        return (*sources, Parameter("out", (*self.shape, sum(self.channels)), "float32", is_output=True))

    def prim_func(self, isa: VectorIsa) -> Any:
        total = sum(self.channels)

        def body(buffers: Any, share: Share) -> None:
            def copy(source: Any, base: Expr, target: Expr, count: int) -> None:
                whole, pieces = count // isa.float_lanes, chunks(count, isa.float_lanes)
                if whole > UNROLLED_VECTORS:
                    with T.serial(0, whole) as vector:
                        at = vector * isa.float_lanes
                        value = source[ramp(base + at, isa.float_lanes)]
                        store(buffers["out"], target + at, isa.float_lanes, value)
                    pieces = pieces[whole:]
                for offset, lanes in pieces:
                    store(buffers["out"], target + offset, lanes, source[ramp(base + offset, lanes)])

            with share.loop(self.pixels) as pixel:
                first = 0
                for k, count in enumerate(self.channels):
                    copy(buffers[f"x{k}"], pixel * count, pixel * total + first, count)
                    first += count

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        return {"out": np.concatenate([arrays[f"x{k}"] for k in range(len(self.channels))], -1)}

"""Float tensor with channels first -> channels last, or back; TVM's own loop over the result misses the cache.

Each picture is a matrix [R, C] that becomes [C, R]. Vectors run along the longer side: along C they are loaded whole
and stored with R between their lanes, along R loaded with C between and stored whole. The lines that the spread lanes
fall into stay in the cache while the other side goes by, and the smaller distance keeps them in different sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Expr, Share, T, function, ramp
from bhpe_compile.targets.isa import VectorIsa


@dataclass(frozen=True)
class TransposeChannels(Kernel):
    """x float32 [N, C, H, W] -> out [N, H, W, C] with `to_last`, else x [N, H, W, C] -> out [N, C, H, W]."""

    parallel: ClassVar[bool] = True
    batch: int
    channels: int
    height: int
    width: int
    to_last: bool

    def symbol(self) -> str:
        way = "to_last" if self.to_last else "to_first"
        return f"transpose_n{self.batch}_{self.height}x{self.width}x{self.channels}_{way}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        first = (self.batch, self.channels, self.height, self.width)
        last = (self.batch, self.height, self.width, self.channels)
        x, out = (first, last) if self.to_last else (last, first)
        return Parameter("x", x, "float32"), Parameter("out", out, "float32", is_output=True)

    def prim_func(self, isa: VectorIsa) -> Any:
        pixels, lanes = self.height * self.width, isa.float_lanes
        rows, columns = (self.channels, pixels) if self.to_last else (pixels, self.channels)
        longer, shorter = max(rows, columns), min(rows, columns)
        whole, rest = divmod(longer, lanes)

        def body(buffers: Any, share: Share) -> None:
            def block(n: Expr, first: Expr, count: int) -> None:
                with T.serial(0, shorter) as other:
                    near = n * rows * columns + other * longer + first
                    far = n * rows * columns + first * shorter + other
                    spread = far if count == 1 else T.ramp(far, shorter, count)
                    source, target = (
                        (ramp(near, count), spread) if columns == longer else (spread, ramp(near, count))
                    )
                    T.buffer_store(buffers["out"], buffers["x"][source], [target])

            if whole:
                with share.rows(self.batch, whole) as (n, vector):
                    block(n, vector * lanes, lanes)
            if rest:
                with T.If(share.is_last), T.Then(), T.serial(0, self.batch) as n:
                    for first in range(whole * lanes, longer):
                        block(n, first, 1)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        return {"out": arrays["x"].transpose((0, 2, 3, 1) if self.to_last else (0, 3, 1, 2)).copy()}

"""Float NHWC tensor -> packed bits: bit = (x >= threshold of its channel), with a zero border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from bhpe_compile.kernels.bits_tir import BitsWriter
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter, pack_bits, packed_bytes
from bhpe_compile.kernels.tir import Share, T, chunks, function, ramp
from bhpe_compile.targets.isa import VectorIsa

UNROLLED_VECTORS = 8
"""Vectors of one pixel handled by straight-line code; the rest is a loop."""


@dataclass(frozen=True)
class PackBits(Kernel):
    """x float32 [N, H, W, C], threshold [C] -> bits uint8 [N, H+2b, W+2b, CB]; b = `border`."""

    parallel: ClassVar[bool] = True
    batch: int
    height: int
    width: int
    channels: int
    border: int

    def symbol(self) -> str:
        return f"pack_bits_n{self.batch}_{self.height}x{self.width}x{self.channels}_b{self.border}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        edge = 2 * self.border
        bits = (self.batch, self.height + edge, self.width + edge, packed_bytes(self.channels))
        return (
            Parameter("x", (self.batch, self.height, self.width, self.channels), "float32"),
            Parameter("threshold", (self.channels,), "float32"),
            Parameter("bits", bits, "uint8", is_output=True),
        )

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            shape = (self.batch, self.height, self.width, self.channels)
            writer = BitsWriter(buffers["bits"], isa, *shape, self.border)
            x, threshold = buffers["x"], buffers["threshold"]
            writer.clear(share)
            with share.rows(self.batch, self.height) as (n, y), T.serial(0, self.width) as column:
                base = ((n * self.height + y) * self.width + column) * self.channels

                def one(c: Any, lanes: int) -> None:
                    above = x[ramp(base + c, lanes)] >= threshold[ramp(c, lanes)]
                    writer.write(n, y, column, c, lanes, above)

                pieces = chunks(self.channels // 8 * 8, isa.float_lanes)
                whole = self.channels // isa.float_lanes
                if whole > UNROLLED_VECTORS:
                    with T.serial(0, whole) as vector:
                        one(vector * isa.float_lanes, isa.float_lanes)
                    pieces = pieces[whole:]
                for offset, lanes in pieces:
                    one(offset, lanes)
                if last := range(self.channels // 8 * 8, self.channels):
                    above = [x[base + c] >= threshold[c] for c in last]
                    writer.write_last(n, y, column, last[0], above)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        return {"bits": pack_bits(arrays["x"] >= arrays["threshold"], self.border)}

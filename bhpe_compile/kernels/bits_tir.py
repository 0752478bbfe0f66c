"""TIR that writes sign bits: a pixel's words, and the border around a map that binary layers read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from bhpe_compile.kernels.kernel import packed_bytes
from bhpe_compile.kernels.tir import (
    Expr,
    Share,
    T,
    fill,
    splat,
    store,
)
from bhpe_compile.targets.isa import VectorIsa


@dataclass(frozen=True)
class BitsWriter:
    """Writes comparison results of an [N, H, W, C] tensor into its packed form with a zero border."""

    buffer: Expr
    isa: VectorIsa
    batch: int
    height: int
    width: int
    channels: int
    border: int

    def clear(self, share: Share) -> None:
        """Zero what `write` never writes: the border, and bytes behind the last channel.

        Bytes of the map itself are left alone, so that parts may clear rows whose pixels another part writes.
        """
        pixel, used = packed_bytes(self.channels), -(-self.channels // 8)
        rows, row = self.height + 2 * self.border, (self.width + 2 * self.border) * pixel
        edge = self.border * pixel
        if not edge and used == pixel:
            return

        def beside_the_map(base: Expr) -> None:
            if edge:
                fill(self.buffer, base, edge, T.uint8(0))
                fill(self.buffer, base + (row - edge), edge, T.uint8(0))
            if used < pixel:
                with T.serial(0, self.width) as x:
                    fill(self.buffer, base + edge + x * pixel + used, pixel - used, T.uint8(0))

        with share.loop(self.batch * rows) as r:
            if not edge:
                beside_the_map(r * row)
                return
            y = T.truncmod(r, rows)
            with T.If(T.bitwise_or(y < self.border, y >= self.border + self.height)):
                with T.Then():
                    fill(self.buffer, r * row, row, T.uint8(0))
                with T.Else():
                    beside_the_map(r * row)

    def write(self, n: Expr, y: Expr, x: Expr, c: Expr, lanes: int, condition: Expr) -> None:
        """Bits c .. c+lanes-1 of one pixel; `lanes` is 8 or 16."""
        if self.isa.masks:
            word = T.reinterpret(f"uint{lanes}", T.Cast(f"uint1x{lanes}", condition))
        else:  # a sum of different powers of two
            dtype = f"uint{lanes}"
            powers = T.shift_left(
                splat(T.Cast(dtype, 1), lanes), T.Cast(f"{dtype}x{lanes}", T.ramp(0, 1, lanes))
            )
            bits = T.Select(condition, powers, splat(T.Cast(dtype, 0), lanes))
            word = T.call_llvm_pure_intrin(dtype, f"llvm.vector.reduce.add.v{lanes}i{lanes}", bits)
        value = word if lanes == 8 else T.reinterpret("uint8x2", word)
        store(self.buffer, self._byte(n, y, x, c), lanes // 8, value)

    def write_last(self, n: Expr, y: Expr, x: Expr, c: int, conditions: Sequence[Expr]) -> None:
        """The byte of bits c, c+1, ... of one pixel, fewer than 8; c is a multiple of 8."""
        bits = [T.Select(one, T.uint8(1 << i), T.uint8(0)) for i, one in enumerate(conditions)]
        store(self.buffer, self._byte(n, y, x, c), 1, reduce(T.bitwise_or, bits))

    def _byte(self, n: Expr, y: Expr, x: Expr, c: Expr) -> Expr:
        rows, columns = self.height + 2 * self.border, self.width + 2 * self.border
        pixel = (n * rows + y + self.border) * columns + x + self.border
        return pixel * packed_bytes(self.channels) + T.floordiv(c, 8)

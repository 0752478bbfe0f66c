"""Heat maps and the mean positions under them, from logits channels last; formulas in `networks/layers/grids.py`.

Exponentials are looked up as integers, so their sums are exact in every order. A joint has `depth` neighbouring
channels. Parts share the joints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Expr, Share, T, function, local, nearest, store
from bhpe_compile.networks.layers.grids import CELL, LOWEST, OCTAVES, STEPS_PER_NAT, TABLE, TABLE_BITS
from bhpe_compile.targets.isa import VectorIsa


@dataclass(frozen=True)
class _Logits(Kernel):
    """x float32 [N, H, W, J depth] and `table` uint32 [1024]."""

    parallel: ClassVar[bool] = True
    batch: int
    height: int
    width: int
    channels: int
    depth: int

    def __post_init__(self) -> None:
        if self.channels % self.depth:
            raise ValueError(f"{self.channels} channels are not whole joints of {self.depth} cells of depth")

    @property
    def joints(self) -> int:
        """Heat maps of one picture."""
        return self.channels // self.depth

    @property
    def sizes(self) -> str:
        """The part of the symbol that says what is read."""
        return f"n{self.batch}_{self.height}x{self.width}x{self.channels}_d{self.depth}"

    def inputs(self) -> tuple[Parameter, ...]:
        """The arguments that are read."""
        x = (self.batch, self.height, self.width, self.channels)
        return Parameter("x", x, "float32"), Parameter("table", TABLE.shape, "uint32")

    def constants(self, isa: VectorIsa, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The table of exponentials; the node has no constants."""
        return {"table": TABLE.astype(np.uint32)}

    @contextmanager
    def places(self, joint: Expr) -> Iterator[tuple[Expr, Expr, Expr, Expr]]:
        """The loop over the cells of joint `joint` (counted over all pictures): index in x, and x, y, z."""
        n, j = T.truncdiv(joint, self.joints), T.truncmod(joint, self.joints)
        with T.serial(0, self.height) as y, T.serial(0, self.width) as x, T.serial(0, self.depth) as z:
            pixel = (n * self.height + y) * self.width + x
            yield pixel * self.channels + j * self.depth + z, x, y, z

    def largest(self, x: Any, joint: Expr, top: Any) -> None:
        """top[0] = the largest logit of the joint."""
        store(top, 0, 1, T.float32(-np.inf))
        with self.places(joint) as (at, *_):
            store(top, 0, 1, T.max(x[at], top[0]))

    @staticmethod
    def exponential(isa: VectorIsa, table: Any, difference: Expr, steps: Any) -> Expr:
        """2^30 exp(difference), uint32; `steps` is room for one int32."""
        found = T.max(difference * T.float32(float(STEPS_PER_NAT)), T.float32(float(LOWEST)))
        store(steps, 0, 1, T.Cast("int32", nearest(found, 1, isa)) - T.int32(int(LOWEST)))
        entry = table[T.bitwise_and(steps[0], T.int32((1 << TABLE_BITS) - 1))]
        shift = T.int32(OCTAVES) - T.shift_right(steps[0], T.int32(TABLE_BITS))
        return T.shift_right(entry, T.Cast("uint32", T.min(shift, T.int32(31))))  # entries are below 2^31

    @staticmethod
    def as_double(total: Expr) -> Expr:
        """An int64 from 0 to 2^53 as float64, exactly; 32-bit CPUs have no instruction for it, only a library."""
        high = T.Cast("float64", T.Cast("int32", T.shift_right(total, T.int64(32))))
        return high * T.float64(2.0**32) + T.Cast("float64", T.Cast("uint32", total))

    def cells(self, x: Array) -> NDArray[np.int64]:
        """NumPy's exponentials, [N, H, W, J, depth]."""
        rows = x.reshape(self.batch, self.height, self.width, self.joints, self.depth)
        below = (rows - rows.max((1, 2, 4), keepdims=True)) * STEPS_PER_NAT
        k = np.rint(np.maximum(below, LOWEST)).astype(np.int64) - int(LOWEST)
        entries: NDArray[np.int64] = TABLE[k % len(TABLE)] >> (OCTAVES - k // len(TABLE))
        return entries


@dataclass(frozen=True)
class HeatMap(_Logits):
    """x -> out float32 [N, H, W, J depth], which sums to 1 over the cells of a joint."""

    def symbol(self) -> str:
        return f"heat_map_{self.sizes}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        x, table = self.inputs()
        return x, table, Parameter("out", x.shape, "float32", is_output=True)

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            x, table, out = (buffers[role] for role in ("x", "table", "out"))
            top, steps, total = local(2, "float32"), local(2, "int32"), local(1, "int64")
            with share.loop(self.batch * self.joints) as joint:
                self.largest(x, joint, top)
                store(total, 0, 1, T.int64(0))
                with self.places(joint) as (at, *_):
                    found = T.Cast("int32", self.exponential(isa, table, x[at] - top[0], steps))
                    store(steps, 1, 1, found)
                    store(total, 0, 1, total[0] + T.Cast("int64", steps[1]))
                    store(out, at, 1, T.Cast("float32", steps[1]))
                store(top, 1, 1, T.Cast("float32", self.as_double(total[0])))
                with self.places(joint) as (at, *_):
                    store(out, at, 1, out[at] / top[1])

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        cells = self.cells(arrays["x"])
        total = cells.sum((1, 2, 4), keepdims=True)
        share = cells.astype(np.float32) / total.astype(np.float32)
        return {"out": share.reshape(arrays["x"].shape)}


@dataclass(frozen=True)
class SoftArgmax(_Logits):
    """x -> out float32 [N, J, axes], the mean x, y and (3 axes) z in cells, multiples of 1/4096."""

    axes: int

    def symbol(self) -> str:
        return f"soft_argmax_{self.sizes}_a{self.axes}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        out = (self.batch, self.joints, self.axes)
        return (*self.inputs(), Parameter("out", out, "float32", is_output=True))

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            x, table, out = (buffers[role] for role in ("x", "table", "out"))
            top, steps, held = local(1, "float32"), local(1, "int32"), local(1, "int64")
            total, sums = local(1, "int64"), local(self.axes, "int64")
            with share.loop(self.batch * self.joints) as joint:
                self.largest(x, joint, top)
                store(total, 0, 1, T.int64(0))
                for axis in range(self.axes):
                    store(sums, axis, 1, T.int64(0))
                with self.places(joint) as (at, *place):
                    store(held, 0, 1, T.Cast("int64", self.exponential(isa, table, x[at] - top[0], steps)))
                    store(total, 0, 1, total[0] + held[0])
                    for axis in range(self.axes):
                        store(sums, axis, 1, sums[axis] + held[0] * T.Cast("int64", place[axis]))
                for axis in range(self.axes):
                    mean = self.as_double(sums[axis]) * T.float64(CELL) / self.as_double(total[0])
                    # not negative: cutting off is rounding down. 0 where logits were no numbers
                    mean = T.Select(total[0] > T.int64(0), mean + T.float64(0.5), T.float64(0))
                    place_in_cells = T.Cast("float32", T.Cast("int32", mean)) * T.float32(1 / CELL)
                    store(out, joint * self.axes + axis, 1, place_in_cells)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        cells = self.cells(arrays["x"])
        total = cells.sum((1, 2, 4)).astype(np.float64)
        means = []
        for others in ((1, 4), (2, 4), (1, 2))[: self.axes]:
            line = cells.sum(others)  # [N, places, J], or [N, J, depth]
            line = line if others == (1, 2) else np.moveaxis(line, 1, 2)
            sums = (line * np.arange(line.shape[2])).sum(2).astype(np.float64)
            means.append(np.floor(sums * CELL / total + 0.5) / CELL)
        return {"out": np.stack(means, 2).astype(np.float32)}

"""Kernels of what stands behind the last level, from formulas that are written once (`networks/layers/written.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import (
    Expr,
    T,
    chunks,
    f32,
    function,
    local,
    nearest,
    nearest_of_all,
    ramp,
    splat,
    store,
    uncontracted,
)
from bhpe_compile.networks.layers import written
from bhpe_compile.networks.layers.grids import MEAN
from bhpe_compile.networks.layers.written import NumpyArithmetic, Term
from bhpe_compile.targets.isa import VectorIsa

SLOTS = 256
"""Intermediate results of a formula at most."""


class TirArithmetic:
    """On scalars. Every number is stored in a slot of its own, so that expressions do not grow."""

    def __init__(self, isa: VectorIsa) -> None:
        self._isa = isa
        self._slots = local(SLOTS, "float32")
        self._used = 0

    def number(self, value: float) -> Any:
        return T.float32(value)

    def kept(self, value: Expr) -> Expr:
        """`value`, computed here."""
        slot, self._used = self._used, self._used + 1
        store(self._slots, slot, 1, value)
        return self._slots[slot]

    def operation(self, name: str, *values: Any) -> Any:
        found = self._expression(name, *values)
        return found if name == "less" else self.kept(found)

    def _expression(self, name: str, a: Expr, *others: Expr) -> Expr:
        if name == "mul":
            return uncontracted(a * others[0], 1)
        if name == "power":
            exponent = T.Cast("int32", a) + T.int32(127)
            return T.reinterpret("float32", T.shift_left(exponent, T.int32(23)))
        if name in ("sqrt", "rint"):
            return T.sqrt(a) if name == "sqrt" else nearest(a, 1, self._isa)
        if name == "choose":
            return T.Select(a, *others)
        if name == "less":
            return a < others[0]
        return {"add": a.__add__, "sub": a.__sub__, "div": a.__truediv__}[name](others[0])


@dataclass(frozen=True)
class RotationVector(Kernel):
    """x float32 [n, 6], six numbers of rotations -> out float32 [n, 3], axis times angle in radians."""

    rows: int

    def symbol(self) -> str:
        return f"rotation_vector_n{self.rows}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        return (
            Parameter("x", (self.rows, 6), "float32"),
            Parameter("out", (self.rows, 3), "float32", is_output=True),
        )

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any) -> None:
            by = TirArithmetic(isa)
            with T.serial(0, self.rows) as row:
                terms = [Term(by.kept(buffers["x"][row * 6 + i]), by) for i in range(6)]
                for i, term in enumerate(written.rotation_vector(terms)):
                    store(buffers["out"], row * 3 + i, 1, term.value)

        return function(self.symbol(), self.parameters(isa), body)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        by = NumpyArithmetic()
        found = written.rotation_vector([Term(column, by) for column in arrays["x"].T])
        return {"out": np.stack([term.value for term in found], 1).astype(np.float32)}


@dataclass(frozen=True)
class Logistic(Kernel):
    """x float32 of any shape -> out, 1 / (1 + e^-x)."""

    shape: tuple[int, ...]

    def symbol(self) -> str:
        return f"logistic_{'x'.join(map(str, self.shape))}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        return Parameter("x", self.shape, "float32"), Parameter("out", self.shape, "float32", is_output=True)

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any) -> None:
            by = TirArithmetic(isa)
            with T.serial(0, int(np.prod(self.shape))) as i:
                term = written.logistic(Term(by.kept(buffers["x"][i]), by))
                store(buffers["out"], i, 1, term.value)

        return function(self.symbol(), self.parameters(isa), body)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        return {"out": np.asarray(written.logistic(Term(arrays["x"], NumpyArithmetic())).value)}


@dataclass(frozen=True)
class CellMean(Kernel):
    """x float32 [N, H, W, C] -> out float32 [N, C], the mean of rint(4096 x) / 4096.

    Sums are whole numbers in float64."""

    batch: int
    height: int
    width: int
    channels: int

    def symbol(self) -> str:
        return f"cell_mean_n{self.batch}_{self.height}x{self.width}x{self.channels}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        return (
            Parameter("x", (self.batch, self.height, self.width, self.channels), "float32"),
            Parameter("out", (self.batch, self.channels), "float32", is_output=True),
        )

    def prim_func(self, isa: VectorIsa) -> Any:
        cells, lanes_of = self.height * self.width, isa.float_lanes

        def body(buffers: Any) -> None:
            x, out = buffers["x"], buffers["out"]
            total = local(lanes_of, "float64")

            def one(n: Expr, c: Expr, lanes: int) -> None:
                store(total, 0, lanes, splat(T.float64(0), lanes))
                kind = "float64" if lanes == 1 else f"float64x{lanes}"
                with T.serial(0, cells) as cell:
                    value = x[ramp((n * cells + cell) * self.channels + c, lanes)]
                    whole = T.Cast(kind, nearest_of_all(value * f32(MEAN, lanes), lanes, isa))
                    store(total, 0, lanes, total[ramp(0, lanes)] + whole)
                mean = total[ramp(0, lanes)] / splat(T.float64(MEAN * cells), lanes)
                store(
                    out,
                    n * self.channels + c,
                    lanes,
                    T.Cast("float32" if lanes == 1 else f"float32x{lanes}", mean),
                )

            whole = self.channels // lanes_of
            with T.serial(0, self.batch) as n:
                with T.serial(0, whole) as vector:
                    one(n, vector * lanes_of, lanes_of)
                for offset, lanes in chunks(self.channels, lanes_of)[whole:]:
                    one(n, offset, lanes)

        return function(self.symbol(), self.parameters(isa), body)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        whole = np.rint(arrays["x"] * np.float32(MEAN)).astype(np.float64)
        return {"out": (whole.sum((1, 2)) / (MEAN * self.height * self.width)).astype(np.float32)}

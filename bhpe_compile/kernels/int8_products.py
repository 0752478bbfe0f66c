"""How one word of 8-bit activations meets a vector of weights: loaded, widened, multiplied, added to int32 sums.

A word is `group` neighbouring input values of a pixel; `targets/int8_instructions.py` says by which steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from bhpe_compile.kernels.tir import Expr, T, cast, dtype_of, local, ramp, splat, store
from bhpe_compile.targets.int8_instructions import Int8Instruction, MultiplyAdd

WIDENED = {"int8": (), "int16": ("int16",), "int32": ("int16", "int32")}
"""The types that an int8 goes through to become wider; instructions double it once."""


class Products(Protocol):
    """The multiply-accumulate of one instruction. What the methods hand on is known to the same object only."""

    def activations(self, base: Expr, count: int) -> list[Any]:
        """`count` words from value `base` of the input on: loaded at once, each broadcast."""

    def weight(self, index: Expr) -> Any:
        """Weight vector `index`."""

    def accumulate(self, sums: Any, first: int, activation: Any, weight: Any) -> None:
        """Add the products of one word to the `lanes` sums from `first` on."""


def products_of(use: Int8Instruction, x: Any, weight: Any) -> Products:
    """The products of an instruction over the buffers of input and weights."""
    return PairProducts(use, x, weight) if use.halves else GroupProducts(use, x, weight)


def added(step: MultiplyAdd | None, total: Expr, lanes: int, *factors: Expr) -> Expr:
    """`lanes` int32 sums and, to each of them, products of the factors (activations first)."""
    if step is None:
        a, w = factors
        return total + a * w
    dtype = dtype_of("int32", lanes)
    if step.pairs is not None:
        words = dtype_of("int16", 2 * lanes)
        factors = (T.call_llvm_pure_intrin(words, step.pairs, *factors), splat(T.int16(1), 2 * lanes))
    factors = factors[::-1] if step.weight_first else factors
    if step.adds:
        return T.call_llvm_pure_intrin(dtype, step.name, total, *factors)
    return total + T.call_llvm_pure_intrin(dtype, step.name, *factors)


@dataclass(frozen=True)
class GroupProducts:
    """All products of a word in one step, or one step for each register of a vector."""

    use: Int8Instruction
    x: Any
    weights: Any

    @property
    def sums(self) -> int:
        """Sums that one step makes."""
        step = self.use.step
        return self.use.lanes if step is None or step.sums is None else step.sums

    def activations(self, base: Expr, count: int) -> list[Expr]:
        use, sums = self.use, self.sums
        values = self.x[ramp(base, use.group * count)]
        if use.group == 1:
            return [cast(use.operand, sums, splat(values, sums))]
        words = T.reinterpret(dtype_of("int32", count), values)
        kind = dtype_of(use.operand, sums * use.group)
        if count == 1:
            return [T.reinterpret(kind, splat(words, sums))]
        held = local(count, "int32")
        store(held, 0, count, words)
        return [T.reinterpret(kind, splat(held[i], sums)) for i in range(count)]

    def weight(self, index: Expr) -> list[Expr]:
        size = self.sums * self.use.group
        base = index * (self.use.lanes * self.use.group)
        return [self._widened(base + first * self.use.group, size) for first in self._registers()]

    def _widened(self, base: Expr, size: int) -> Expr:
        value = self.weights[ramp(base, size)]
        for wider in WIDENED[self.use.operand]:
            value = cast(wider, size, value)
        return value

    def accumulate(self, sums: Any, first: int, activation: Expr, weight: list[Expr]) -> None:
        for register, part in zip(self._registers(), weight, strict=True):
            at = ramp(first + register, self.sums)
            T.buffer_store(sums, added(self.use.step, sums[at], self.sums, activation, part), [at])

    def _registers(self) -> range:
        """The first lane of each."""
        return range(0, self.use.lanes, self.sums)


@dataclass(frozen=True)
class PairProducts:
    """Two channels of an output side by side: their products, and those of the next two, are added in 16 bits, then
    neighbours are added into 32-bit sums, a register of four at a time."""

    use: Int8Instruction
    x: Any
    weights: Any

    def activations(self, base: Expr, count: int) -> list[list[Expr]]:
        pairs = self._pairs(base)
        return [[T.Cast("int16x8", T.reinterpret("int8x8", splat(pair, 4))) for pair in pairs]]

    def _pairs(self, base: Expr) -> list[Expr]:
        if not self.use.pairs_together:
            return [T.reinterpret("int16", self.x[ramp(base + 2 * k, 2)]) for k in range(2)]
        pairs = local(2, "int16")
        store(pairs, 0, 2, T.reinterpret("int16x2", self.x[ramp(base, 4)]))
        return [pairs[0], pairs[1]]

    def weight(self, index: Expr) -> list[list[Expr]]:
        size = self.use.lanes * self.use.group
        return [
            [T.Cast("int16x8", self.weights[ramp(index * size + 16 * k + 8 * half, 8)]) for half in range(2)]
            for k in range(2)
        ]

    def accumulate(self, sums: Any, first: int, activation: list[Expr], weight: list[list[Expr]]) -> None:
        for half in range(2):
            at = ramp(first + 4 * half, 4)
            products = activation[0] * weight[0][half] + activation[1] * weight[1][half]
            T.buffer_store(sums, added(self.use.step, sums[at], 4, products), [at])

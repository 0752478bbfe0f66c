"""Formulas behind the last level, written once: operation by operation, every one rounded to float32.

`Term` carries a value of one of four arithmetics (torch, NumPy, ONNX nodes, TIR), which execute the same operations in
the same order: additions, subtractions, products, divisions and square roots, whose results IEEE 754 fixes. So all of
them give the same bits. Functions without such a definition are polynomials here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

TINY = float(np.float32(1e-12))
"""What lengths and squares are divided by at least."""

ATAN = (
    *(1.0, -0.3333309292793274, 0.19993053376674652, -0.14207132160663605, 0.10654668509960175),
    *(-0.07533657550811768, 0.043039143085479736, -0.01628286950290203, 0.0029035175684839487),
)
"""atan(t) / t for t in 0 .. 1 as a polynomial of t^2, to 1.4e-8: fitted to the largest error, rounded to float32."""

EXP = (1.0, 1.0, 0.5, 0.16666404902935028, 0.04166606068611145, 0.00837596133351326, 0.0013957389164716005)
"""exp(f) for |f| <= 0.35, to 2e-9."""

LOG2_E = float(np.float32(1 / np.log(2)))
LN_2, LN_2_REST = 0.693145751953125, float(np.float32(np.log(2) - 0.693145751953125))
"""ln 2 in two parts: the first has 15 bits, so that its product with a whole number below 2^9 is exact."""

MOST = 60.0
"""exp is computed of -60 .. 60."""


class Arithmetic(Protocol):
    """What the operations of a formula are executed with."""

    def number(self, value: float) -> Any:
        """A float32 constant; `value` is one."""

    def operation(self, name: str, *values: Any) -> Any:
        """add, sub, mul, div, sqrt, rint, less (a condition), choose (condition, then, else), power (2^k of a whole k
        from -126 to 127)."""


@dataclass(frozen=True)
class Term:
    """A float32 value, or a condition."""

    value: Any
    by: Arithmetic

    def _with(self, name: str, *others: Term | float) -> Term:
        values = [one.value if isinstance(one, Term) else self.by.number(one) for one in others]
        return Term(self.by.operation(name, self.value, *values), self.by)

    def _before(self, name: str, first: float) -> Term:
        return Term(self.by.operation(name, self.by.number(first), self.value), self.by)

    def __add__(self, other: Term | float) -> Term:
        return self._with("add", other)

    def __radd__(self, other: float) -> Term:
        return self._before("add", other)

    def __sub__(self, other: Term | float) -> Term:
        return self._with("sub", other)

    def __rsub__(self, other: float) -> Term:
        return self._before("sub", other)

    def __mul__(self, other: Term | float) -> Term:
        return self._with("mul", other)

    def __truediv__(self, other: Term | float) -> Term:
        return self._with("div", other)

    def __lt__(self, other: Term | float) -> Term:
        return self._with("less", other)

    def choose(self, then: Term, other: Term | float) -> Term:
        """`then` where this condition holds, else `other`."""
        return self._with("choose", then, other)

    def at_least(self, low: float) -> Term:
        """The larger of the two."""
        return (low_term := Term(self.by.number(low), self.by)).__lt__(self).choose(self, low_term)

    def sqrt(self) -> Term:
        return self._with("sqrt")

    def rint(self) -> Term:
        return self._with("rint")

    def power_of_two(self) -> Term:
        """2 to the power of this whole number."""
        return self._with("power")


def polynomial(x: Term, coefficients: Sequence[float]) -> Term:
    """Horner's rule, the constant first in `coefficients`."""
    *first, second, last = coefficients
    result = x * last + second
    for one in reversed(first):
        result = result * x + one
    return result


def _dot(a: Sequence[Term], b: Sequence[Term]) -> Term:
    total = a[0] * b[0]
    for one, other in zip(a[1:], b[1:], strict=True):
        total = total + one * other
    return total


def _unit(v: Sequence[Term]) -> list[Term]:
    length = _dot(v, v).sqrt().at_least(TINY)
    return [one / length for one in v]


def _matrix(x: Sequence[Term]) -> list[Term]:
    """Six numbers -> the nine entries of a rotation, row by row (`rotations.py`)."""
    a1, a2 = x[0::2], x[1::2]
    b1 = _unit(a1)
    along = _dot(b1, a2)
    b2 = _unit([one - along * first for one, first in zip(a2, b1, strict=True)])
    b3 = [b1[(i + 1) % 3] * b2[(i + 2) % 3] - b1[(i + 2) % 3] * b2[(i + 1) % 3] for i in range(3)]
    return [entry for row in zip(b1, b2, b3, strict=True) for entry in row]


def _quaternion(m: Sequence[Term]) -> list[Term]:
    """Nine entries -> (w, x, y, z), the one of four forms that divides by no small number (Shepperd)."""
    wx, wy, wz = m[7] - m[5], m[2] - m[6], m[3] - m[1]
    xy, xz, yz = m[1] + m[3], m[2] + m[6], m[5] + m[7]
    xx, yy = 1.0 + m[0] - m[4] - m[8], 1.0 - m[0] + m[4] - m[8]
    zz, ww = 1.0 - m[0] - m[4] + m[8], 1.0 + m[0] + m[4] + m[8]
    forms = ((wx, xx, xy, xz), (wy, xy, yy, yz), (wz, xz, yz, zz), (ww, wx, wy, wz))
    low, first, second = m[8] < 0.0, m[4] < m[0], m[0] + m[4] < 0.0
    chosen = [
        low.choose(first.choose(by_x, by_y), second.choose(by_z, by_w))
        for by_x, by_y, by_z, by_w in zip(*forms, strict=True)
    ]
    return _unit(chosen)


def rotation_vector(x: Sequence[Term]) -> list[Term]:
    """Six numbers of a rotation (6D, row-interleaved) -> axis times angle in radians."""
    w, *v = _quaternion(_matrix(x))
    square = _dot(v, v)
    sine = square.at_least(TINY).sqrt()
    negative = w < 0.0
    tangent = sine / (negative.choose(0.0 - w, w) + 1.0)
    angle = tangent * polynomial(tangent * tangent, ATAN) * 4.0
    factor = (square < TINY).choose(Term(w.by.number(2.0), w.by), angle / sine)
    signed = negative.choose(0.0 - factor, factor)
    return [one * signed for one in v]


def exponential(x: Term) -> Term:
    """e^x; x from -60 to 60, others and what is no number count as the nearest or as -60."""
    inside = x.at_least(-MOST)
    inside = (inside < MOST).choose(inside, MOST)
    whole = (inside * LOG2_E).rint()
    rest = inside - whole * LN_2 - whole * LN_2_REST
    return polynomial(rest, EXP) * whole.power_of_two()


def logistic(x: Term) -> Term:
    """1 / (1 + e^-x)"""
    e = exponential(x)
    return e / (e + 1.0)


POWERS = np.ldexp(np.float32(1), np.arange(-126, 128)).astype(np.float32)
"""2^k for k = -126 .. 127."""

FIRST_POWER = -126


@dataclass(frozen=True)
class NumpyArithmetic:
    """On float32 arrays."""

    def number(self, value: float) -> Any:
        return np.float32(value)

    def operation(self, name: str, *values: Any) -> Any:
        if name == "choose":
            return np.where(*values)
        if name == "power":
            return POWERS[values[0].astype(np.int64) - FIRST_POWER]
        names = {"sub": "subtract", "mul": "multiply", "div": "divide"}
        return getattr(np, names.get(name, name))(*values)

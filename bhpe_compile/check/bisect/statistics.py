"""How far two tensors are apart, and the bounds within which they count as the same.

Stages are compared layer by layer, each fed the reference's values, so that a bound has to cover the rounding of one
layer and not of a network.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT_BOUND = 2.0**-12
"""Of a tensor's largest magnitude: float32 sums of up to some ten thousand products in another order stay below 1e-5,
folded norms round once more."""

MARGIN = 2.0**-12
"""A sign may flip where the value is this near to its threshold, in parts of the tensor's largest magnitude."""

ARTEFACT_BOUND = 2.0**-8
"""The same for compiled code behind float16 storage: a half unit in the last place is 2^-11 of a value, a residual may
have been rounded the other way, and up to three of them are added."""

ROUNDING_BOUND = 2.0**-4
"""Root mean square error that 8-bit values may add, in parts of the root mean square of what they stand for."""


@dataclass(frozen=True)
class Difference:
    """Two tensors of one place. `beyond` counts elements that differ by more than `bound` (absolute); of signs,
    flips that no rounding explains. `flips` counts elements of which the sign (against the threshold) differs."""

    what: str
    shape: tuple[int, ...]
    bound: float
    beyond: int
    first: tuple[int, ...] | None
    largest: float
    rms: float
    expected_range: tuple[float, float]
    found_range: tuple[float, float]
    flips: int

    @property
    def ok(self) -> bool:
        """Whether everything is within the bound."""
        return self.beyond == 0

    @property
    def elements(self) -> int:
        """How many were compared."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def flip_rate(self) -> float:
        """The part of the signs that differ."""
        return self.flips / self.elements if self.elements else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"flip_rate": self.flip_rate, "elements": self.elements}


def compare_floats(
    what: str, found: NDArray[Any], expected: NDArray[Any], part: float = FLOAT_BOUND
) -> Difference:
    """Absolute differences against `part` of the largest expected magnitude."""
    expected = np.asarray(expected, np.float64)
    with np.errstate(invalid="ignore"):  # a damaged constant may be a signalling NaN
        found = np.asarray(found, np.float64)
    found = found.reshape(expected.shape)
    bound = part * float(np.abs(expected).max(initial=0.0)) + 1e-30
    gap = np.abs(found - expected)
    wrong = ~(gap <= bound)  # NaN is wrong
    return _difference(what, found, expected, gap, wrong, bound, (found >= 0) != (expected >= 0))


def compare_signs(
    what: str,
    found: NDArray[np.bool_],
    expected: NDArray[np.bool_],
    margin: NDArray[np.floating],
    part: float = MARGIN,
) -> Difference:
    """Signs that differ where the expected value is farther than `part` of the largest margin from its threshold."""
    bound = part * float(np.abs(margin).max(initial=0.0)) + 1e-30
    flipped = found != expected
    wrong = flipped & (np.abs(margin) > bound)
    return _difference(
        what,
        found.astype(np.float64),
        expected.astype(np.float64),
        flipped * np.abs(margin),
        wrong,
        bound,
        flipped,
    )


def _difference(
    what: str,
    found: NDArray[np.float64],
    expected: NDArray[np.float64],
    gap: NDArray[np.float64],
    wrong: NDArray[np.bool_],
    bound: float,
    flipped: NDArray[np.bool_],
) -> Difference:
    places = np.argwhere(wrong)
    return Difference(
        what=what,
        shape=tuple(expected.shape),
        bound=bound,
        beyond=len(places),
        first=tuple(int(i) for i in places[0]) if len(places) else None,
        largest=float(gap.max(initial=0.0)),
        rms=float(np.sqrt(np.mean(np.square(gap)))) if gap.size else 0.0,
        expected_range=_range(expected),
        found_range=_range(found),
        flips=int(flipped.sum()),
    )


def _range(array: NDArray[np.float64]) -> tuple[float, float]:
    return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)

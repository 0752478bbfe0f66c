"""Three figures for the time of one thing that was run many times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Milliseconds: how long most runs took, and how calm the machine was."""

    median: float
    fastest: float
    p90: float

    @classmethod
    def of(cls, milliseconds: list[float]) -> Spread:
        """The three figures of a list that is not empty."""
        median, fastest, p90 = np.percentile(milliseconds, [50, 0, 90])
        return cls(float(median), float(fastest), float(p90))

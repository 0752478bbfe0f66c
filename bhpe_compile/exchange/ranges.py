"""Samples of what layers read, and the range of each that 256 levels represent with the least squared error: one rare
large value shall not coarsen all others.

Memory is bounded however many samples there are (`LIMIT`). No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError
from bhpe_compile.networks.levels import INPUT_LEVELS

SAMPLES = 1 << 16
"""Values kept of one layer and picture, evenly spaced."""

SHRINKS = tuple(1 - i / 32 for i in range(24))
"""Fractions of the observed range that are tried."""


LIMIT = 1 << 28
"""Values kept of all layers and pictures together: 1 GiB, which 64 pictures of the full preset do not reach."""


@dataclass
class Samples:
    """Samples by layer path, gathered picture by picture, in memory that does not grow beyond `LIMIT` values.

    Up to there all samples are kept. Then every other one of every layer goes, and of later pictures one in `stride`
    is taken: every picture keeps the same weight. The extremes of a layer always stay.
    """

    pictures: int = 0
    samples: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    extremes: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    stride: int = 1
    kept: int = 0
    _seen: int = 0

    def observe(self, path: str, values: NDArray[Any]) -> None:
        """Take samples of one layer's input; its extremes are always among them."""
        flat = np.asarray(values).reshape(-1)
        taken = flat[:: max(1, flat.size // SAMPLES)]
        part = np.concatenate([taken, [flat.min(), flat.max()]]).astype(np.float32)
        before = self.extremes.get(path, part[-2:])
        self.extremes[path] = np.array(
            [np.minimum(before[0], part[-2]), np.maximum(before[1], part[-1])], np.float32
        )  # NaN stays
        part = part[self._seen % self.stride :: self.stride].copy()
        self._seen += 1
        self.samples.setdefault(path, []).append(part)
        self.kept += part.size
        while self.kept > LIMIT:
            self._thin()

    def _thin(self) -> None:
        """Drop every other sample."""
        self.stride *= 2
        for path, parts in self.samples.items():
            self.samples[path] = [np.concatenate(parts)[::2].copy()]
        self.kept = sum(parts[0].size for parts in self.samples.values())

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The best range of every layer. InputError where one read NaN or infinity."""
        found = {}
        for path, parts in self.samples.items():
            if not np.isfinite(self.extremes[path]).all():
                raise InputError(
                    f"layer {path}: reads NaN or infinity on the pictures of the calibration; the weights before it "
                    "are broken"
                )
            added = [] if self.stride == 1 else [self.extremes[path]]
            found[path] = best_range(np.concatenate(parts + added))
        return found


def best_range(samples: NDArray[np.float32]) -> tuple[float, float]:
    """The range [low, high] around 0 whose levels have the least squared error on `samples`."""
    low, high = min(0.0, float(samples.min())), max(0.0, float(samples.max()))
    if low == high:
        return low, high

    def error(shrink: float) -> float:
        step = (high - low) * shrink / INPUT_LEVELS
        zero = np.rint(-low * shrink / step)
        levels = np.clip(np.rint(samples / step) + zero, 0, INPUT_LEVELS)
        return float(np.square((levels - zero) * step - samples, dtype=np.float64).sum())

    best = min(SHRINKS, key=error)
    return low * best, high * best

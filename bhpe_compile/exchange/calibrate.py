"""Which values full-precision layers read: ranges for their 8-bit inputs, measured on pictures.

A frozen graph is run in torch; every input of a full-precision convolution is sampled. Of each layer the range
[low, high] is kept whose 256 levels represent the samples with the least squared error: one rare large value
shall not coarsen all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

Ranges = Mapping[str, tuple[float, float]]
"""Layer path -> (low, high), low <= 0 <= high."""

SAMPLES = 1 << 16
"""Values kept of one layer and picture, evenly spaced."""

SHRINKS = tuple(1 - i / 32 for i in range(24))
"""Fractions of the observed range that are tried."""

LEVELS = 255


@dataclass
class Calibration:
    """Samples by layer path, gathered picture by picture."""

    pictures: int = 0
    samples: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)

    def observe(self, path: str, values: torch.Tensor) -> None:
        """Take samples of one layer's input; its extremes are always among them."""
        flat = values.detach().reshape(-1)
        kept = flat[:: max(1, flat.numel() // SAMPLES)]
        extremes = torch.stack([flat.min(), flat.max()])
        self.samples.setdefault(path, []).append(torch.cat([kept, extremes]).numpy())

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The best range of every layer."""
        return {path: best_range(np.concatenate(parts)) for path, parts in self.samples.items()}


class Observer(fx.Interpreter):
    """Runs a graph and shows a calibration what its full-precision convolutions read."""

    def __init__(self, graph: fx.GraphModule, calibration: Calibration) -> None:
        super().__init__(graph)
        self._calibration = calibration

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As the graph says, after a look at the input."""
        if isinstance(self.submodules[target], nn.Conv2d | nn.ConvTranspose2d):
            self._calibration.observe(str(target), args[0])
        return super().call_module(target, args, kwargs)


def run_observed(graph: fx.GraphModule, image: NDArray[np.float32], calibration: Calibration) -> Any:
    """What `graph` returns for one picture [1, 3, H, W]; its layers' inputs are added to `calibration`."""
    calibration.pictures += 1
    with torch.no_grad():
        return Observer(graph, calibration).run(torch.from_numpy(image))


def calibrate(
    graph: fx.GraphModule, images: Iterable[NDArray[np.float32]], tick: Callable[[str], None] = lambda _: None
) -> Calibration:
    """What `graph` reads on all `images`, each [1, 3, H, W]; `tick` hears of every picture."""
    calibration = Calibration()
    for image in images:
        tick(f"calibration, picture {calibration.pictures + 1}")
        run_observed(graph, image, calibration)
    return calibration


def with_mirror_image(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """`image` and its mirror image: two pictures where only one is at hand."""
    return image, np.ascontiguousarray(image[..., ::-1])


def best_range(samples: NDArray[np.float32]) -> tuple[float, float]:
    """The range [low, high] around 0 whose levels have the least squared error on `samples`."""
    low, high = min(0.0, float(samples.min())), max(0.0, float(samples.max()))
    if low == high:
        return low, high

    def error(shrink: float) -> float:
        step = (high - low) * shrink / LEVELS
        zero = np.rint(-low * shrink / step)
        levels = np.clip(np.rint(samples / step) + zero, 0, LEVELS)
        return float(np.square((levels - zero) * step - samples, dtype=np.float64).sum())

    best = min(SHRINKS, key=error)
    return low * best, high * best

"""Which values the layers read that are not binary: ranges for their 8-bit inputs, measured on pictures.

A frozen graph is run in torch; every input of a convolution that is not binary is sampled. Of each layer the range
[low, high] is kept whose 256 levels represent the samples with the least squared error: one rare large value
shall not coarsen all others.

Memory is bounded however many pictures there are (`LIMIT`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from bhpe_compile.errors import InputError
from bhpe_compile.exchange.magnitudes import Watcher, all_finite, first_not_finite
from bhpe_compile.networks.interface import Interface
from bhpe_compile.networks.layers.rounding import INPUT_LEVELS

SAMPLES = 1 << 16
"""Values kept of one layer and picture, evenly spaced."""

SHRINKS = tuple(1 - i / 32 for i in range(24))
"""Fractions of the observed range that are tried."""


LIMIT = 1 << 28
"""Values kept of all layers and pictures together: 1 GiB, which 64 pictures of the full preset do not reach."""


@dataclass
class Calibration:
    """Samples by layer path, gathered picture by picture, in memory that does not grow beyond `LIMIT` values.

    Up to there all samples are kept. Then every other one of every layer goes, and of later pictures one in `stride`
    is taken: every picture keeps the same weight. The extremes of a layer always stay.
    """

    pictures: int = 0
    samples: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    extremes: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    """Magnitudes of the nodes that were watched."""
    stride: int = 1
    kept: int = 0
    _seen: int = 0

    def observe(self, path: str, values: torch.Tensor) -> None:
        """Take samples of one layer's input; its extremes are always among them."""
        flat = values.detach().reshape(-1)
        taken = flat[:: max(1, flat.numel() // SAMPLES)]
        extremes = torch.stack([flat.min(), flat.max()])
        part = torch.cat([taken, extremes]).float().cpu().numpy()
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

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """What the convolutions of `network` that are not binary read inside is sampled."""
        hooks = [
            module.register_forward_pre_hook(lambda _, args, path=path: self.observe(path, args[0]))
            for path, module in network.named_modules()
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def calibrate(
    graph: fx.GraphModule,
    examples: Iterable[Mapping[str, NDArray[np.float32]]],
    tick: Callable[[str], None] = lambda _: None,
    watched: Collection[str] = (),
) -> Calibration:
    """What `graph` reads on all `examples`, each its inputs by name, in order; `tick` hears of every one.

    watched: nodes whose largest magnitude is kept.
    """
    calibration = Calibration()
    with torch.no_grad(), calibration.watching(graph):
        for example in examples:
            tick(f"calibration, picture {calibration.pictures + 1}")
            inputs = {name: torch.from_numpy(array) for name, array in example.items()}
            found = Watcher(graph, watched, calibration.largest).run(*inputs.values())
            calibration.pictures += 1
            outputs = list(found.values()) if isinstance(found, Mapping) else [found]
            if not all_finite(outputs):
                where = first_not_finite(graph, inputs) or "the network"
                raise InputError(
                    f"{where}: NaN or infinity on picture {calibration.pictures} of the "
                    "calibration; its weights are broken, or the picture is nothing for this network"
                )
    return calibration


def with_mirror_image(
    interface: Interface, example: Mapping[str, NDArray[np.float32]]
) -> tuple[Mapping[str, NDArray[np.float32]], ...]:
    """`example` and its mirror image: two examples where only one picture is at hand.

    A picture [1, 3, H, W] is mirrored, a box's place across the picture changes its sign; other inputs stay.
    """
    mirrored = dict(example)
    for port in interface.inputs:
        array = example[port.name]
        if port.kind == "picture":
            mirrored[port.name] = np.ascontiguousarray(array[..., ::-1])
        elif port.kind == "box":
            mirrored[port.name] = array * np.array([-1, 1, 1], np.float32)
    return (example, mirrored) if any(port.kind == "picture" for port in interface.inputs) else (example,)


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

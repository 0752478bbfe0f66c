"""Samples in the order of a seed, decoded by processes; changes of light that every network's samples share.

What a sample of a network holds (views, crops, targets) is for its lesson to say. Everything random about sample
(epoch, index) comes from the seed and these two numbers, so training that was stopped goes on with the same samples.
Worker processes decode and crop; what they hand over stays in bytes until it is used.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bhpe_compile.processes import safe_children

Sample = dict[str, Tensor]
Arrays = dict[str, NDArray[Any]]
Pixels = NDArray[np.uint8]
Key = tuple[int, int] | tuple[int, int, int]
"""Epoch and index; then 0 or 1 where a sample has two views (`second_view`)."""


class Pictures(Protocol):
    """Pictures of people as sets hold them, uint8 [512, 384, 3] (`evaluate/frame.py`)."""

    def __len__(self) -> int: ...
    def image(self, index: int) -> Pixels: ...


class SampleSet(Protocol):
    """The samples of a network, by epoch and index (a torch `Dataset`)."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: Key) -> Arrays: ...


@dataclass(frozen=True)
class Light:
    """Standard deviations: logs of brightness and of each colour, an offset, noise, all with white = 1."""

    brightness: float = 0.15
    colour: float = 0.08
    offset: float = 0.04
    noise: float = 0.02


def to_tensors(batch: Mapping[str, NDArray[Any]]) -> Sample:
    """A batch of samples, as the network takes it: pictures are float32 [..., 3, H, W] in [0, 1]."""
    return {
        name: torch.from_numpy(value).movedim(-1, -3).float().div_(255)
        if value.dtype == np.uint8
        else torch.from_numpy(value)
        for name, value in batch.items()
    }


def erase(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Paint a rectangle of up to a third of each side over the picture."""
    height, width = image.shape[:2]
    h, w = (int(side * part) for side, part in zip((height, width), rng.uniform(0.08, 0.33, 2), strict=True))
    y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
    image = image.copy()
    image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return image


def recolour(parts: list[Pixels], how: Light, rng: np.random.Generator) -> list[Pixels]:
    """The same change of light for all parts, and noise."""
    noise = _noise()
    gains = np.exp(rng.normal(0, how.brightness) + rng.normal(0, how.colour, (3, 1)))
    offset = rng.normal(0, how.offset)
    table = np.rint((np.arange(256) / 255 * gains + offset) * 255).clip(0, 255).astype(np.uint8)
    strength = np.float32(how.noise * rng.random() * 255)
    changed = []
    for part in parts:
        start = int(rng.integers(0, noise.size - part.size))
        grain = np.rint(noise[start : start + part.size] * strength).astype(np.int16).reshape(part.shape)
        for channel in range(3):
            grain[..., channel] += table[channel][part[..., channel]]
        changed.append(grain.clip(0, 255).astype(np.uint8))
    return changed


def second_view(parts: list[Pixels], seed: int, key: Key) -> list[Pixels]:
    """`parts` as they are, or of a second view, every value changed by -1, 0 or 1: what nobody sees."""
    if not any(key[2:]):
        return parts
    rng = np.random.default_rng((seed, *key))
    return [
        np.asarray((part + rng.integers(-1, 2, part.shape, np.int16)).clip(0, 255), np.uint8)
        for part in parts
    ]


@cache
def _noise() -> NDArray[np.float32]:
    """A strip of normal numbers to cut from: drawing them for every sample would take longer than all the rest."""
    return np.random.default_rng(0).standard_normal(1 << 20, np.float32)


class Order(Sampler[list[Key]]):
    """Micro-batches of keys from `first` (counted over all processes) to `last`, shuffled anew in every epoch.

    Process `rank` of `world` gets every `world`-th one. With several `views`, those of a sample follow each other.
    """

    def __init__(
        self,
        count: int,
        micro_batch: int,
        first: int,
        last: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        views: int = 1,
    ) -> None:
        self._count, self._size, self._seed, self._views = count, micro_batch, seed, views
        self._micro_batches = range(first + rank, last, world)

    def __len__(self) -> int:
        return len(self._micro_batches)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, np.empty(0, np.int64)
        for index in self._micro_batches:
            keys: list[Key] = []
            for number in range(index * self._size, (index + 1) * self._size):
                place, view = divmod(number, self._views)
                if place // self._count != epoch:
                    epoch = place // self._count
                    order = np.random.default_rng((self._seed, epoch)).permutation(self._count)
                key = epoch, int(order[place % self._count])
                keys.append((*key, view) if self._views > 1 else key)
            yield keys


def load(samples: SampleSet, order: Order, workers: int) -> Iterator[Sample]:
    """The micro-batches of `order`, decoded by `workers` processes (0: in this one)."""
    batches: DataLoader[Arrays] = DataLoader(
        cast("Dataset[Arrays]", samples),
        batch_sampler=order,
        num_workers=workers,
        collate_fn=stack,
        worker_init_fn=_worker if workers else None,
        prefetch_factor=4 if workers else None,
    )
    with safe_children():  # they start here where the system has no fork, or Python does not use it
        started = iter(batches)
    return map(to_tensors, started)


def stack(samples: list[Arrays]) -> Arrays:
    """As arrays, which go through a pipe: handing over tensors takes a file and a connection for every one."""
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def _worker(_: int) -> None:
    """One thread; a signal to the whole group is the parent's to handle, which lets the step end first."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

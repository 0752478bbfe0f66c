"""A picture -> what the network sees of it in training: the body's view, and crops of hands and face.

Everything random about sample (epoch, index) comes from the seed and these two numbers, so training that was stopped
goes on with the same samples. Worker processes decode and crop; what they hand over stays in bytes until it is used.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bhpe_compile.distill.targets import BoxJitter, crop_boxes, make_targets, stray
from bhpe_compile.evaluate.dataset import Labels
from bhpe_compile.networks.hand4whole.presets import Preset
from bhpe_compile.processes import safe_children

Sample = dict[str, Tensor]
Arrays = dict[str, NDArray[Any]]
Pixels = NDArray[np.uint8]
Key = tuple[int, int]
"""Epoch and index."""

ERASED = 0.3
"""Part of the samples in which a rectangle is painted over."""


class Pictures(Protocol):
    """Pictures of people, as the network's input; `boxes` to crop at, or labels that have them."""

    def __len__(self) -> int: ...
    def image(self, index: int) -> Pixels: ...


@dataclass(frozen=True)
class Augmentation:
    """Standard deviations: logs of brightness and of each colour, an offset, noise, all with white = 1."""

    brightness: float = 0.15
    colour: float = 0.08
    offset: float = 0.04
    noise: float = 0.02
    jitter: BoxJitter = field(default_factory=BoxJitter)


class Samples(Dataset[Arrays]):
    """Samples by key. `labels(i)` adds targets; `boxes` [n, 3, 4] says where a network would crop.

    Without labels all crops are at the boxes; with both, in `own` of the samples, in the others at the labels'.
    One is `view` uint8 [H, W, 3], `hands` [2, h, w, 3] (the left one mirrored), `face` [h, w, 3] and the targets.
    """

    def __init__(
        self,
        pictures: Pictures,
        preset: Preset,
        seed: int,
        *,
        labels: Callable[[int], Labels] | None = None,
        boxes: NDArray[np.float32] | None = None,
        own: float = 0.0,
        augmentation: Augmentation | None = Augmentation(),
    ) -> None:
        if boxes is None and (labels is None or own > 0):
            raise ValueError("without labels, boxes say where to crop")
        self._pictures, self._preset, self._seed = pictures, preset, seed
        self._labels, self._boxes, self._augmentation = labels, boxes, augmentation
        self._own = own

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, key: Key) -> Arrays:
        epoch, index = key
        rng = np.random.default_rng((self._seed, epoch, index))
        image = self._pictures.image(index)
        augmentation = self._augmentation
        jitter = None if augmentation is None else augmentation.jitter
        labels = None if self._labels is None else self._labels(index)
        if self._boxes is not None and (labels is None or rng.random() < self._own):
            crops = stray(self._boxes[index], jitter, rng)
        else:
            assert labels is not None
            crops = crop_boxes(labels.boxes, self._preset, jitter, rng)
        targets = {} if labels is None else make_targets(labels, crops, self._preset)
        if augmentation is not None and rng.random() < ERASED:
            image = _erase(image, rng)
        step = self._preset.body_step
        parts = [image[::step, ::step], *_crops(image, crops, self._preset)]
        if augmentation is not None:
            parts = _recolour(parts, augmentation, rng)
        view, left, right, face = parts
        return {"view": view, "hands": np.stack((left[:, ::-1], right)), "face": face, **targets}


def to_tensors(batch: Mapping[str, NDArray[Any]]) -> Sample:
    """A batch of samples, as the network takes it: pictures are float32 [..., 3, H, W] in [0, 1]."""
    return {
        name: torch.from_numpy(value).movedim(-1, -3).float().div_(255)
        if value.dtype == np.uint8
        else torch.from_numpy(value)
        for name, value in batch.items()
    }


def _crops(image: Pixels, boxes: NDArray[np.float32], preset: Preset) -> list[Pixels]:
    """Left hand, right hand and face at `boxes` [3, 4]: one bilinear sample in the middle of every cell.

    The network's RoIAlign computes the same while cells are at most a pixel, and averages in larger ones.
    """
    picture = Image.fromarray(image)
    crops = []
    for (x0, y0, x1, y1), size in zip(boxes.tolist(), (preset.hand, preset.hand, preset.face), strict=True):
        height, width = size
        # pillow's places count from the corner of the first pixel, the network's from its centre
        affine = ((x1 - x0) / width, 0.0, x0 + 0.5, 0.0, (y1 - y0) / height, y0 + 0.5)
        crop = picture.transform((width, height), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        crops.append(np.asarray(crop))
    return crops


def _erase(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Paint a rectangle of up to a third of each side over the picture."""
    height, width = image.shape[:2]
    h, w = (int(side * part) for side, part in zip((height, width), rng.uniform(0.08, 0.33, 2), strict=True))
    y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
    image = image.copy()
    image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return image


def _recolour(parts: list[Pixels], how: Augmentation, rng: np.random.Generator) -> list[Pixels]:
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


@cache
def _noise() -> NDArray[np.float32]:
    """A strip of normal numbers to cut from: drawing them for every sample would take longer than all the rest."""
    return np.random.default_rng(0).standard_normal(1 << 20, np.float32)


class Order(Sampler[list[Key]]):
    """Micro-batches of keys from `first` (counted over all processes) to `last`, shuffled anew in every epoch.

    Process `rank` of `world` gets every `world`-th one.
    """

    def __init__(
        self, count: int, micro_batch: int, first: int, last: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self._count, self._size, self._seed = count, micro_batch, seed
        self._micro_batches = range(first + rank, last, world)

    def __len__(self) -> int:
        return len(self._micro_batches)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, np.empty(0, np.int64)
        for index in self._micro_batches:
            keys = []
            for place in range(index * self._size, (index + 1) * self._size):
                if place // self._count != epoch:
                    epoch = place // self._count
                    order = np.random.default_rng((self._seed, epoch)).permutation(self._count)
                keys.append((epoch, int(order[place % self._count])))
            yield keys


def load(samples: Samples, order: Order, workers: int) -> Iterator[Sample]:
    """The micro-batches of `order`, decoded by `workers` processes (0: in this one)."""
    batches: DataLoader[Arrays] = DataLoader(
        samples,
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

"""A picture -> what Hand4Whole sees of it in training: the body's view, and crops of hands and face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from bhpe_compile.distill.samples import Arrays, Key, Light, Pictures, Pixels, erase, recolour, second_view
from bhpe_compile.evaluate.dataset import Labels
from bhpe_compile.networks.hand4whole.presets import Preset
from bhpe_compile.networks.hand4whole.training.targets import BoxJitter, crop_boxes, make_targets, stray

INPUTS = ("view", "hands", "face")
"""What of a sample `Hand4Whole.predict` takes, in order."""

ERASED = 0.3
"""Part of the samples in which a rectangle is painted over."""


@dataclass(frozen=True)
class Augmentation:
    """Changes of light, and how far crops stray."""

    light: Light = field(default_factory=Light)
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
        epoch, index = key[:2]
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
            image = erase(image, rng)
        step = self._preset.body_step
        parts = [image[::step, ::step], *_crops(image, crops, self._preset)]
        if augmentation is not None:
            parts = recolour(parts, augmentation.light, rng)
        view, left, right, face = second_view(parts, self._seed, key)
        return {"view": view, "hands": np.stack((left[:, ::-1], right)), "face": face, **targets}


def _crops(image: Pixels, boxes: NDArray[np.float32], preset: Preset) -> list[Pixels]:
    """Left hand, right hand and face at `boxes` [3, 4]: one bilinear sample in the middle of every cell.

    The network's crop computes the same while cells are at most a pixel, and averages in larger ones.
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

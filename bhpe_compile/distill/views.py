"""A picture of a set -> every input of a network that its interface describes, a little changed each time.

The person's box is moved and scaled, a rectangle is painted over some pictures, light and colour change; the values are
those that the input's crop says. Where no labels tie a picture to its camera, it stands somewhere in a larger picture,
so that numbers that tell where a box was take all the values that they take in use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from bhpe_compile.distill.by_kind import TARGET
from bhpe_compile.distill.samples import Arrays, Key, Light, Pictures, erase, recolour, second_view
from bhpe_compile.evaluate.dataset import Labels
from bhpe_compile.evaluate.frame import ENLARGE, HEIGHT, WIDTH, pixel_values
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.picture import Box, Picture, View

ERASED = 0.3
"""Part of the samples in which a rectangle is painted over."""

AROUND = 3.0
"""How many times as large as a set's picture the one is, at most, in which it stands."""

Targets = Callable[[Labels, View], Mapping[str, NDArray[Any]]]
"""What a labelled person's outputs should be in a view, by output, without the batch axis."""


@dataclass(frozen=True)
class Change:
    """How samples differ from the pictures: light; standard deviations of the box's place (in parts of its size) and
    of the log of its scale."""

    light: Light = field(default_factory=Light)
    shift: float = 0.04
    scale: float = 0.08


class Views(Dataset[Arrays]):
    """Samples by key: every input by name, float32 without the batch axis, and `target.NAME` where there are labels."""

    def __init__(
        self,
        pictures: Pictures,
        interface: Interface,
        seed: int,
        *,
        labels: Callable[[int], Labels] | None = None,
        targets: Targets | None = None,
        change: Change | None = Change(),
    ) -> None:
        assert interface.picture is not None  # who makes a lesson looks
        self._pictures, self._interface, self._seed = pictures, interface, seed
        self._labels, self._targets, self._change = labels, targets, change

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, key: Key) -> Arrays:
        epoch, index = key[:2]
        rng = np.random.default_rng((self._seed, epoch, index))
        image = self._pictures.image(index)
        box = self._moved(person_box(), rng)
        if self._change is not None and rng.random() < ERASED:
            image = erase(image, rng)
        picture = Picture(image, box)
        ports = [port for port in self._interface.inputs if port.kind == "picture"]
        crops = [_levels(picture.seen_by(port)) for port in ports]
        if self._change is not None:
            crops = recolour(crops, self._change.light, rng)
        crops = second_view(crops, self._seed, key)
        sample: Arrays = {
            port.name: pixel_values(port, crop[None])[0] for port, crop in zip(ports, crops, strict=True)
        }
        place = picture if self._labels is not None or self._change is None else _somewhere(picture, rng)
        assert self._interface.picture is not None
        view = place.seen_by(self._interface.picture)
        for port in self._interface.inputs:
            if port.vector is not None:
                sample[port.name] = view.box_vector(port.vector)[0]
        if self._labels is not None and self._targets is not None:
            said = self._targets(self._labels(index), view)
            sample |= {f"{TARGET}{name}": np.asarray(value, np.float32) for name, value in said.items()}
        return sample

    def _moved(self, box: Box, rng: np.random.Generator) -> Box:
        if self._change is None:
            return box
        x, y, width, height = box
        dx, dy = rng.normal(0, self._change.shift, 2)
        factor = float(np.exp(rng.normal(0, self._change.scale)))
        middle = x + width * (0.5 + dx), y + height * (0.5 + dy)
        width, height = width * factor, height * factor
        return middle[0] - width / 2, middle[1] - height / 2, width, height


def person_box() -> Box:
    """The person's box in every picture of a set."""
    width, height = WIDTH / ENLARGE, HEIGHT / ENLARGE
    return (WIDTH - width) / 2, (HEIGHT - height) / 2, width, height


def _levels(view: View) -> NDArray[np.uint8]:
    """uint8 [rows, columns, 3], RGB: the crop before its arithmetic; levels may differ by one from those of `View`."""
    rows, columns = view.port.size
    scale, (x, y) = view.scale, view.affine[:, 2].tolist()
    # pillow's places count from the corner of the first pixel, the view's from its centre
    affine = (scale, 0.0, x + 0.5 - scale / 2, 0.0, scale, y + 0.5 - scale / 2)
    picture = Image.fromarray(view.picture.rgb)
    return np.array(
        picture.transform((columns, rows), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    )


def _somewhere(picture: Picture, rng: np.random.Generator) -> Picture:
    """The box as a part of a larger picture, whose pixels nobody looks at."""
    height, width = picture.rgb.shape[:2]
    larger = (int(height * rng.uniform(1, AROUND)), int(width * rng.uniform(1, AROUND)))
    x, y, w, h = picture.box
    place = rng.uniform(0, larger[1] - width + 1), rng.uniform(0, larger[0] - height + 1)
    blank = np.broadcast_to(np.uint8(0), (*larger, 3))
    return Picture(blank, (x + float(place[0]), y + float(place[1]), w, h))

"""People with ground truth: what one label holds, what every data set offers, and the set that `data synth` writes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bhpe_compile.errors import InputError
from bhpe_compile.evaluate.frame import framed
from bhpe_compile.evaluate.synth import store
from bhpe_compile.files import sha256
from bhpe_compile.reading import read_regular
from bhpe_compile.runtime.picture import Box, Picture

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Labels:
    """One person, seen in the network's input: 384x512 pixels, the centre of the first is (0, 0).

    Camera space: metres, x right, y down, z forward. A mesh there is body(pose, betas, expression) + translation, and
    its pixels are focal X / Z + principal.
    """

    pose: Float
    """[55, 3] axis-angle, radians, in the order of SMPL-X; the root's turns into camera space."""
    betas: Float
    """[10]"""
    expression: Float
    """[10]"""
    translation: Float
    """[3] metres"""
    focal: Float
    """[2] pixels"""
    principal: Float
    """[2] pixels"""
    keypoints: Float
    """[65, 3]: x and y in pixels, z in metres behind (+) or before (-) the pelvis."""
    visible: NDArray[np.bool_]
    """[65]: inside the picture and not behind a thing; what the body itself hides counts as visible."""
    boxes: Float
    """[3, 4]: x0, y0, x1, y1 of left hand, right hand and face, tight, in pixels; may leave the picture."""


LABEL_FIELDS = tuple(field.name for field in fields(Labels))

SHAPES: dict[str, tuple[int, ...]] = {
    **{"pose": (55, 3), "betas": (10,), "expression": (10,), "translation": (3,)},
    **{"focal": (2,), "principal": (2,), "keypoints": (65, 3), "visible": (65,), "boxes": (3, 4)},
}

ROW_SHAPES = {**SHAPES, "image_sha256": (32,)}
"""What a label file holds of every person."""


class Dataset(Protocol):
    """People in pictures, each cut out as a network sees it."""

    name: str

    @property
    def body(self) -> Path | None:
        """The body that poses and shapes belong to, where it is known."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """uint8 [512, 384, 3], RGB."""

    def labels(self, index: int) -> Labels:
        """What is known; NaN (and `visible` False) stands for what a set does not say."""

    def vertices(self, index: int) -> Float | None:
        """[V, 3] metres in camera directions, where ground truth is a mesh; None where it is a pose and a shape."""


class SynthDataset:
    """A folder that `bhpe-compile data synth` wrote.

    Opening reads the manifest and looks for every file; a shard's and a picture's hash are compared when they are
    read. `bhpe-compile data check` compares all.
    """

    name = "synth"

    def __init__(self, folder: Path) -> None:
        """Raises UsageError (no such set) and InputError (damaged, not finished)."""
        self.folder = folder
        self.manifest = store.read_manifest(folder)
        self._hashes: list[str] | None = self.manifest.get("shards")
        if self._hashes is None:
            raise InputError(f"{folder}: is not finished; run the same `data synth` again to go on")
        for index in range(len(self)):
            if not store.image_path(folder, index).is_file():
                raise InputError(
                    f"{store.image_path(folder, index)}: is missing; run the `data synth` that wrote the folder again"
                )
        self._shards: dict[int, dict[str, NDArray[Any]]] = {}  # all that were read: 3 kB a person

    @cached_property
    def body(self) -> Path | None:
        """The body the set was made with, where the cache of default bodies has it."""
        from bhpe_compile.cache import cache_folder

        for path in sorted(cache_folder().glob("*.npz")):
            if sha256(path) == self.manifest["body"]:
                return path
        return None

    @property
    def split(self) -> str:
        """train or test."""
        return str(self.manifest["split"])

    def __len__(self) -> int:
        return int(self.manifest["count"])

    def image(self, index: int) -> NDArray[np.uint8]:
        """uint8 [512, 384, 3]. Raises InputError where the file is not the one that was written."""
        path = store.image_path(self.folder, index)
        try:
            data = read_regular(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
        expected = self._row(index)["image_sha256"].tobytes()
        if hashlib.sha256(data).digest() != expected:
            raise InputError(f"{path}: is not what was written; run `bhpe-compile data check {self.folder}`")
        return np.asarray(Image.open(io.BytesIO(data)))

    def labels(self, index: int) -> Labels:
        """Everything is known."""
        row = self._row(index)
        return Labels(**{name: row[name] for name in LABEL_FIELDS})

    def vertices(self, index: int) -> Float | None:
        """None: pose and shape say more."""
        return None

    def _row(self, index: int) -> dict[str, NDArray[Any]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard, row = divmod(index, self.manifest["shard"])
        if shard not in self._shards:
            self._shards[shard] = self._read(shard)
        return {name: array[row] for name, array in self._shards[shard].items()}

    def _read(self, shard: int) -> dict[str, NDArray[Any]]:
        path = store.label_path(self.folder, shard)
        arrays = store.read_shard(self.folder, shard)
        if self._hashes is None or sha256(path) != self._hashes[shard]:
            raise InputError(f"{path}: is not what was written; run `bhpe-compile data check {self.folder}`")
        size = self.manifest["shard"]
        count = min(len(self) - shard * size, size)
        for name, shape in ROW_SHAPES.items():
            found = arrays[name].shape if name in arrays else None
            if found != (count, *shape):
                what = "is missing" if found is None else f"has shape {list(found)}, not {[count, *shape]}"
                raise InputError(f"{path}: {name} {what}; remove the folder and run `data synth` again")
        return arrays


def unknown_labels(**known: Any) -> Labels:
    """Labels of which only `known` are known; the rest is NaN."""
    arrays: dict[str, Any] = {name: np.full(shape, np.nan, np.float32) for name, shape in SHAPES.items()}
    arrays["visible"] = np.zeros(65, bool)
    return Labels(**{**arrays, **{name: np.asarray(value, np.float32) for name, value in known.items()}})


def to_box(values: Any) -> Box:
    """x, y, width, height of any four numbers; ValueError or TypeError where they are not four, or no numbers."""
    x, y, width, height = (float(v) for v in np.asarray(values).reshape(4))
    return x, y, width, height


def boxes_in_crop(picture: Picture, boxes: list[Box]) -> Float:
    """[n, 4]: x, y, width, height in the picture -> x0, y0, x1, y1 in the crop."""
    affine = framed(picture).affine
    out = []
    for x, y, width, height in boxes:
        corners = np.array([[x, y], [x + width, y + height]])
        out.append(((corners - affine[:, 2]) / affine.diagonal()).reshape(4))
    return np.array(out, np.float32)

"""People with ground truth: what one label holds, and what every data set offers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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


class Dataset(Protocol):
    """People in pictures. Real sets have `vertices` where ground truth is a mesh without parameters."""

    name: str
    body: Path | None

    def __len__(self) -> int: ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """uint8 [512, 384, 3], RGB."""

    def labels(self, index: int) -> Labels: ...


def open_dataset(path: Path, split: str | None = None) -> Dataset:
    """Stand-in until the real one is merged: folders of `data synth` only."""
    from PIL import Image

    from bhpe_compile.evaluate.synth.store import image_path, read_manifest, read_shard

    count = int(read_manifest(path)["count"])
    shards: dict[int, dict[str, NDArray[np.float32]]] = {}

    class Folder:
        name = path.name
        body = None

        def __len__(self) -> int:
            return count

        def image(self, index: int) -> NDArray[np.uint8]:
            return np.asarray(Image.open(image_path(path, index)).convert("RGB"))

        def labels(self, index: int) -> Labels:
            shard = shards.setdefault(index // 256, {}) or read_shard(path, index // 256)
            shards[index // 256] = shard
            return Labels(**{name: shard[name][index % 256] for name in LABEL_FIELDS})  # type: ignore[arg-type]

    return Folder()

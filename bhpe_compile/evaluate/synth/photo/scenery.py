"""Photographs behind the people: crops of a user's pictures, in another size, flipped, in other colours.

A picture belongs to one split: to testing where the hash of its file says so, else to training. It is known by its
content: copies count once, names and places do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.frame import HEIGHT, WIDTH
from bhpe_compile.evaluate.synth.streams import Split
from bhpe_compile.files import sha256

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

TESTED = 4
"""Every fourth hash belongs to testing."""

SHARE = 0.8
"""Of the people stand before a photograph, where there are any."""

KEPT = 720
"""Pixels of the shorter side that are kept in memory."""

LARGEST = 400
"""Millions of pixels; larger pictures are refused."""

Random = np.random.Generator


def find_backgrounds(folders: Iterable[Path], split: Split) -> dict[str, Path]:
    """Pictures of a split in folders and those below, by their SHA-256, in its order.

    Raises UsageError where a folder is none, and where there is no picture for the split; InputError for a picture that
    cannot be read.
    """
    found: dict[str, Path] = {}
    named = [Path(folder) for folder in folders]
    for folder in named:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder; --backgrounds names folders of pictures")
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                digest = sha256(path)
                if split_of(digest) == split:
                    found.setdefault(digest, path)
    if named and not found:
        raise UsageError(
            f"{', '.join(map(str, named))}: no picture ({', '.join(SUFFIXES)}) for the {split} split, which gets "
            f"{'one in' if split == 'test' else 'all but one of'} {TESTED} by their hash; name more pictures"
        )
    for path in found.values():
        _require_picture(path)
    return dict(sorted(found.items()))


def split_of(digest: str) -> Split:
    """The split of a file with this SHA-256."""
    return "test" if int(digest[:8], 16) % TESTED == 0 else "train"


def _require_picture(path: Path) -> None:
    try:
        with Image.open(path) as image:
            width, height = image.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a picture ({error})") from None
    if min(width, height) < 16 or width * height > LARGEST * 1_000_000:
        raise InputError(
            f"{path}: is {width}x{height}; backgrounds have 16 pixels a side to {LARGEST} million"
        )


@lru_cache(maxsize=64)
def _picture(path: Path) -> Image.Image:
    """RGB, the shorter side at most KEPT pixels."""
    try:
        with Image.open(path) as image:
            scale = min(1.0, KEPT / min(image.size))
            size = round(image.width * scale), round(image.height * scale)
            image.draft("RGB", size)
            return image.convert("RGB").resize(size, Image.Resampling.BOX, reducing_gap=None)
    except (OSError, Image.DecompressionBombError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a picture ({error})") from None


def sample_scenery(rng: Random, pictures: Sequence[Path]) -> NDArray[np.uint8] | None:
    """uint8 [512, 384, 3] from one of the pictures; None for those who stand before none."""
    if not pictures or rng.random() >= SHARE:
        return None
    image = _picture(pictures[int(rng.integers(len(pictures)))])
    width = min(image.width, image.height * WIDTH / HEIGHT) * float(rng.uniform(0.45, 1.0))
    height = width * HEIGHT / WIDTH
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    box = (left, top, left + width, top + height)
    part = image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    gain, gamma = rng.normal(1, 0.06, 3) * rng.normal(1, 0.08), np.exp(rng.normal(0, 0.2))
    mean = np.asarray(part.reduce(16)).mean() / 255
    if rng.random() < 0.7:  # exposed as cameras do: neither dark nor glaring
        gamma *= np.log(mean.clip(0.28, 0.62)) / np.log(mean.clip(0.05, 0.95))
    ramp = (np.arange(256) / 255) ** gamma * 255
    tables = [(ramp * g).clip(0, 255).astype(np.uint8) for g in gain]
    return np.asarray(part.point([int(v) for table in tables for v in table]))

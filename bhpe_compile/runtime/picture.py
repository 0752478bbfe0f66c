"""A picture of a person -> the network's input, and the way back from its pixels to the picture's.

The person's box becomes 3:4 by growing its shorter side, is enlarged 1.25 times about its centre and sampled
bilinearly at 384x512 points; what lies outside the picture is black; values are divided by 255. Pixel centres have
integer coordinates (as in OpenCV's warpAffine, with which the networks were trained):

    picture = centre + (crop - (192, 256)) * scale          scale = width of the enlarged box / 384, the same for y
"""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.reading import SpecialFileError, open_regular

HEIGHT, WIDTH = 512, 384
ENLARGE = 1.25

MAX_PIXELS = 80_000_000
"""Larger pictures are refused: 8 bits RGB of this many pixels are 240 MB."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Plain raster formats; pillow's others may run programs or fetch fonts."""

DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    struct.error,
    zlib.error,
)
"""What pillow raises for damaged files, depending on the format."""

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the picture."""


@dataclass(frozen=True)
class Picture:
    """A picture with one person in it. `rgb` is uint8 [H, W, 3]; `box` the person's, inside the picture."""

    rgb: NDArray[np.uint8]
    box: Box

    @property
    def scale(self) -> float:
        """Pixels of the picture per pixel of the network's input."""
        _, _, width, height = self.box
        return ENLARGE * max(width / WIDTH, height / HEIGHT)

    @property
    def affine(self) -> NDArray[np.float64]:
        """[2, 3]: maps (x, y, 1) in pixels of the network's input to pixels of the picture."""
        x, y, width, height = self.box
        scale = self.scale
        return np.array(
            [
                [scale, 0.0, x + width / 2 - scale * WIDTH / 2],
                [0.0, scale, y + height / 2 - scale * HEIGHT / 2],
            ]
        )

    def to_picture(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """[..., 2] points in pixels of the network's input -> pixels of the picture."""
        affine = self.affine
        return np.asarray(points, np.float64) * affine.diagonal() + affine[:, 2]

    @property
    def network_input(self) -> NDArray[np.float32]:
        """float32 [1, 3, 512, 384], RGB in [0, 1]."""
        (sx, _, x), (_, sy, y) = self.affine
        rows, row_weights = _taps(y + sy * np.arange(HEIGHT), self.rgb.shape[0])
        columns, column_weights = _taps(x + sx * np.arange(WIDTH), self.rgb.shape[1])
        total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for i, row_weight in zip(rows, row_weights, strict=True):
            for j, column_weight in zip(columns, column_weights, strict=True):
                weight = row_weight[:, None] * column_weight
                total += self.rgb[np.ix_(i, j)] * weight[:, :, None]
        image = np.minimum(total / np.float32(255), 1)  # four rounded weights may sum to a little more than 1
        return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def _taps(
    positions: NDArray[np.float64], size: int
) -> tuple[tuple[NDArray[np.int64], ...], tuple[NDArray[np.float32], ...]]:
    """The two neighbours of every position along one axis and their weights; 0 outside the picture."""
    below = np.floor(positions).astype(np.int64)
    fraction = positions - below
    indices = (below, below + 1)
    weights = tuple(
        np.where((i >= 0) & (i < size), w, 0).astype(np.float32)
        for i, w in zip(indices, (1 - fraction, fraction), strict=True)
    )
    return tuple(i.clip(0, size - 1) for i in indices), weights


def load_picture(path: Path, box: Box | None = None) -> Picture:
    """Read a picture; the person's box is the whole picture unless given.

    Raises UsageError (no such file, a box outside the picture) and InputError (not a picture, damaged, too big).
    """
    rgb = _read(path)
    height, width = rgb.shape[:2]
    if min(height, width) < 2:
        raise InputError(f"{path}: {width}x{height} pixels hold no person")
    return Picture(rgb, _inside(box, width, height, path))


def _inside(box: Box | None, width: int, height: int, path: Path) -> Box:
    """The part of `box` inside the picture, from the centre of its first pixel to that of its last."""
    x, y, w, h = box if box is not None else (0.0, 0.0, float(width), float(height))
    if not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0:
        raise UsageError(f"box {x:g},{y:g},{w:g},{h:g}: four finite numbers, width and height above 0")
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = min(width - 1.0, x + w - 1), min(height - 1.0, y + h - 1)
    if right <= left or bottom <= top:
        raise UsageError(
            f"box {x:g},{y:g},{w:g},{h:g}: lies outside {path}, which has {width}x{height} pixels"
        )
    return left, top, right - left, bottom - top


def _read(path: Path) -> NDArray[np.uint8]:
    """Decode to uint8 [H, W, 3], turned upright as its EXIF data say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # pillow warns of big pictures and odd metadata; we refuse or accept
            with open_regular(path) as file, Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(
                        f"{path}: {image.width}x{image.height} pixels are too many; scale it down"
                    )
                return np.array(_to_rgb(ImageOps.exif_transpose(image)))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such picture") from None
    except (IsADirectoryError, PermissionError, SpecialFileError) as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: has too many pixels; scale it down") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: is not a picture in a known format ({', '.join(FORMATS)})") from None
    except DAMAGED as error:
        raise InputError(f"{path}: is a damaged picture ({error})") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; 16-bit grey is scaled down, transparency is laid over white."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.float64)
        return Image.fromarray((grey / 257).clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")

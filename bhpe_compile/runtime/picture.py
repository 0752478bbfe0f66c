"""A picture of a person -> the network's inputs, and the way back from their pixels to the picture's.

The person's box grows to the input's proportions (its shorter side), is enlarged about its centre and sampled
bilinearly at rows x columns points; what lies outside the picture is black. How much it is enlarged and what becomes
of the values says the input (`networks/interface.py`). Pixel centres have integer coordinates (as in OpenCV's
warpAffine, with which such networks are trained):

    picture = centre + (point - (columns, rows) / 2) * scale     scale = width of the enlarged box / columns
    value   = (k / divisor - mean) / deviation                   k = rint(min(sum, 255)), a whole level
                                                                 sum: four pixels times their weights
"""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.interface import BoxVector, Crop, Input, Interface, Output
from bhpe_compile.reading import SpecialFileError, open_regular

MAX_PIXELS = 80_000_000
"""Larger pictures are refused: 8 bits RGB of this many pixels are 240 MB."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Plain raster formats; pillow's others may run programs or fetch fonts."""

SCALED = ("PNG", "PPM")
"""Formats whose wide grey pillow gives as integers up to 65535."""

UNSIGNED, UNDEFINED = 1, 4
"""SampleFormat of a TIFF whose pixels are unsigned integers."""

PLANAR, WHITE_IS_ZERO = 2, 0
"""PlanarConfiguration and PhotometricInterpretation of a TIFF."""

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
    """A picture with one person in it.

    rgb      uint8 [H, W, 3]
    box      the person's, inside the picture: from the centre of its first pixel, as far as that of its last
    cut      what was asked for, where it stuck out of the picture; else None
    focal    its focal length in pixels; None: not known, and the diagonal stands for it
    """

    rgb: NDArray[np.uint8]
    box: Box
    cut: Box | None = None
    focal: float | None = None

    @property
    def focal_length(self) -> float:
        """`focal`, or the diagonal."""
        height, width = self.rgb.shape[:2]
        return math.sqrt(width * width + height * height) if self.focal is None else self.focal

    @property
    def asked_box(self) -> Box:
        """`box` as a user says it: x, y, width, height, counting whole pixels."""
        x, y, width, height = self.box
        return x, y, width + 1, height + 1

    def seen_by(self, port: Input) -> View:
        """The picture as an input of kind "picture" gets it."""
        return View(self, port)


@dataclass(frozen=True)
class View:
    """A picture as one input of a network sees it: `port` has the size, the enlargement and the values' arithmetic."""

    picture: Picture
    port: Input

    @property
    def crop(self) -> Crop:
        """How the box becomes the input."""
        assert self.port.crop is not None  # every picture input has one
        return self.port.crop

    @property
    def scale(self) -> float:
        """Pixels of the picture per pixel of the input."""
        _, _, width, height = self.picture.box
        rows, columns = self.port.size
        return self.crop.enlarge * max(width / columns, height / rows)

    @property
    def affine(self) -> NDArray[np.float64]:
        """[2, 3]: maps (x, y, 1) in pixels of the input to pixels of the picture."""
        x, y, width, height = self.picture.box
        rows, columns = self.port.size
        scale = self.scale
        return np.array(
            [
                [scale, 0.0, x + width / 2 - scale * columns / 2],
                [0.0, scale, y + height / 2 - scale * rows / 2],
            ]
        )

    def to_picture(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """[..., 2] points in pixels of the input -> pixels of the picture."""
        affine = self.affine
        return np.asarray(points, np.float64) * affine.diagonal() + affine[:, 2]

    def to_input(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """[..., 2] points in pixels of the picture -> pixels of the input."""
        affine = self.affine
        return np.asarray((np.asarray(points, np.float64) - affine[:, 2]) / affine.diagonal())

    def keypoints(self, output: Output, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values of a keypoint output, [..., k, 2 or more] in cells of its grid -> [k, 2] pixels of the picture."""
        rows, columns = self.port.size
        across, down = output.grid or (columns, rows)
        points = np.asarray(values, np.float64).reshape(-1, values.shape[-1])[:, :2]
        return self.to_picture(points * (columns / across, rows / down))

    def box(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """x0, y0, x1, y1 in pixels of the input -> the same in pixels of the picture."""
        return self.to_picture(np.asarray(values, np.float64).reshape(2, 2)).reshape(4)

    @property
    def tensor(self) -> NDArray[np.float32]:
        """float32 [1, 3, rows, columns]: what the network reads."""
        crop, (height, width) = self.crop, self.port.size
        (sx, _, x), (_, sy, y) = self.affine
        rows, row_weights = _taps(y + sy * np.arange(height), self.picture.rgb.shape[0])
        columns, column_weights = _taps(x + sx * np.arange(width), self.picture.rgb.shape[1])
        total = np.zeros((height, width, 3), np.float32)
        for i, row_weight in zip(rows, row_weights, strict=True):
            for j, column_weight in zip(columns, column_weights, strict=True):
                weight = row_weight[:, None] * column_weight
                total += self.picture.rgb[np.ix_(i, j)] * weight[:, :, None]
        total = np.minimum(total, np.float32(255))  # four rounded weights may sum to a little more than 1
        total = np.rint(total)
        if crop.order == "bgr":
            total = total[:, :, ::-1]
        mean, deviation = np.array(crop.mean, np.float32), np.array(crop.deviation, np.float32)
        image = (total / np.float32(crop.divisor) - mean) / deviation
        return np.ascontiguousarray(image.transpose(2, 0, 1)[None])

    def box_vector(self, vector: BoxVector) -> NDArray[np.float32]:
        """float32 [1, 3]: where the enlarged box is in the picture."""
        height, width = self.picture.rgb.shape[:2]
        f = self.picture.focal_length
        x, y, w, h = self.picture.box
        size = self.scale * self.port.size[0]
        return np.array(
            [
                [
                    vector.centre * (x + w / 2 - width / 2) / f,
                    vector.centre * (y + h / 2 - height / 2) / f,
                    (size - vector.size_offset * f) / (vector.size_scale * f),
                ]
            ],
            np.float32,
        )


def make_feeds(
    interface: Interface,
    picture: Picture,
    given: Mapping[str, NDArray[Any]] | None = None,
) -> dict[str, NDArray[Any]]:
    """Every input of a network by name, from a picture; `given` are those that are no picture and no box.

    InputError where the network takes no picture, or where an input is left without a value.
    """
    port = interface.picture
    if port is None:
        raise InputError("this network takes no picture; give its inputs as arrays")
    view = picture.seen_by(port)
    feeds: dict[str, NDArray[Any]] = dict(given or {})
    for one in interface.inputs:
        if one.name in feeds:
            if feeds[one.name].dtype.kind == "f" and not np.isfinite(feeds[one.name]).all():
                raise InputError(f"input {one.name}: has NaN or infinity; give finite numbers")
            continue
        if one.kind == "picture":
            feeds[one.name] = picture.seen_by(one).tensor
        elif one.vector is not None:
            feeds[one.name] = view.box_vector(one.vector)
        else:
            raise InputError(f"input {one.name} is no picture: give its values")
    return feeds


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


def load_picture(
    source: Path | str | NDArray[np.uint8], box: Sequence[float] | None = None, focal: float | None = None
) -> Picture:
    """A picture from a file, or from an array uint8 [H, W, 3] in RGB; the person's box (x, y, width, height in pixels)
    is the whole picture unless given. A box that sticks out is cut to the picture, and `Picture.cut` tells.
    focal: in pixels.

    Raises UsageError (no such file, a box outside the picture, a focal length that is none) and InputError (not a
    picture, damaged, too big, an array of another shape or type).
    """
    if isinstance(source, str | Path):
        name, rgb = str(source), _read(Path(source))
    else:
        name, rgb = "the picture", _checked(source)
    height, width = rgb.shape[:2]
    if min(height, width) < 2:
        raise InputError(f"{name}: {width}x{height} pixels hold no person")
    if focal is not None and not (math.isfinite(focal) and focal > 0):
        raise UsageError(f"focal length {focal:g}: a finite number of pixels above 0")
    if box is None:
        return Picture(rgb, (0.0, 0.0, width - 1.0, height - 1.0), focal=focal)
    asked = _four(box)
    x, y, w, h = asked
    sticks_out = x < 0 or y < 0 or x + w > width or y + h > height
    return Picture(rgb, _inside(asked, width, height, name), asked if sticks_out else None, focal)


def _checked(rgb: object) -> NDArray[np.uint8]:
    """`rgb` if it is a picture; InputError with its shape and type otherwise."""
    if not isinstance(rgb, np.ndarray):
        raise InputError(f"a picture is a path or an array uint8 [H, W, 3], not a {type(rgb).__name__}")
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise InputError(f"a picture is uint8 [H, W, 3], not {rgb.dtype} {list(rgb.shape)}")
    return rgb


def _four(box: Sequence[float]) -> Box:
    """`box` as four floats, width and height above 0; UsageError otherwise."""
    try:
        x, y, w, h = (float(value) for value in box)
    except (TypeError, ValueError):
        raise UsageError(f"a box is four numbers x, y, width, height, not {box!r}") from None
    if not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0:
        raise UsageError(f"box {x:g},{y:g},{w:g},{h:g}: four finite numbers, width and height above 0")
    return x, y, w, h


def _inside(box: Box, width: int, height: int, name: str) -> Box:
    """The part of `box` inside the picture, from the centre of its first pixel to that of its last."""
    x, y, w, h = box
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = min(width - 1.0, x + w - 1), min(height - 1.0, y + h - 1)
    if right <= left or bottom <= top:
        raise UsageError(
            f"box {x:g},{y:g},{w:g},{h:g}: lies outside {name}, which has {width}x{height} pixels"
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
                inverted = _understood(image, path)
                return np.array(_to_rgb(ImageOps.exif_transpose(image), inverted))
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


def _understood(image: Image.Image, path: Path) -> bool:
    """Whether 0 means white in the 16-bit grey of `image`, not decoded yet.

    InputError where its numbers have no brightness that is agreed on: floats, signed and wide integers (a TIFF does
    not say which of them is white). Pillow decodes these and others wrongly, without an error.
    """
    inverted = False
    what = {"F": "floats", "I": "32-bit integers"}.get(image.mode)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
        sample = max(tags.get(TiffImagePlugin.SAMPLEFORMAT, (UNSIGNED,)))
        if sample not in (UNSIGNED, UNDEFINED):
            what = {2: "signed integers", 3: "floats"}.get(sample, "complex numbers")
        elif bits not in (1, 2, 4, 8, 16):
            what = f"{bits}-bit integers"
        elif bits == 16 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == PLANAR:
            what = "16-bit channels in planes of their own"
        inverted = bits == 16 and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO
    elif image.mode == "I" and image.format in SCALED:
        what = None
    if what is not None:
        raise InputError(f"{path}: its pixels are {what}; save it with 8 bits a channel")
    return inverted


def _to_rgb(image: Image.Image, inverted: bool = False) -> Image.Image:
    """8-bit RGB; 16-bit grey is scaled down (`inverted`: 0 is white), transparency is laid over white."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int32).clip(0, 65535)
        grey = 65535 - grey if inverted else grey
        grey += 128
        grey //= 257  # the nearest of 0 .. 255: 257 is odd, so there are no halves
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")

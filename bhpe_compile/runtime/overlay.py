"""The result drawn on the picture: the region the network saw, boxes, and the skeleton of its description.

Left is orange, right is blue, as seen by the person. Shapes are drawn on a transparent layer of two or three times the
size and scaled down, which smooths their edges; every line has a dark rim, so it shows on any background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bhpe_compile.errors import InputError
from bhpe_compile.networks.interface import Interface, Skeleton
from bhpe_compile.runtime.picture import Picture

COLOURS: dict[str, Colour] = {
    "left": (255, 150, 40),
    "right": (70, 170, 255),
    "middle": (120, 230, 120),
    "face": (255, 225, 80),
}
RIM = (20, 20, 28)
FRAME = (245, 245, 245)

Point = tuple[float, float]
Colour = tuple[int, int, int]


class _Canvas:
    """A transparent layer over a picture, drawn in the picture's coordinates."""

    def __init__(self, width: int, height: int) -> None:
        pixels = width * height
        self._factor = 3 if pixels < 1_500_000 else 2 if pixels < 8_000_000 else 1
        self._size = (width, height)
        self._layer = Image.new("RGBA", (width * self._factor, height * self._factor))
        self._draw = ImageDraw.Draw(self._layer)

    def _at(self, point: Sequence[float]) -> Point:
        return (point[0] + 0.5) * self._factor, (point[1] + 0.5) * self._factor

    def disc(self, centre: Sequence[float], radius: float, colour: Colour) -> None:
        x, y = self._at(centre)
        r = radius * self._factor
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=(*colour, 255))

    def line(self, start: Sequence[float], end: Sequence[float], width: float, colour: Colour) -> None:
        """With round ends."""
        pixels = max(1, round(width * self._factor))
        self._draw.line((self._at(start), self._at(end)), fill=(*colour, 255), width=pixels)
        for point in (start, end):
            self.disc(point, width / 2, colour)

    def frame(self, box: Sequence[float], width: float, colour: Colour, opacity: int) -> None:
        (left, top), (right, bottom) = self._at(box[:2]), self._at(box[2:])
        self._draw.rounded_rectangle(
            (left, top, max(left, right), max(top, bottom)),
            radius=3 * width * self._factor,
            outline=(*colour, opacity),
            width=max(1, round(width * self._factor)),
        )

    def over(self, image: Image.Image) -> Image.Image:
        layer = self._layer if self._factor == 1 else self._layer.resize(self._size, Image.Resampling.BOX)
        return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def side_of(name: str) -> str:
    """left, right, face or middle: the colour of a keypoint or of a box's part, by the first word of its name."""
    word = name.replace(" ", "_").partition("_")[0]
    return word if word in COLOURS else "middle"


def draw_overlay(picture: Picture, outputs: Mapping[str, NDArray[Any]], interface: Interface) -> Image.Image:
    """The picture with what `outputs` say of it: the boxes and keypoints that are there.

    Keypoints that are not finite numbers, or lie far outside the picture, are left out. InputError for a network
    that takes no picture.
    """
    port = interface.picture
    if port is None:
        raise InputError("this network takes no picture: there is nothing to draw on")
    view = picture.seen_by(port)
    height, width = picture.rgb.shape[:2]
    rows, columns = port.size
    canvas = _Canvas(width, height)
    unit = max(1.0, view.scale * rows / 320)  # lines grow with the person
    region = view.to_picture(np.array([[0, 0], [columns - 1, rows - 1]])).reshape(4)
    limits = np.array([0, 0, width - 1, height - 1])
    region[:2], region[2:] = np.maximum(region[:2], limits[:2]), np.minimum(region[2:], limits[2:])
    _frame(canvas, region, unit, FRAME, 200)
    for output in interface.outputs:
        if output.kind == "boxes" and output.name in outputs:
            _frame(canvas, view.box(outputs[output.name]), unit, COLOURS[side_of(output.part)], 255)
    found = interface.keypoints
    if found is not None and found.name in outputs:
        points = view.keypoints(found, outputs[found.name])
        _skeleton(canvas, points, found.names, interface.skeleton, 2.0 * max(height, width), unit)
    return canvas.over(Image.fromarray(picture.rgb))


def _skeleton(
    canvas: _Canvas,
    points: NDArray[np.float64],
    names: Sequence[str],
    skeleton: Skeleton,
    reach: float,
    unit: float,
) -> None:
    """Small bones first, then the others, then all keypoints; those farther away than `reach` are left out."""
    near = np.abs(np.nan_to_num(points, nan=np.inf)) < reach
    visible = np.asarray(np.isfinite(points).all(axis=1) & near.all(axis=1))
    place = {name: index for index, name in enumerate(names)}
    for small, width in ((True, 1.1 * unit), (False, 2.0 * unit)):
        bones = [
            (place[a], place[b], COLOURS[side_of(b)])
            for a, b in skeleton.bones
            if (b in skeleton.small) is small and a in place and b in place
        ]
        _bones(canvas, points, [bone for bone in bones if visible[bone[0]] and visible[bone[1]]], width)
    for joint in np.flatnonzero(visible).tolist():
        name = names[joint] if joint < len(names) else ""
        small = name in skeleton.small
        radius = unit * (0.9 if small else 1.7)
        canvas.disc(points[joint], radius + 0.5 * unit, RIM)
        canvas.disc(points[joint], radius, COLOURS[side_of(name)] if small else FRAME)


def _frame(canvas: _Canvas, box: NDArray[np.float64], unit: float, colour: Colour, opacity: int) -> None:
    if np.isfinite(box).all() and (np.abs(box) < 1e6).all():
        canvas.frame(box.tolist(), 1.8 * unit, RIM, opacity // 2)
        canvas.frame(box.tolist(), 1.0 * unit, colour, opacity)


def _bones(
    canvas: _Canvas, points: NDArray[np.float64], bones: Sequence[tuple[int, int, Colour]], width: float
) -> None:
    """All rims first, so that no bone cuts another one's colour."""
    for a, b, _ in bones:
        canvas.line(points[a], points[b], 1.8 * width, RIM)
    for a, b, colour in bones:
        canvas.line(points[a], points[b], width, colour)

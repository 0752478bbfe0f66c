"""The result drawn on the picture: the region the network saw, boxes, and the skeleton of its description.

Left is orange, right is blue, as seen by the person. Shapes are drawn on a transparent layer of two or three times the
size and scaled down, which smooths their edges; every line has a dark rim, so it shows on any background.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bhpe_compile.errors import InputError
from bhpe_compile.networks.interface import Interface, Skeleton
from bhpe_compile.runtime.picture import Picture, View
from bhpe_compile.runtime.simcc import seen, with_points

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


@dataclass(frozen=True)
class _Shape:
    """A "disc", "line" or "frame" between two corners, in pixels of the picture, or a "text" that begins at the first.
    `fill` is premultiplied; `width` is a line's, or a text's height."""

    kind: str
    start: Point
    end: Point
    fill: tuple[int, int, int, int]
    width: float = 0.0
    text: str = ""


class _Canvas:
    """A transparent layer over a picture, drawn in the picture's coordinates. It is as large as what is drawn needs."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._shapes: list[_Shape] = []

    def disc(self, centre: Sequence[float], radius: float, colour: Colour) -> None:
        x, y = centre[0] + 0.5, centre[1] + 0.5
        start, end = (x - radius, y - radius), (x + radius, y + radius)
        self._shapes.append(_Shape("disc", start, end, (*colour, 255)))

    def line(self, start: Sequence[float], end: Sequence[float], width: float, colour: Colour) -> None:
        """With round ends."""
        ends = ((start[0] + 0.5, start[1] + 0.5), (end[0] + 0.5, end[1] + 0.5))
        self._shapes.append(_Shape("line", *ends, (*colour, 255), width))
        for point in (start, end):
            self.disc(point, width / 2, colour)

    def frame(self, box: Sequence[float], width: float, colour: Colour, opacity: int) -> None:
        left, top, right, bottom = (value + 0.5 for value in box)
        red, green, blue = (value * opacity // 255 for value in colour)
        corners = ((left, top), (max(left, right), max(top, bottom)))
        self._shapes.append(_Shape("frame", *corners, (red, green, blue, opacity), width))

    def text(self, corner: Sequence[float], height: float, text: str) -> None:
        """Light letters in a dark rim."""
        x, y = corner[0], corner[1]
        shape = _Shape("text", (x, y), (x + height * len(text), y + height), (*FRAME, 255), height, text)
        self._shapes.append(shape)

    def over(self, rgb: NDArray[np.uint8]) -> Image.Image:
        """The picture, uint8 [H, W, 3], under the layer."""
        region = self._region()
        if region is None:
            return Image.fromarray(rgb)
        left, top, right, bottom = region
        layer = self._drawn(left, top, right - left, bottom - top)
        part = rgb[top:bottom, left:right].astype(np.uint16) * (255 - layer[..., 3:]).astype(np.uint16)
        result = rgb.copy()
        result[top:bottom, left:right] = np.minimum(layer[..., :3] + (part + 127) // 255, 255)
        return Image.fromarray(result)

    def _region(self) -> tuple[int, int, int, int] | None:
        """The part of the picture that shapes touch: left, top, right, bottom."""
        edges = [
            (
                min(one.start[0], one.end[0]) - one.width,
                min(one.start[1], one.end[1]) - one.width,
                max(one.start[0], one.end[0]) + one.width,
                max(one.start[1], one.end[1]) + one.width,
            )
            for one in self._shapes
        ]
        if not edges:
            return None
        low, high = np.min(edges, axis=0)[:2], np.max(edges, axis=0)[2:]
        left, top = (max(0, math.floor(value) - 1) for value in low)
        right, bottom = (
            min(most, math.ceil(value) + 1) for most, value in zip(self._size, high, strict=True)
        )
        return None if right <= left or bottom <= top else (left, top, right, bottom)

    def _drawn(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """uint8 [height, width, 4]: colours times coverage, and coverage."""
        pixels = width * height
        factor = 3 if pixels < 200_000 else 2 if pixels < 8_000_000 else 1
        layer = Image.new("RGBa", (width * factor, height * factor))
        draw = ImageDraw.Draw(layer)
        for one in self._shapes:
            x0, y0 = (one.start[0] - left) * factor, (one.start[1] - top) * factor
            x1, y1 = (one.end[0] - left) * factor, (one.end[1] - top) * factor
            thick = max(1, round(one.width * factor))
            if one.kind == "disc":
                draw.ellipse((x0, y0, x1, y1), fill=one.fill)
            elif one.kind == "text":
                font = ImageFont.load_default(thick)
                draw.text((x0, y0), one.text, one.fill, font, stroke_width=factor, stroke_fill=(*RIM, 255))
            elif one.kind == "line":
                draw.line((x0, y0, x1, y1), fill=one.fill, width=thick)
            else:
                radius = 3 * one.width * factor
                draw.rounded_rectangle((x0, y0, x1, y1), radius=radius, outline=one.fill, width=thick)
        return np.asarray(layer if factor == 1 else layer.reduce(factor))


def side_of(name: str) -> str:
    """left, right, face or middle: the colour of a keypoint or of a box's part, by the first word of its name."""
    word = name.replace(" ", "_").partition("_")[0]
    return word if word in COLOURS else "middle"


def draw_overlay(picture: Picture, outputs: Mapping[str, NDArray[Any]], interface: Interface) -> Image.Image:
    """The picture with what `outputs` say of it: the boxes and keypoints that are there.

    Keypoints that are not finite numbers, or lie far outside the picture, are left out. InputError for a network
    that takes no picture.
    """
    return draw_people(picture.rgb, [(picture, outputs, "")], interface)


def draw_people(
    rgb: NDArray[np.uint8],
    people: Iterable[tuple[Picture, Mapping[str, NDArray[Any]], str]],
    interface: Interface,
) -> Image.Image:
    """`draw_overlay` of everybody who was found in `rgb`, uint8 [H, W, 3]: the same picture with each one's box, and
    what a person is called, "" where that is not known."""
    port = interface.picture
    if port is None:
        raise InputError("this network takes no picture: there is nothing to draw on")
    height, width = rgb.shape[:2]
    canvas = _Canvas(width, height)
    for picture, outputs, name in people:
        _person(canvas, picture.seen_by(port), outputs, interface, name)
    return canvas.over(rgb)


def _person(
    canvas: _Canvas, view: View, outputs: Mapping[str, NDArray[Any]], interface: Interface, name: str
) -> None:
    outputs = with_points(interface, outputs)
    height, width = view.picture.rgb.shape[:2]
    rows, columns = view.port.size
    unit = max(1.0, view.scale * rows / 320)  # lines grow with the person
    region = view.to_picture(np.array([[0, 0], [columns - 1, rows - 1]])).reshape(4)
    limits = np.array([0, 0, width - 1, height - 1])
    region[:2], region[2:] = np.maximum(region[:2], limits[:2]), np.minimum(region[2:], limits[2:])
    _frame(canvas, region, unit, FRAME, 200)
    if name:
        canvas.text((region[:2] + 4 * unit).tolist(), 14 * unit, name)
    for output in interface.outputs:
        if output.kind == "boxes" and output.name in outputs:
            _frame(canvas, view.box(outputs[output.name]), unit, COLOURS[side_of(output.part)], 255)
    found = interface.keypoints
    if found is not None and found.name in outputs:
        points = view.keypoints(found, outputs[found.name])
        points[~seen(interface, outputs, len(points))] = np.nan
        _skeleton(canvas, points, found.names, interface.skeleton, 2.0 * max(height, width), unit)


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

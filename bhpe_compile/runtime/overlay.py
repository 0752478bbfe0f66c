"""The result drawn on the picture: the region the network saw, hand and face boxes, and the skeleton.

Left is orange, right is blue, as seen by the person. Shapes are drawn on a transparent layer of two or three times the
size and scaled down, which smooths their edges; every line has a dark rim, so it shows on any background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bhpe_compile.runtime.picture import HEIGHT, WIDTH, Picture
from bhpe_compile.runtime.skeleton import BODY, BODY_BONES, HAND_BONES, JOINTS, side_of

CELLS = (6, 8)
"""Cells of the body's heat map along x and y: the unit of `joint_img`."""

COLOURS = {"left": (255, 150, 40), "right": (70, 170, 255), "middle": (120, 230, 120), "face": (255, 225, 80)}
RIM = (20, 20, 28)
FRAME = (245, 245, 245)

BOXES = {"lhand_bbox": "left", "rhand_bbox": "right", "face_bbox": "face"}
"""Outputs with a box, and the colour of each."""

Point = tuple[float, float]


def joints_in_picture(picture: Picture, joint_img: NDArray[Any]) -> NDArray[np.float64]:
    """joint_img [..., 65, 3] in heat-map cells -> [65, 2] pixels of the picture."""
    cells = np.asarray(joint_img, np.float64).reshape(len(JOINTS), 3)[:, :2]
    return picture.to_picture(cells * (WIDTH / CELLS[0], HEIGHT / CELLS[1]))


def box_in_picture(picture: Picture, box: NDArray[Any]) -> NDArray[np.float64]:
    """xyxy in pixels of the network's input -> xyxy in pixels of the picture."""
    return picture.to_picture(np.asarray(box, np.float64).reshape(2, 2)).reshape(4)


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

    def disc(self, centre: Sequence[float], radius: float, colour: tuple[int, int, int]) -> None:
        x, y = self._at(centre)
        r = radius * self._factor
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=(*colour, 255))

    def line(
        self, start: Sequence[float], end: Sequence[float], width: float, colour: tuple[int, int, int]
    ) -> None:
        """With round ends."""
        pixels = max(1, round(width * self._factor))
        self._draw.line((self._at(start), self._at(end)), fill=(*colour, 255), width=pixels)
        for point in (start, end):
            self.disc(point, width / 2, colour)

    def frame(self, box: Sequence[float], width: float, colour: tuple[int, int, int], opacity: int) -> None:
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


def draw_overlay(picture: Picture, outputs: Mapping[str, NDArray[Any]]) -> Image.Image:
    """The picture with what `outputs` say of it; needs `joint_img`, draws the boxes that are there.

    Joints that are not finite numbers, or lie far outside the picture, are left out.
    """
    height, width = picture.rgb.shape[:2]
    canvas = _Canvas(width, height)
    unit = max(1.0, picture.scale * HEIGHT / 320)  # lines grow with the person
    region = picture.to_picture(np.array([[0, 0], [WIDTH - 1, HEIGHT - 1]])).reshape(4)
    limits = np.array([0, 0, width - 1, height - 1])
    region[:2], region[2:] = np.maximum(region[:2], limits[:2]), np.minimum(region[2:], limits[2:])
    _frame(canvas, region, unit, FRAME, 200)
    for name, colour in BOXES.items():
        if name in outputs:
            _frame(canvas, box_in_picture(picture, outputs[name]), unit, COLOURS[colour], 255)
    points = joints_in_picture(picture, outputs["joint_img"])
    reach = 2.0 * max(height, width)
    visible = np.isfinite(points).all(axis=1) & (np.abs(np.nan_to_num(points, nan=np.inf)) < reach).all(
        axis=1
    )
    _bones(canvas, points, visible, HAND_BONES, 1.1 * unit)
    _bones(canvas, points, visible, BODY_BONES, 2.0 * unit)
    for joint in np.flatnonzero(visible).tolist():
        radius = unit * (1.7 if joint < len(BODY) else 0.9)
        canvas.disc(points[joint], radius + 0.5 * unit, RIM)
        canvas.disc(points[joint], radius, COLOURS[side_of(joint)] if joint >= len(BODY) else FRAME)
    return canvas.over(Image.fromarray(picture.rgb))


def _frame(
    canvas: _Canvas, box: NDArray[np.float64], unit: float, colour: tuple[int, int, int], opacity: int
) -> None:
    if np.isfinite(box).all() and (np.abs(box) < 1e6).all():
        canvas.frame(box.tolist(), 1.8 * unit, RIM, opacity // 2)
        canvas.frame(box.tolist(), 1.0 * unit, colour, opacity)


def _bones(
    canvas: _Canvas,
    points: NDArray[np.float64],
    visible: NDArray[np.bool_],
    bones: Sequence[tuple[int, int]],
    width: float,
) -> None:
    """All rims first, so that no bone cuts another one's colour."""
    shown = [(a, b) for a, b in bones if visible[a] and visible[b]]
    for a, b in shown:
        canvas.line(points[a], points[b], 1.8 * width, RIM)
    for a, b in shown:
        colour = COLOURS[side_of(b)]
        canvas.line(points[a], points[b], width, colour)

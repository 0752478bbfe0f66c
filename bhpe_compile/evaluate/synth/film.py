"""A film of drawn people who walk to and fro and pass each other, and where each of them is: to try and to test with.

Everybody walks along a cosine of its own; two of them cross three times in 300 frames. Nearer people hide farther ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.frame import HEIGHT, WIDTH
from bhpe_compile.evaluate.skeleton import INDEX as AT
from bhpe_compile.evaluate.skeleton import SIDES
from bhpe_compile.evaluate.synth.appearance import Appearance, sample_appearance
from bhpe_compile.evaluate.synth.backgrounds import sample_background
from bhpe_compile.evaluate.synth.camera import View
from bhpe_compile.evaluate.synth.poses import FLIP, Arm, Leg
from bhpe_compile.evaluate.synth.render import Renderer
from bhpe_compile.evaluate.synth.rotations import Matrix, about, mirrored
from bhpe_compile.evaluate.synth.shapes import sample_betas
from bhpe_compile.evaluate.synth.streams import stream
from bhpe_compile.evaluate.synth.surface import measure, normals, vertex_parts

RATE = 30
"""Frames a second."""

PERIOD = 200
"""Frames in which a walker is back where it was."""

STEP = 28
"""Frames of two steps."""

FOCAL = 900.0

TALL = 420
"""Pixels of a drawing that an average person of 1.68 m takes."""

FAINT = 8
"""Coverage (of 255) from which a pixel belongs to a person's box."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Walker:
    """Somebody in the film: looks, shape [1, 10], where its walk begins (radians), and its size beside a drawing's."""

    look: Appearance
    betas: torch.Tensor
    begin: float
    size: float


@dataclass(frozen=True)
class Scene:
    """A frame, uint8 [H, W, 3], and the box x, y, width, height of each walker in it; None where it is out of sight."""

    rgb: NDArray[np.uint8]
    boxes: tuple[Box | None, ...]


def draw_film(
    body: BodyModel, frames: int, people: int = 2, seed: int = 0, size: tuple[int, int] = (640, 480)
) -> Iterator[Scene]:
    """The frames, one after the other. Raises ToolchainError where there is no OpenGL."""
    renderer = Renderer(body.faces.numpy(), body.v_template.numpy(), vertex_parts(body))
    picture = Image.fromarray(sample_background(stream(seed, "test", 0, "background"), "test"))
    background = np.asarray(picture.resize(size, Image.Resampling.BICUBIC))
    walkers = [_walker(body, seed, k, people, size[1]) for k in range(people)]
    for number in range(frames):
        canvas = Image.fromarray(background)
        boxes: list[Box | None] = [None] * people
        for k in sorted(range(people), key=lambda k: walkers[k].size):  # the nearest last
            boxes[k] = _paste(canvas, _draw(body, renderer, walkers[k], number), walkers[k], number)
        yield Scene(np.asarray(canvas), tuple(boxes))


def _walker(body: BodyModel, seed: int, index: int, people: int, height: int) -> Walker:
    look = sample_appearance(stream(seed, "test", index, "appearance"), "test", measure(body))
    betas = torch.from_numpy(sample_betas(stream(seed, "test", index, "shape"), "test"))[None]
    size = (0.95 - 0.12 * index / max(1, people - 1)) * height / HEIGHT
    return Walker(look, betas, np.pi * 2 * index / people + 0.3, size)


def walking(step: float, turn: float) -> Matrix:
    """[55, 3, 3]: the pose at `step` radians of a walk, turned by `turn` radians from the camera."""
    rotations = np.tile(np.eye(3), (55, 1, 1))
    rotations[AT["pelvis"]] = FLIP @ about("y", turn)
    for side, phase in zip(SIDES, (step, step + np.pi), strict=True):
        forward = float(np.sin(phase))
        knee = 0.15 + 0.5 * max(0.0, float(np.cos(phase)))
        leg = Leg(0.05 + 0.42 * forward, 0.02, 0.08, knee, -0.1)
        arm = Arm(np.array([0.25, -1.0, -0.45 * forward]), 0.2, 0.35, 0.2, 0.0, 0.0)
        for name, rotation in {**leg.rotations(), **arm.rotations()}.items():
            rotations[AT[f"{side}_{name}"]] = rotation if side == "left" else mirrored(rotation)
    return rotations


def _draw(body: BodyModel, renderer: Renderer, walker: Walker, number: int) -> NDArray[np.uint8]:
    """uint8 [512, 384, 4]: colours times coverage, and coverage."""
    along = 2 * np.pi * number / PERIOD + walker.begin
    rotations = walking(2 * np.pi * number / STEP + walker.begin, 0.8 * float(np.sin(along)))
    pose = torch.from_numpy(rotations.astype(np.float32))[None]
    vertices = body(pose, walker.betas, torch.zeros(1, 10)).vertices[0]
    middle = (vertices.amin(0) + vertices.amax(0)) / 2
    depth = FOCAL * 1.68 / TALL
    placed = vertices - middle + torch.tensor([0.0, 0.0, depth])
    view = View(FOCAL, np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2]), np.zeros(3))
    return renderer.draw(placed.numpy(), normals(vertices, body.faces), view, walker.look)


def _paste(canvas: Image.Image, drawn: NDArray[np.uint8], walker: Walker, number: int) -> Box | None:
    """Lay a drawing over the frame, scaled, at the walker's place; its box in the frame."""
    size = (round(WIDTH * walker.size), round(HEIGHT * walker.size))
    scaled = Image.fromarray(drawn, "RGBa").resize(size, Image.Resampling.BOX).convert("RGBA")
    width, height = canvas.size
    along = 2 * np.pi * number / PERIOD + walker.begin
    x = round((width - size[0]) / 2 + 0.36 * width * float(np.cos(along)))
    y = round(height * (0.3 + 0.73 * walker.size * HEIGHT / height) - size[1])
    canvas.paste(scaled, (x, y), scaled)
    solid = scaled.getchannel("A").point(lambda value: 255 if value >= FAINT else 0).getbbox()
    if solid is None:
        return None
    left, top = max(0, x + solid[0]), max(0, y + solid[1])
    right, bottom = min(width, x + solid[2]), min(height, y + solid[3])
    return None if right <= left or bottom <= top else (left, top, right - left, bottom - top)

"""One person of the open set: from its number to a picture and its labels.

Person i of (seed, split) depends on nothing else: neither on the people before nor on how many are drawn at once.
Who stands where is the same in every version of the generator; `painters` says how it is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bhpe_compile.evaluate.body import BodyModel, BodyOutput, axis_angle_to_matrix
from bhpe_compile.evaluate.dataset import Labels
from bhpe_compile.evaluate.frame import HEIGHT, WIDTH
from bhpe_compile.evaluate.skeleton import INDEX as AT
from bhpe_compile.evaluate.synth.camera import View, sample_view
from bhpe_compile.evaluate.synth.clearance import clearance
from bhpe_compile.evaluate.synth.painters import open_painter
from bhpe_compile.evaluate.synth.poses import attempts
from bhpe_compile.evaluate.synth.rotations import about, axis_angle
from bhpe_compile.evaluate.synth.scene import Painter, Scene
from bhpe_compile.evaluate.synth.shapes import sample_betas, sample_expression
from bhpe_compile.evaluate.synth.skirt import Skirt
from bhpe_compile.evaluate.synth.streams import VERSION, Split, stream

SPARSE = 3
"""Every third vertex is enough to frame a person."""

ATTEMPTS = 8
"""At a pose; the first one without limbs in each other is taken, else the least bad."""

TOLERANCE = -0.012
"""Metres of overlap between the round bars of `clearance` that still look right."""

PARTS = ("left_hand", "right_hand", "face")

SWAY, PERIOD = 0.1, 50
"""How far joints of the body turn to and fro in a film, in radians, and in how many frames."""

AXES: tuple[Literal["x", "y", "z"], ...] = ("x", "y", "z")

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Person:
    """A picture, uint8 [512, 384, 3], and its labels."""

    image: NDArray[np.uint8]
    labels: Labels


class Generator:
    """Draws the people of one split. Opens OpenGL when the first picture is drawn: one Generator a process."""

    def __init__(
        self,
        body: BodyModel,
        seed: int,
        split: Split,
        version: int = VERSION,
        backgrounds: Sequence[Path] = (),
    ) -> None:
        """`version`: one of `streams.VERSIONS`; `backgrounds`: photographs, for versions that take some."""
        self.body = body
        self.seed = seed
        self.split: Split = split
        self.version = version
        self._backgrounds = tuple(backgrounds)
        self._regions = [body.regions[part].numpy() for part in PARTS]
        self._skirt = Skirt(body)
        self._painter: Painter | None = None

    @property
    def painter(self) -> Painter:
        """Raises ToolchainError where there is no OpenGL."""
        if self._painter is None:
            self._painter = open_painter(self.version, self.body, self.split, self._backgrounds)
        return self._painter

    def person(self, index: int) -> Person:
        """Person `index` of the split."""
        return self._drawn(index, self._pose(index), None)

    def frame(self, index: int, number: int) -> Person:
        """Frame `number` of a film of person `index`, who sways slowly where nothing else moves: the same background
        and the same camera, whose noise alone is another one in every frame. Nothing stands in front of the person."""
        pose, betas, expression = self._pose(index)
        swaying = axis_angle(sway(axis_angle_to_matrix(torch.from_numpy(pose)).numpy(), number))
        return self._drawn(index, (swaying.astype(np.float32), betas, expression), number)

    def _drawn(self, index: int, parameters: tuple[NDArray[np.float32], ...], frame: int | None) -> Person:
        """The person with this pose, shape and expression; `frame`: of a film."""
        pose, betas, expression = parameters
        rotations = axis_angle_to_matrix(torch.from_numpy(pose))[None]
        output = self._posed(pose, betas, expression)
        vertices, joints = output.vertices[0], output.joints[0].numpy()
        points = self.body.keypoints(output)[0].numpy()
        view = self._view(index, output if frame is None else self._posed(*self._pose(index)))
        translation = view.translation.astype(np.float32)
        view = View(view.focal, view.principal, translation.astype(np.float64))
        placed = vertices.numpy() + translation
        keypoints = self._keypoints(points, view)
        scene = Scene(
            stream=lambda aspect: self._stream(index, aspect),
            vertices=vertices,
            placed=placed,
            rotations=rotations[0].numpy(),
            joints=joints + translation,
            betas=betas,
            view=view,
            keypoints=keypoints,
            frame=frame,
        )
        image, hidden = self.painter.paint(scene)
        labels = self._labels(pose, betas, expression, view, keypoints, hidden, placed)
        return Person(image, labels)

    def _posed(self, pose: Array, betas: Array, expression: Array) -> BodyOutput:
        rotations = axis_angle_to_matrix(torch.from_numpy(pose))[None]
        return self.body(rotations, torch.from_numpy(betas)[None], torch.from_numpy(expression)[None])

    def _view(self, index: int, output: BodyOutput) -> View:
        """The camera that sees this mesh."""
        vertices, points = output.vertices[0].numpy(), self.body.keypoints(output)[0].numpy()
        upper = np.concatenate([points[[0, *range(7, 14), *range(20, 65)]], vertices[self._regions[2]]])
        return sample_view(self._stream(index, "camera"), vertices[::SPARSE], upper)

    def parameters(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Pose [55, 3], betas and expression [10] of person `index`; nobody is drawn."""
        return self._pose(index)

    def _stream(self, index: int, aspect: str) -> np.random.Generator:
        return stream(self.seed, self.split, index, aspect)

    def _pose(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Axis-angle [55, 3], betas, expression."""
        rng = self._stream(index, "shape")
        betas, expression = sample_betas(rng, self.split), sample_expression(rng)
        girth = self._skirt.girth(betas)
        shape = torch.from_numpy(betas)[None], torch.from_numpy(expression)[None]
        best, most = np.empty(0), -np.inf
        for rotations in islice(attempts(self._stream(index, "pose")), ATTEMPTS):
            joints = self.body.joints(torch.from_numpy(rotations.astype(np.float32))[None], *shape)
            gap = clearance(joints[0].numpy().astype(np.float64), girth)
            if gap > most:
                best, most = rotations, gap
            if gap > TOLERANCE:
                break
        return axis_angle(best).astype(np.float32), betas, expression

    def _keypoints(self, points: NDArray[np.float32], view: View) -> NDArray[np.float32]:
        pixels = view.project(points + view.translation)
        depth = points[:, 2:] - points[:1, 2:]
        return np.concatenate([pixels, depth], 1).astype(np.float32)

    def _labels(
        self,
        pose: NDArray[np.float32],
        betas: NDArray[np.float32],
        expression: NDArray[np.float32],
        view: View,
        keypoints: NDArray[np.float32],
        hidden: NDArray[np.bool_],
        placed: NDArray[Any],
    ) -> Labels:
        x, y = keypoints[:, 0], keypoints[:, 1]
        inside = (x >= -0.5) & (x < WIDTH - 0.5) & (y >= -0.5) & (y < HEIGHT - 0.5)
        boxes = []
        for vertices in self._regions:
            pixels = view.project(placed[vertices])
            boxes.append([*pixels.min(0), *pixels.max(0)])
        return Labels(
            pose=pose,
            betas=betas,
            expression=expression,
            translation=view.translation.astype(np.float32),
            focal=np.full(2, view.focal, np.float32),
            principal=view.principal.astype(np.float32),
            keypoints=keypoints,
            visible=inside & ~hidden,
            boxes=np.array(boxes, np.float32),
        )


def sway(rotations: NDArray[Any], number: int) -> NDArray[np.float64]:
    """The pose [55, 3, 3] of frame `number` of a film: root and body turn to and fro about axes of their own.
    A vertex moves by some millimetres from frame to frame."""
    turned = rotations.astype(np.float64)
    for joint in range(AT["jaw"]):
        phase, axis = 2.4 * joint, AXES[joint % 3]
        angle = SWAY * (np.sin(2 * np.pi * number / PERIOD + phase) - np.sin(phase))
        turned[joint] = turned[joint] @ about(axis, angle)
    return turned

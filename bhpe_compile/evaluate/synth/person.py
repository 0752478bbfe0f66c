"""One person of the open set: from its number to a picture and its labels.

Person i of (seed, split) depends on nothing else: neither on the people before nor on how many are drawn at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bhpe_compile.evaluate.body import BodyModel, BodyOutput, axis_angle_to_matrix
from bhpe_compile.evaluate.dataset import Labels
from bhpe_compile.evaluate.frame import HEIGHT, WIDTH
from bhpe_compile.evaluate.skeleton import INDEX as AT
from bhpe_compile.evaluate.synth.appearance import Measures, sample_appearance
from bhpe_compile.evaluate.synth.backgrounds import sample_background
from bhpe_compile.evaluate.synth.camera import View, sample_view
from bhpe_compile.evaluate.synth.clearance import clearance
from bhpe_compile.evaluate.synth.occluders import sample_occluder
from bhpe_compile.evaluate.synth.poses import attempts
from bhpe_compile.evaluate.synth.render import Renderer
from bhpe_compile.evaluate.synth.rotations import about, axis_angle
from bhpe_compile.evaluate.synth.sensor import expose
from bhpe_compile.evaluate.synth.shapes import sample_betas, sample_expression
from bhpe_compile.evaluate.synth.skirt import Skirt
from bhpe_compile.evaluate.synth.streams import Split, stream

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

    def __init__(self, body: BodyModel, seed: int, split: Split) -> None:
        self.body = body
        self.seed = seed
        self.split: Split = split
        self._measures = measure(body)
        self._faces = body.faces
        self._regions = [body.regions[part].numpy() for part in PARTS]
        self._skirt = Skirt(body)
        self._renderer: Renderer | None = None

    @property
    def renderer(self) -> Renderer:
        """Raises ToolchainError where there is no OpenGL."""
        if self._renderer is None:
            self._renderer = Renderer(
                self.body.faces.numpy(), self.body.v_template.numpy(), vertex_parts(self.body)
            )
        return self._renderer

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
        look = sample_appearance(self._stream(index, "appearance"), self.split, self._measures)

        translation = view.translation.astype(np.float32)
        view = View(view.focal, view.principal, translation.astype(np.float64))
        placed = vertices.numpy() + translation
        skirt = None
        if look.skirt is not None:
            skirt = self._skirt(rotations[0].numpy(), joints + translation, betas, look.skirt)
        drawn = self.renderer.draw(placed, normals(vertices, self._faces), view, look, skirt)
        keypoints = self._keypoints(points, view)
        image, hidden = self._compose(index, drawn, keypoints, frame)
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

    def _compose(
        self, index: int, drawn: NDArray[np.uint8], keypoints: NDArray[np.float32], frame: int | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Background, person, occluder, camera; and which keypoints the occluder hides, [65]."""
        background = sample_background(self._stream(index, "background"), self.split)
        rest = np.uint16(255) - drawn[..., 3:]
        image = drawn[..., :3] + ((background * rest + 127) // 255).astype(np.uint8)
        hidden = np.zeros(len(keypoints), bool)
        if frame is not None:
            noise = self._stream(index, f"frame {frame}")
            return expose(self._stream(index, "sensor"), image, noise), hidden
        layer = sample_occluder(self._stream(index, "occluder"), keypoints[:, :2].astype(np.float64))
        if layer is not None:
            front = Image.fromarray(image)
            front.paste(layer, mask=layer)
            image = np.asarray(front)
            mask = np.asarray(layer)[..., 3] > 0
            x = keypoints[:, 0].round().clip(0, WIDTH - 1).astype(int)
            y = keypoints[:, 1].round().clip(0, HEIGHT - 1).astype(int)
            hidden = mask[y, x]
        return expose(self._stream(index, "sensor"), image), hidden

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


def normals(vertices: torch.Tensor, faces: torch.Tensor) -> NDArray[np.float32]:
    """[V, 3] unit normals: the sum of those of the faces around, weighted by area."""
    corners = vertices[faces]
    flat = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(0, faces[:, k], flat)
    return np.asarray(torch.nn.functional.normalize(total, dim=1).numpy())


def vertex_parts(body: BodyModel) -> NDArray[np.float32]:
    """[V, 3]: how much of a vertex is head, eye, arm."""
    weights = body.weights.numpy()

    def share(names: list[str]) -> NDArray[np.float32]:
        return np.asarray(weights[:, [AT[name] for name in names]].sum(1))

    eyes = share(["left_eye", "right_eye"])
    arms = [n for n in AT if n.endswith(("shoulder", "elbow", "wrist")) or AT[n] >= AT["left_index1"]]
    return np.stack([share(["head", "jaw"]) + eyes, eyes, share(arms)], 1).astype(np.float32)


def measure(body: BodyModel) -> Measures:
    """Where clothes end, from the joints of the template."""
    joints = (body.joint_regressor @ body.v_template).numpy()
    eyes = joints[[AT["left_eye"], AT["right_eye"]]]
    front = body.v_template[body.weights[:, AT["left_eye"]] > 0.5]
    depth = float(front[:, 2].max()) if len(front) else float(eyes[:, 2].max())

    def height(name: str) -> float:
        return float(joints[AT[name], 1])

    return Measures(
        eyes=(float(eyes[:, 1].mean()), depth, float(abs(eyes[0, 0] - eyes[1, 0]))),
        neck=height("neck"),
        waist=0.5 * (height("spine1") + height("pelvis")) + 0.02,
        hips=height("left_hip"),
        knee=height("left_knee"),
        ankle=height("left_ankle"),
        shoulder=float(abs(joints[AT["left_shoulder"], 0])),
        elbow=float(abs(joints[AT["left_elbow"], 0])),
        wrist=float(abs(joints[AT["left_wrist"], 0])),
        floor=float(body.v_template[:, 1].min()),
    )

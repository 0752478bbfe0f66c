"""Meshes of the people that a compiled network finds: its rotations and shape pose a body, its joints and its
camera place it.

    v = body(rotations, shape)                      metres, camera directions: x right, y down, z forward
    pixel = principal + focal (v + translation)_xy / (v + translation)_z

Where the network finds joints in the picture as well, they place the body: joints are seen, a depth is guessed.

The network's description says which family of bodies it poses: SMPL-X (whole bodies) or SMPL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.body import BodyModel, axis_angle_to_matrix
from bhpe_compile.evaluate.body_file import SMPL, SMPL_X
from bhpe_compile.evaluate.skeleton import INDEX
from bhpe_compile.networks.interface import Interface, Output
from bhpe_compile.networks.smpl import JOINTS as SMPL_JOINTS
from bhpe_compile.runtime.camera import Camera, Placement, camera_in_picture, camera_of, place
from bhpe_compile.runtime.stream import Person

if TYPE_CHECKING:
    from bhpe_compile.evaluate.synth.appearance import Appearance
    from bhpe_compile.evaluate.synth.render import Renderer

Parts = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Rotations [J, 3, 3], shape, expression."""

EYES = 2

FEWEST = 6
"""Joints in the picture that place a body."""

LARGEST = 4096
"""Pixels of a side of what is drawn of one person; a larger one is drawn smaller and enlarged."""

PART = 64
"""Drawn parts are so many pixels wide and high, or a multiple: few sizes, few buffers."""

COLOURS = (
    (0.62, 0.74, 0.90),
    (0.93, 0.73, 0.50),
    (0.62, 0.83, 0.60),
    (0.87, 0.62, 0.76),
    (0.90, 0.85, 0.52),
    (0.66, 0.64, 0.88),
)
"""Of the first, second, ... person's mesh."""


@dataclass(frozen=True)
class Pose:
    """A posed person: rotations [J, 3, 3], shape and expression of the body, float32; where it is in the picture."""

    rotations: NDArray[np.float32]
    shape: NDArray[np.float32]
    expression: NDArray[np.float32]
    camera: Camera | None
    placement: Placement | None


def family_of(interface: Interface) -> str | None:
    """The family of bodies that a network poses, None where it poses none."""
    if interface.body is not None:
        return SMPL_X
    return None if _turned(interface) is None else SMPL


def _turned(interface: Interface) -> Output | None:
    """The output that turns SMPL's joints."""
    return next(
        (one for one in interface.outputs if one.kind == "rotation" and one.names == SMPL_JOINTS), None
    )


class Mesher:
    """Poses one body for the people a network finds."""

    skinned = True
    """Whether a mesh is the body, moved by its joints."""

    def __init__(self, body: BodyModel, interface: Interface, *, relative_hands: bool = False) -> None:
        """relative_hands: finger poses count from the body's mean hand (see `Bodies.predicted`)."""
        self.body = body
        self.interface = interface
        self.faces: NDArray[np.int64] = body.faces.numpy()
        self._relative_hands = relative_hands
        self._common = _in_common(interface)
        self._renderer: Renderer | None = None
        self._looks: dict[int, Appearance] = {}

    def pose(self, person: Person) -> Pose:
        """What the network says of a person, as the body takes it."""
        interface, outputs = self.interface, person.outputs
        names = interface.body
        if names is None:
            turned = _turned(interface)
            assert turned is not None  # open_mesher refuses other networks
            rotations = outputs[turned.name].reshape(-1, 3, 3)
            shape = next(outputs[one.name] for one in interface.outputs if one.kind == "coefficients").ravel()
            expression = np.zeros(0, np.float32)
        else:
            root, body, jaw, left, right = (outputs[name].reshape(-1, 3) for name in names.pose)
            fingers = np.concatenate((left, right))
            if self._relative_hands:
                fingers = fingers + self.body.hands_mean.numpy()
            pose = np.concatenate((root, body, jaw, np.zeros((EYES, 3)), fingers)).astype(np.float32)
            rotations = axis_angle_to_matrix(torch.from_numpy(pose)).numpy()
            shape, expression = outputs[names.shape].ravel(), outputs[names.expression].ravel()
        parts = _float(rotations), _float(shape), _float(expression)
        return Pose(*parts, *self._where(person, parts))

    def _where(self, person: Person, pose: Parts) -> tuple[Camera | None, Placement | None]:
        output, port = camera_of(self.interface), self.interface.picture
        if output is None or port is None or output.name not in person.outputs:
            return None, None
        view, values = person.picture.seen_by(port), person.outputs[output.name]
        camera, placement = (
            camera_in_picture(view, self.interface, output, values),
            place(view, output, values),
        )
        if camera is None or not self._common:
            return camera, placement
        found = self.interface.keypoints
        assert found is not None  # there are joints in common
        with torch.no_grad():
            joints = self.body.joints(*(torch.from_numpy(part)[None] for part in pose))[0].numpy()
        seen = view.keypoints(found, person.outputs[found.name])
        fitted = _fitted(
            joints[[joint for joint, _ in self._common]], seen[[k for _, k in self._common]], camera
        )
        return (camera, placement) if fitted is None else (fitted, _placement(fitted))

    def vertices(self, pose: Pose) -> NDArray[np.float32]:
        """[V, 3] metres, camera directions, not moved. InputError for values that are no numbers."""
        parts = [torch.from_numpy(part)[None] for part in (pose.rotations, pose.shape, pose.expression)]
        with torch.no_grad():
            vertices = self.body(*parts).vertices[0].numpy()
        if not np.isfinite(vertices).all():
            raise InputError("the network's pose has values that are no numbers: its weights are broken")
        return np.asarray(vertices)

    def draw(self, rgb: NDArray[np.uint8], people: Sequence[Person]) -> NDArray[np.uint8]:
        """The picture with everybody's mesh over it, those who look smallest first.

        Raises UsageError where the network says no camera, and ToolchainError where there is no OpenGL.
        """
        if camera_of(self.interface) is None:
            raise UsageError(
                "--draw mesh needs a camera, and this network says none; --mesh writes files without one"
            )
        result = rgb.copy()
        found = [
            (pose.placement.scale, index, pose)
            for index, pose in enumerate(map(self.pose, people))
            if pose.placement is not None
        ]
        for _, index, pose in sorted(found, key=lambda one: one[:2]):
            number = people[index].id
            self._draw_one(result, pose, index if number is None else number - 1)
        return result

    def _draw_one(self, result: NDArray[np.uint8], pose: Pose, number: int) -> None:
        """Draw a person into the part of the picture that it takes."""
        from bhpe_compile.evaluate.synth.camera import View
        from bhpe_compile.evaluate.synth.surface import normals

        assert pose.camera is not None
        vertices = self.vertices(pose)
        placed = (vertices + pose.camera.translation).astype(np.float32)
        if placed[:, 2].min() <= 0:
            return  # behind the camera, in part
        focal, principal = pose.camera.focal, np.array(pose.camera.principal)
        pixels = focal * placed[:, :2] / placed[:, 2:] + principal
        height, width = result.shape[:2]
        left, top = np.floor(pixels.min(0)).clip(0, (width, height)).astype(int).tolist()
        right, bottom = np.ceil(pixels.max(0) + 1).clip(0, (width, height)).astype(int).tolist()
        if right <= left or bottom <= top:
            return
        shrink = max(1.0, max(right - left, bottom - top) / LARGEST)
        across, down = (-(-round(side / shrink) // PART) * PART for side in (right - left, bottom - top))
        size = (across, down)
        view = View(focal / shrink, (principal - (left, top)) / shrink, np.zeros(3))
        drawn = self._drawer().draw(
            placed,
            normals(torch.from_numpy(vertices), self.body.faces),
            view,
            self._look(number),
            size=size,
        )
        if shrink > 1:
            whole = (round(size[0] * shrink), round(size[1] * shrink))
            drawn = np.asarray(Image.fromarray(drawn, "RGBa").resize(whole, Image.Resampling.BILINEAR))
        layer = drawn[: bottom - top, : right - left].astype(np.uint16)
        part = result[top:bottom, left:right]
        part[...] = layer[..., :3] + (part * (255 - layer[..., 3:]) + 127) // 255

    def _drawer(self) -> Renderer:
        if self._renderer is None:
            from bhpe_compile.evaluate.synth.render import Renderer

            plain = np.zeros((self.body.vertex_count, 3), np.float32)  # nothing is painted on it
            self._renderer = Renderer(self.faces, plain, plain)
        return self._renderer

    def _look(self, number: int) -> Appearance:
        colour = number % len(COLOURS)
        if colour not in self._looks:
            self._looks[colour] = _plain_look(COLOURS[colour])
        return self._looks[colour]


def _in_common(interface: Interface) -> list[tuple[int, int]]:
    """Joints of the body that the network also finds in the picture, with their places in its output; fingers are not
    used, and fewer than `FEWEST` are none."""
    found = interface.keypoints
    if found is None or interface.body is None:
        return []
    common = [
        (INDEX[name], k)
        for k, name in enumerate(found.names)
        if name in INDEX and name not in interface.skeleton.small
    ]
    return common if len(common) >= FEWEST else []


def _fitted(joints: NDArray[Any], seen: NDArray[Any], camera: Camera) -> Camera | None:
    """The camera with the translation whose pixels of `joints` [k, 3] lie nearest to `seen` [k, 2]; None for none.

    With u = (seen - principal) / focal, every joint X gives two linear equations: t_xy - u t_z = u X_z - X_xy.
    """
    u = (seen - camera.principal) / camera.focal
    if not np.isfinite(u).all() or not np.isfinite(joints).all():
        return None
    count = len(joints)
    left = np.zeros((2 * count, 3))
    left[:count, 0] = left[count:, 1] = 1
    left[:, 2] = -u.T.ravel()
    right = (u * joints[:, 2:] - joints[:, :2]).T.ravel()
    translation, _, rank, _ = np.linalg.lstsq(left, right, rcond=None)
    if rank < 3 or (joints[:, 2] + translation[2]).min() <= 0:
        return None
    return Camera(translation, camera.focal, camera.principal)


def _placement(camera: Camera) -> Placement:
    """Where a camera's origin of the body is."""
    across, down, depth = camera.translation.tolist()
    scale = camera.focal / depth
    return Placement(scale, camera.principal[0] + scale * across, camera.principal[1] + scale * down)


def _float(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)


def _plain_look(colour: tuple[float, float, float]) -> Appearance:
    """One colour, in light from above, behind the viewer; clothes and hair end where no body is."""
    from bhpe_compile.evaluate.synth.appearance import Appearance

    far = 1e3
    light = np.array([-0.35, -0.6, -0.75])
    fill = np.array([0.8, 0.1, -0.6])
    uniforms = {
        "head": (0.0, 0.0, 1.0),
        "hair": (far, far, 0.0, 0.0),
        "shirt": (far, -far, -far, 0.0),
        "trousers": (-far, far, 0.0, 0.0),
        "feet": (-far, -far, -far, 0.0),
        "opening": (-1.0, far),
        "wrinkles": (0.0, 1.0),
        "shine": 0.12,
        "skin": colour,
        "light": tuple(light / np.linalg.norm(light)),
        "light_colour": (0.62, 0.62, 0.62),
        "sky": (0.42, 0.42, 0.44),
        "ground": (0.22, 0.21, 0.2),
        "fill": tuple(fill / np.linalg.norm(fill)),
        "fill_colour": (0.12, 0.12, 0.14),
    }
    return Appearance(uniforms, None, ())


def load_body(path: Path, interface: Interface) -> BodyModel:
    """The body at `path`. InputError where the network poses none or one of another family; and as `BodyModel.load`."""
    family = family_of(interface)
    if family is None:
        raise InputError("this network says no rotations of a body, so there is no mesh")
    return BodyModel.load(path, family)

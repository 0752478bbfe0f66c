"""Meshes as files: .glb, .obj and .ply of one picture, a folder of .ply or one .glb that moves of a film.

Files have y up and z towards the viewer, in metres. A person stands where the picture shows it, measured in its own
metres from the middle of the picture; without a camera at the origin.

In the .glb that moves a person is a skeleton with a skin: glTF's skinning is the body's own, so a frame costs a
rotation a joint. The shape is one for all frames (the median); correctives of the pose, where a body has them, are left
out.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bhpe_compile.errors import ToolchainError, UsageError
from bhpe_compile.evaluate.synth.rotations import axis_angle
from bhpe_compile.files import write_atomically
from bhpe_compile.runtime.film import Frame
from bhpe_compile.runtime.rotations import from_axis_angle
from bhpe_compile.runtime.stream import Person

if TYPE_CHECKING:
    from bhpe_compile.evaluate.meshes import Mesher, Pose

SUFFIXES = (".glb", ".obj", ".ply")

TURN = np.array([1.0, -1.0, -1.0])
"""Camera directions (y down, z forward) times this are those of files."""

WEIGHTS = 4
"""Joints in one set of glTF's weights; a skin has two."""

Array = NDArray[Any]


class Writer(Protocol):
    """Takes the people of frames, in order."""

    def add(self, frame: Frame, people: Sequence[Person]) -> None: ...

    def close(self) -> None: ...


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise ToolchainError(f"writing meshes needs the package {name}: pip install '.[mesh]'") from None


def place_of(pose: Pose, width: int, height: int) -> NDArray[np.float64]:
    """[3] metres, camera directions: where a person stands, from the middle of the picture."""
    if pose.placement is None:
        return np.zeros(3)
    across, down = pose.placement.x - (width - 1) / 2, pose.placement.y - (height - 1) / 2
    return np.array([across, down, 0.0]) / pose.placement.scale


def _standing(mesher: Mesher, person: Person) -> NDArray[np.float64]:
    """[V, 3] of a person as files have it."""
    pose = mesher.pose(person)
    height, width = person.picture.rgb.shape[:2]
    return np.asarray((mesher.vertices(pose) + place_of(pose, width, height)) * TURN)


def to_file(mesher: Mesher, people: Sequence[Person], path: Path) -> bytes:
    """Everybody's mesh; in a .glb each is an object of its own. UsageError for another suffix, and for nobody."""
    trimesh = _library("trimesh")
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise UsageError(f"{path}: meshes are written as {', '.join(SUFFIXES)}")
    if not people:
        raise UsageError(f"{path}: there is nobody in the picture, so there is no mesh")
    meshes = {
        f"person-{k + 1 if one.id is None else one.id}": trimesh.Trimesh(
            _standing(mesher, one), mesher.faces, process=False
        )
        for k, one in enumerate(people)
    }
    whole = trimesh.Scene(meshes) if kind == ".glb" else trimesh.util.concatenate(list(meshes.values()))
    written = whole.export(file_type=kind[1:])
    return written.encode() if isinstance(written, str) else bytes(written)


def writer(mesher: Mesher, path: Path, rate: float) -> Writer:
    """A folder, or one .glb that moves, by the suffix of `path`. UsageError for another suffix."""
    if path.suffix.lower() == ".glb" and not mesher.skinned:
        raise UsageError(f"{path}: meshes that are decoded have no joints to move: name a folder of .ply")
    if path.suffix.lower() == ".glb":
        return _Film(mesher, path, rate)
    if path.suffix or path.is_file():
        raise UsageError(f"{path}: a film's meshes are a folder of .ply, or one .glb")
    _library("trimesh")
    return _Folder(mesher, path)


class _Folder:
    """FRAME-PERSON.ply."""

    def __init__(self, mesher: Mesher, folder: Path) -> None:
        self._mesher, self._folder = mesher, folder

    def add(self, frame: Frame, people: Sequence[Person]) -> None:
        for index, one in enumerate(people):
            number = index + 1 if one.id is None else one.id
            path = self._folder / f"{frame.number:06d}-{number}.ply"
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                write_atomically(path, to_file(self._mesher, [one], path))
            except OSError as error:
                raise UsageError(f"{path}: cannot be written ({error.strerror})") from error

    def close(self) -> None:
        pass


@dataclass
class _Moves:
    """What a person did: times [n], rotations [n, J, 4], places [n, 3], shapes."""

    times: list[float] = field(default_factory=list)
    rotations: list[Array] = field(default_factory=list)
    places: list[Array] = field(default_factory=list)
    shapes: list[Array] = field(default_factory=list)
    expressions: list[Array] = field(default_factory=list)


class _Film:
    """One .glb; it is written at the end. What is kept of a frame is a kilobyte a person."""

    def __init__(self, mesher: Mesher, path: Path, rate: float) -> None:
        self._gltf = _library("pygltflib")
        self._mesher, self._path, self._rate = mesher, path, rate
        self._people: dict[int, _Moves] = {}
        self._end = 0.0

    def add(self, frame: Frame, people: Sequence[Person]) -> None:
        time = frame.number / self._rate if frame.time is None else frame.time
        self._end = time
        for index, one in enumerate(people):
            pose = self._mesher.pose(one)
            moves = self._people.setdefault(index + 1 if one.id is None else one.id, _Moves())
            height, width = frame.rgb.shape[:2]
            moves.times.append(time)
            turned = from_axis_angle(axis_angle(pose.rotations.astype(np.float64)))
            if (
                moves.rotations
            ):  # q and -q are one rotation: the nearer one is where a viewer turns the shorter way
                turned = np.where((turned * moves.rotations[-1]).sum(1, keepdims=True) < 0, -turned, turned)
            moves.rotations.append(turned.astype(np.float32))
            moves.places.append(place_of(pose, width, height))
            moves.shapes.append(pose.shape)
            moves.expressions.append(pose.expression)

    def close(self) -> None:
        if not self._people:
            return
        built = _Glb(self._gltf)
        for number, moves in sorted(self._people.items()):
            self._person(built, number, moves)
        try:
            write_atomically(self._path, built.to_bytes())
        except OSError as error:
            raise UsageError(f"{self._path}: cannot be written ({error.strerror})") from error

    def _person(self, glb: _Glb, number: int, moves: _Moves) -> None:
        """A node that turns camera directions, its skeleton below, its skin, and how they move."""
        body = self._mesher.body
        shape, expression = (
            torch.from_numpy(np.median(np.stack(one), axis=0).astype(np.float32))
            for one in (moves.shapes, moves.expressions)
        )
        count = len(body.parents)
        still = torch.eye(3).repeat(1, count, 1, 1)
        with torch.no_grad():
            rest = body(still, shape[None], expression[None])
        vertices, joints = rest.vertices[0].numpy(), rest.joints[0].numpy().astype(np.float64)
        names = getattr(body, "joint_names", ())
        base = len(glb.nodes)
        top, first, skin_node = base, base + 1, base + 1 + count
        gltf = self._gltf
        glb.nodes.append(
            gltf.Node(name=f"person-{number}", rotation=[1.0, 0.0, 0.0, 0.0], children=[first, skin_node])
        )
        for joint, parent in enumerate(body.parents):
            offset = joints[joint] - (joints[parent] if parent >= 0 else 0.0)
            children = [first + k for k, one in enumerate(body.parents) if one == joint]
            name = names[joint] if joint < len(names) else str(joint)
            glb.nodes.append(
                gltf.Node(name=f"{name}-{number}", translation=offset.tolist(), children=children or None)
            )
        inverse = np.tile(np.eye(4), (count, 1, 1))
        inverse[:, :3, 3] = -joints
        skin = glb.add_skin(
            gltf.Skin(
                joints=[first + k for k in range(count)],
                skeleton=first,
                inverseBindMatrices=glb.accessor(inverse.transpose(0, 2, 1).astype(np.float32), "MAT4"),
            )
        )
        mesh = glb.add_mesh(self._skin_mesh(glb, vertices, body.weights.numpy(), f"person-{number}"))
        glb.nodes.append(gltf.Node(name=f"skin-{number}", mesh=mesh, skin=skin))
        glb.roots.append(top)
        times = glb.accessor(np.array(moves.times, np.float32), "SCALAR", bounds=True)
        rotations = np.stack(moves.rotations)
        for joint in range(count):
            glb.animate(
                times,
                first + joint,
                "rotation",
                glb.accessor(np.ascontiguousarray(rotations[:, joint]), "VEC4"),
            )
        places = np.stack(moves.places) + joints[0]
        glb.animate(times, first, "translation", glb.accessor(places.astype(np.float32), "VEC3"))
        seen = _seen(moves.times, self._end, 1.5 / self._rate)
        if seen is not None:
            moments = glb.accessor(seen[0], "SCALAR", bounds=True)
            glb.animate(moments, first, "scale", glb.accessor(seen[1], "VEC3"), "STEP")

    def _skin_mesh(self, glb: _Glb, vertices: Array, weights: Array, name: str) -> Any:
        """Vertices with their two sets of four joints and weights."""
        gltf = self._gltf
        order = np.argsort(-weights, axis=1)[:, : 2 * WEIGHTS]
        chosen = np.take_along_axis(weights, order, 1)
        chosen = np.where(chosen > 0, chosen, 0)
        chosen = (chosen / chosen.sum(1, keepdims=True)).astype(np.float32)
        order = np.where(chosen > 0, order, 0).astype(np.uint16)
        attributes = gltf.Attributes(
            POSITION=glb.accessor(vertices.astype(np.float32), "VEC3", bounds=True, target=gltf.ARRAY_BUFFER)
        )
        for k in range(2):
            part = slice(k * WEIGHTS, (k + 1) * WEIGHTS)
            setattr(attributes, f"JOINTS_{k}", glb.accessor(np.ascontiguousarray(order[:, part]), "VEC4"))
            setattr(attributes, f"WEIGHTS_{k}", glb.accessor(np.ascontiguousarray(chosen[:, part]), "VEC4"))
        faces = glb.accessor(
            self._mesher.faces.astype(np.uint32).ravel(), "SCALAR", target=gltf.ELEMENT_ARRAY_BUFFER
        )
        return gltf.Mesh(name=name, primitives=[gltf.Primitive(attributes=attributes, indices=faces)])


def _seen(times: Sequence[float], end: float, gap: float) -> tuple[Array, Array] | None:
    """Moments and sizes (1 seen, 0 not) of a person who is not seen all the time; None for one who is."""
    moments: list[tuple[float, float]] = [] if times[0] <= gap else [(0.0, 0.0)]
    moments.append((times[0], 1.0))
    for before, after in pairwise(times):
        if after - before > gap:
            moments += [(before + gap / 2, 0.0), (after, 1.0)]
    if end - times[-1] > gap:
        moments.append((times[-1] + gap / 2, 0.0))
    if len(moments) == 1:
        return None
    return np.array([t for t, _ in moments], np.float32), np.array([[s] * 3 for _, s in moments], np.float32)


class _Glb:
    """A file in the making: arrays go into one buffer."""

    def __init__(self, gltf: Any) -> None:
        self._gltf = gltf
        self.nodes: list[Any] = []
        self.roots: list[int] = []
        self._document = gltf.GLTF2(asset=gltf.Asset(generator="bhpe-compile"))
        self._animation = gltf.Animation(name="film")
        self._data = io.BytesIO()

    def accessor(self, array: Array, kind: str, *, bounds: bool = False, target: int | None = None) -> int:
        """The number of an array in the file; `bounds`: with its smallest and largest values."""
        gltf, document = self._gltf, self._document
        types = {"float32": gltf.FLOAT, "uint16": gltf.UNSIGNED_SHORT, "uint32": gltf.UNSIGNED_INT}
        self._data.write(bytes(-self._data.tell() % 4))
        content = np.ascontiguousarray(array).tobytes()
        document.bufferViews.append(
            gltf.BufferView(buffer=0, byteOffset=self._data.tell(), byteLength=len(content), target=target)
        )
        self._data.write(content)
        made = gltf.Accessor(
            bufferView=len(document.bufferViews) - 1,
            componentType=types[array.dtype.name],
            count=len(array),
            type=kind,
        )
        if bounds:
            made.min, made.max = (np.atleast_1d(edge).tolist() for edge in (array.min(0), array.max(0)))
        document.accessors.append(made)
        return len(document.accessors) - 1

    def add_skin(self, skin: Any) -> int:
        self._document.skins.append(skin)
        return len(self._document.skins) - 1

    def add_mesh(self, mesh: Any) -> int:
        self._document.meshes.append(mesh)
        return len(self._document.meshes) - 1

    def animate(self, times: int, node: int, path: str, values: int, how: str = "LINEAR") -> None:
        """Move what `path` names of a node."""
        gltf, animation = self._gltf, self._animation
        animation.samplers.append(gltf.AnimationSampler(input=times, output=values, interpolation=how))
        target = gltf.AnimationChannelTarget(node=node, path=path)
        animation.channels.append(gltf.AnimationChannel(sampler=len(animation.samplers) - 1, target=target))

    def to_bytes(self) -> bytes:
        """The .glb."""
        gltf, document = self._gltf, self._document
        document.nodes = self.nodes
        document.scenes, document.scene = [gltf.Scene(nodes=self.roots)], 0
        document.animations = [self._animation]
        data = self._data.getvalue()
        document.buffers = [gltf.Buffer(byteLength=len(data))]
        document.set_binary_blob(data)
        return b"".join(document.save_to_bytes())

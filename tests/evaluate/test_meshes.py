"""Meshes: the body is posed as the network says, stands where it says, and files hold the same people."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bhpe_compile.cli.meshes import open_mesher
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.mesh_files import to_file, writer
from bhpe_compile.evaluate.meshes import Mesher, load_body
from bhpe_compile.networks.cliff.description import NETWORK as CLIFF
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.hmr.description import NETWORK as SPIN
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.film import Frame
from bhpe_compile.runtime.picture import Picture
from bhpe_compile.runtime.stream import Person
from tests.evaluate.bodies import random_fields, write

TINY = NETWORK.interface("tiny")
RGB = np.full((480, 640, 3), 90, np.uint8)
PICTURE = Picture(RGB, (150.0, 20.0, 200.0, 400.0))

SMPL_PARENTS = (0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)


def smpl_fields(vertices: int = 70) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(3)
    weights, regressor = rng.random((vertices, 24)) ** 8, rng.random((24, vertices)) ** 8
    return {
        "v_template": rng.normal(size=(vertices, 3)) * 0.4,
        "f": rng.integers(0, vertices, (100, 3)).astype(np.uint32),
        "shapedirs": rng.normal(size=(vertices, 3, 10)) * 0.01,
        "posedirs": rng.normal(size=(vertices, 3, 207)) * 0.002,
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, *SMPL_PARENTS[1:]], range(24)], np.uint32),
    }


def outputs_of(interface: Interface, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """A person in front of the camera: small rotations, joints anywhere."""
    rng = np.random.default_rng(seed)
    found = {}
    for one in interface.outputs:
        values = rng.normal(0, 0.3, one.shape)
        if one.kind == "rotation":
            values = Rotation.from_rotvec(rng.normal(0, 0.3, (24, 3))).as_matrix()[None]
        elif one.kind == "camera":
            values = np.array([[0.1, 0.2, 20.0] if one.focal else [0.9, 0.1, -0.1]])
        elif one.kind == "keypoints":
            values = rng.uniform(0, 8, one.shape)
        found[one.name] = values.astype(np.float32)
    return found


def person(interface: Interface, seed: int = 0, **given: Any) -> Person:
    return Person(PICTURE, outputs_of(interface, seed) | given)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> BodyModel:
    return BodyModel.load(write(tmp_path_factory.mktemp("body") / "body.npz", random_fields()))


def test_the_body_is_posed_joint_by_joint(body: BodyModel) -> None:
    someone = person(TINY)
    pose = Mesher(body, TINY).pose(someone)
    names = body.joint_names
    for name, values in (("smplx_root_pose", ["pelvis"]), ("smplx_lhand_pose", names[25:40])):
        vectors = someone.outputs[name].reshape(-1, 3)
        expected = Rotation.from_rotvec(vectors).as_matrix()
        np.testing.assert_allclose(pose.rotations[[names.index(one) for one in values]], expected, atol=1e-6)
    np.testing.assert_array_equal(pose.rotations[23:25], np.tile(np.eye(3), (2, 1, 1)))  # the eyes
    with_mean = Mesher(body, TINY, relative_hands=True).pose(someone)
    fingers = np.concatenate([someone.outputs[f"smplx_{side}hand_pose"].reshape(-1, 3) for side in "lr"])
    expected = Rotation.from_rotvec(fingers + body.hands_mean.numpy()).as_matrix()
    np.testing.assert_allclose(with_mean.rotations[25:], expected, atol=1e-6)


def test_joints_in_the_picture_place_the_body(body: BodyModel) -> None:
    """Joints that a camera sees exactly give that camera back, wherever the network's own is."""
    mesher = Mesher(body, TINY)
    keypoints, port = TINY.keypoints, TINY.picture
    assert keypoints is not None
    assert keypoints.grid is not None
    assert port is not None
    someone = person(TINY)
    pose = mesher.pose(someone)
    parts = [torch.from_numpy(part)[None] for part in (pose.rotations, pose.shape, pose.expression)]
    joints = body.joints(*parts)[0].numpy()
    assert pose.camera is not None
    focal, principal = pose.camera.focal, pose.camera.principal
    translation = np.array([0.3, -0.2, 31.0])
    view = PICTURE.seen_by(port)
    cells = someone.outputs["joint_img"].copy()
    for k, name in enumerate(keypoints.names):
        if name in body.joint_names and name not in TINY.skeleton.small:
            moved = joints[body.joint_names.index(name)] + translation
            pixel = focal * moved[:2] / moved[2] + principal
            cells[0, k, :2] = view.to_input(pixel) * (
                keypoints.grid[0] / port.size[1],
                keypoints.grid[1] / port.size[0],
            )
    found = mesher.pose(person(TINY, joint_img=cells)).camera
    assert found is not None
    np.testing.assert_allclose(found.translation, translation, rtol=1e-3)
    bad = np.full_like(cells, np.nan)
    own = mesher.pose(person(TINY, joint_img=bad)).camera
    assert own is not None
    np.testing.assert_allclose(own.translation, someone.outputs["cam_trans"][0], rtol=1e-5)


def test_a_network_of_smpl_poses_a_body_of_smpl(tmp_path: Path) -> None:
    fields = smpl_fields()
    path = write(tmp_path / "SMPL_NEUTRAL.npz", fields)
    interface = SPIN.interface("full")
    body = load_body(path, interface)
    mesher = Mesher(body, interface)
    someone = person(interface)
    pose = mesher.pose(someone)
    np.testing.assert_array_equal(pose.rotations, someone.outputs["rotations"][0])
    shape = someone.outputs["betas"][0].astype(np.float64)
    rest = fields["v_template"] + fields["shapedirs"] @ shape
    joints = fields["J_regressor"] @ rest
    bends = (pose.rotations[1:] - np.eye(3)).reshape(-1)
    posed = rest + fields["posedirs"] @ bends
    turns, places = [pose.rotations[0].astype(np.float64)], [joints[0]]
    for joint in range(1, 24):
        parent = SMPL_PARENTS[joint]
        turns.append(turns[parent] @ pose.rotations[joint])
        places.append(places[parent] + turns[parent] @ (joints[joint] - joints[parent]))
    expected = sum(
        fields["weights"][:, [j]] * ((posed - joints[j]) @ turns[j].T + places[j]) for j in range(24)
    )
    np.testing.assert_allclose(mesher.vertices(pose), expected, atol=1e-5)


def test_a_pickle_gives_the_same_body_and_runs_nothing(tmp_path: Path) -> None:
    """As SMPL's published file: chumpy's arrays, a sparse regressor, in the oldest protocol, and a trap."""
    import sys
    import types

    from scipy import sparse

    fields = smpl_fields()
    chumpy = types.ModuleType("chumpy.ch")
    chumpy.Ch = type("Ch", (), {"__module__": "chumpy.ch"})  # type: ignore[attr-defined]
    wrapped = chumpy.Ch()  # type: ignore[attr-defined]
    wrapped.x = fields["shapedirs"]
    content = fields | {"shapedirs": wrapped, "J_regressor": sparse.csc_matrix(fields["J_regressor"])}
    plain = load_body(write(tmp_path / "smpl.npz", fields), SPIN.interface("full"))
    for protocol in (0, 2):
        sys.modules["chumpy"] = sys.modules["chumpy.ch"] = chumpy
        try:
            (tmp_path / "smpl.pkl").write_bytes(pickle.dumps(content, protocol))
        finally:
            del sys.modules["chumpy"], sys.modules["chumpy.ch"]
        found = load_body(tmp_path / "smpl.pkl", SPIN.interface("full"))
        for name in ("v_template", "faces", "shape_dirs", "joint_regressor", "weights"):
            np.testing.assert_allclose(getattr(found, name), getattr(plain, name), atol=1e-7)
    (tmp_path / "trap.pkl").write_bytes(b"cos\nsystem\n(S'touch trapped'\ntR.")
    with pytest.raises(InputError, match=r"trap\.pkl: not a pickle of arrays"):
        load_body(tmp_path / "trap.pkl", SPIN.interface("full"))
    (tmp_path / "cut.pkl").write_bytes((tmp_path / "smpl.pkl").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut\.pkl: not a pickle"):
        load_body(tmp_path / "cut.pkl", SPIN.interface("full"))


def test_a_body_of_another_family_is_refused_by_name(tmp_path: Path) -> None:
    smpl, smplx = write(tmp_path / "a.npz", smpl_fields()), write(tmp_path / "b.npz", random_fields())
    with pytest.raises(InputError, match=r"a\.npz: is a body of SMPL \(24 joints\), and one of SMPL-X"):
        load_body(smpl, TINY)
    for network in (SPIN, CLIFF[0]):
        with pytest.raises(InputError, match=r"b\.npz: is a body of SMPL-X \(55 joints\), and one of SMPL "):
            load_body(smplx, network.interface("full"))
    with (
        pytest.raises(
            UsageError, match=r"the open body is one of SMPL-X, and spin poses SMPL: name a file of SMPL"
        ),
        open_mesher(tmp_path, None, SPIN.interface("full"), quiet=True),
    ):
        pass
    with pytest.raises(InputError, match="no rotations of a body"):
        load_body(smplx, Interface("points", "", TINY.inputs, (TINY.output("joint_img"),)))


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply"])
def test_files_hold_everybody_upright(body: BodyModel, suffix: str) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesher = Mesher(body, TINY)
    people = [person(TINY, 0), person(TINY, 1)]
    content = to_file(mesher, people, Path(f"people{suffix}"))
    loaded = trimesh.load(io.BytesIO(content), file_type=suffix[1:], process=False, maintain_order=True)
    meshes = list(loaded.geometry.values()) if suffix == ".glb" else [loaded]
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    assert sum(len(mesh.faces) for mesh in meshes) == 2 * len(body.faces)
    expected = []
    for one in people:
        pose = mesher.pose(one)
        assert pose.placement is not None
        place = np.array([pose.placement.x - 319.5, pose.placement.y - 239.5, 0]) / pose.placement.scale
        expected.append((mesher.vertices(pose) + place) * (1, -1, -1))
    np.testing.assert_allclose(vertices, np.concatenate(expected), atol=1e-4)
    with pytest.raises(UsageError, match=r"\.glb, \.obj, \.ply"):
        to_file(mesher, people, Path("people.fbx"))
    with pytest.raises(UsageError, match="nobody"):
        to_file(mesher, [], Path("people.glb"))


def test_a_film_is_a_skin_that_moves_as_the_body_does(body: BodyModel, tmp_path: Path) -> None:
    """The file's own skinning, written from glTF's rules, gives the body's vertices of each frame."""
    gltf = pytest.importorskip("pygltflib")
    # no correctives of the pose, which a skin has not; at most eight joints a vertex, as it has
    weights = torch.where(body.weights >= body.weights.topk(8, 1).values[:, -1:], body.weights, 0.0)
    plain = BodyModel(**{**vars(body), "pose_dirs": None, "weights": weights / weights.sum(1, keepdim=True)})
    mesher = Mesher(plain, TINY)
    one = outputs_of(TINY, 0)
    frames = [one | {n: outputs_of(TINY, k)[n] for n in one if n.endswith("_pose")} for k in range(3)]
    path = tmp_path / "film.glb"
    film = writer(mesher, path, 25.0)
    for number, outputs in enumerate(frames):
        film.add(
            Frame("film", number, number / 25, RGB), [Person(PICTURE, outputs, 4)] if number != 1 else []
        )
    film.close()
    document = gltf.GLTF2().load(str(path))
    data = document.binary_blob()

    def array(index: int) -> NDArray[Any]:
        accessor = document.accessors[index]
        view = document.bufferViews[accessor.bufferView]
        kind = {5126: "f4", 5123: "u2", 5125: "u4"}[accessor.componentType]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor.type]
        return np.frombuffer(data, kind, accessor.count * width, view.byteOffset).reshape(
            accessor.count, width
        )

    assert {node.name for node in document.nodes} >= {"person-4", "left_elbow-4"}
    (skin,), (animation,) = document.skins, document.animations
    parents = {child: k for k, node in enumerate(document.nodes) for child in node.children or ()}
    attributes = document.meshes[0].primitives[0].attributes
    rest = array(attributes.POSITION)
    joints = np.hstack([array(attributes.JOINTS_0), array(attributes.JOINTS_1)])
    skin_weights = np.hstack([array(attributes.WEIGHTS_0), array(attributes.WEIGHTS_1)])
    np.testing.assert_allclose(skin_weights.sum(1), 1, atol=1e-6)
    inverse = array(skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    for step, number in enumerate((0, 2)):
        moved = {}
        for channel in animation.channels:
            sampler = animation.samplers[channel.sampler]
            times = array(sampler.input).ravel()
            if channel.target.path != "scale":
                assert times[step] == pytest.approx(number / 25)
                moved[channel.target.node, channel.target.path] = array(sampler.output)[step]
            else:
                np.testing.assert_allclose(times, [0, 0.03, 0.08], atol=1e-6)
                np.testing.assert_array_equal(array(sampler.output)[:, 0], [1, 0, 1])

        def matrix(node: int, moved: dict[tuple[int, str], NDArray[Any]] = moved) -> NDArray[np.float64]:
            local = np.eye(4)
            one = document.nodes[node]
            turn = moved.get((node, "rotation"), one.rotation)
            shift = moved.get((node, "translation"), one.translation)
            local[:3, :3] = np.eye(3) if turn is None else Rotation.from_quat(turn).as_matrix()
            local[:3, 3] = 0 if shift is None else shift
            return local if node not in parents else matrix(parents[node]) @ local

        whole = np.stack([matrix(node) for node in skin.joints]) @ inverse
        points = np.concatenate([rest, np.ones((len(rest), 1))], 1)
        found = np.einsum("vj,vjab,vb->va", skin_weights, whole[joints], points)[:, :3]
        pose = mesher.pose(Person(PICTURE, frames[number]))
        assert pose.placement is not None
        place = np.array([pose.placement.x - 319.5, pose.placement.y - 239.5, 0]) / pose.placement.scale
        np.testing.assert_allclose(found, (mesher.vertices(pose) + place) * (1, -1, -1), atol=1e-4)


def test_a_drawn_mesh_covers_the_person(body: BodyModel) -> None:
    pytest.importorskip("moderngl")
    mesher = Mesher(body, TINY)
    someone = person(TINY, joint_img=np.full((1, 65, 3), np.nan, np.float32))  # its camera places it
    drawn = mesher.draw(RGB, [someone])
    changed = (drawn != RGB).any(2)
    pose = mesher.pose(someone)
    assert pose.camera is not None
    moved = mesher.vertices(pose) + pose.camera.translation
    pixels = pose.camera.focal * moved[:, :2] / moved[:, 2:] + pose.camera.principal
    rows, columns = np.nonzero(changed)
    low, high = pixels.min(0).clip(0, (639, 479)), pixels.max(0).clip(0, (639, 479))
    np.testing.assert_allclose([columns.min(), rows.min()], low, atol=2.5)  # random triangles: thin corners
    np.testing.assert_allclose([columns.max(), rows.max()], high, atol=2.5)
    assert changed.mean() > 0.01

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from bhpe_compile.errors import BhpeError, InputError, UsageError
from bhpe_compile.evaluate.body import BODY_KEYPOINTS, HAND_KEYPOINTS, BodyModel, axis_angle_to_matrix
from bhpe_compile.evaluate.skeleton import INDEX, JOINT_NAMES, KEYPOINT_NAMES, LANDMARKS
from tests.evaluate.bodies import Fields, keypoint_field, random_fields, write

Floats = NDArray[np.float64]

CLOSE = 2e-6
"""Metres: float32 against float64 for points a metre away, through a chain of ten joints."""


@pytest.fixture(scope="module")
def fields() -> Fields:
    return random_fields() | {"keypoint_vertices": keypoint_field()}


@pytest.fixture(scope="module")
def small(fields: Fields, tmp_path_factory: pytest.TempPathFactory) -> BodyModel:
    return BodyModel.load(write(tmp_path_factory.mktemp("body") / "random.npz", fields))


def random_pose(count: int, seed: int = 1, bend: float = 0.6) -> tuple[Tensor, Tensor, Tensor]:
    """Axis-angle [N,55,3], betas, expression."""
    draw = torch.Generator().manual_seed(seed)
    pose = bend * torch.randn(count, 55, 3, generator=draw)
    return pose, torch.randn(count, 10, generator=draw), torch.randn(count, 10, generator=draw)


def reference(fields: Fields, pose: Floats, betas: Floats, expression: Floats) -> tuple[Floats, Floats]:
    """One person by 4x4 matrices, joint by joint and vertex by vertex: vertices [V,3], joints [55,3]."""
    first = 300 if fields["shapedirs"].shape[2] == 400 else 10
    shaped = fields["v_template"].astype(np.float64)
    shaped = (
        shaped
        + fields["shapedirs"][..., :10] @ betas
        + fields["shapedirs"][..., first : first + 10] @ expression
    )
    rest = fields["J_regressor"] @ shaped
    turns = Rotation.from_rotvec(pose).as_matrix()
    bends = np.concatenate([(turn - np.eye(3)).reshape(-1) for turn in turns[1:]])
    posed = shaped + fields["posedirs"] @ bends
    world: list[Floats] = []
    for joint in range(55):
        local = np.eye(4)
        parent = int(fields["kintree_table"][0, joint]) if joint else -1
        local[:3, :3] = turns[joint]
        local[:3, 3] = rest[joint] - (rest[parent] if joint else 0)
        world.append(world[parent] @ local if joint else local)
    moves = []
    for joint in range(55):
        home = np.eye(4)
        home[:3, 3] = -rest[joint]
        moves.append(world[joint] @ home)
    vertices = np.empty_like(posed)
    for v, point in enumerate(posed):
        blend = sum(w * move for w, move in zip(fields["weights"][v], moves, strict=True))
        vertices[v] = (blend @ np.append(point, 1.0))[:3]
    return vertices, np.stack([matrix[:3, 3] for matrix in world])


@pytest.mark.parametrize("coefficients", [20, 400])
def test_equals_an_independent_reference(tmp_path: Path, coefficients: int) -> None:
    fields = random_fields(seed=3, coefficients=coefficients)
    model = BodyModel.load(write(tmp_path / "b.npz", fields))
    pose, betas, expression = random_pose(3)
    output = model(axis_angle_to_matrix(pose), betas, expression)
    for n in range(3):
        args = (value[n].double().numpy() for value in (pose, betas, expression))
        vertices, joints = reference(fields, *args)
        np.testing.assert_allclose(output.vertices[n], vertices, rtol=0, atol=CLOSE)
        np.testing.assert_allclose(output.joints[n], joints, rtol=0, atol=CLOSE)


def test_joints_alone_are_the_same_joints(small: BodyModel) -> None:
    pose, betas, expression = random_pose(5)
    rotations = axis_angle_to_matrix(pose)
    assert torch.equal(small.joints(rotations, betas, expression), small(rotations, betas, expression).joints)


def test_rest_pose_is_template_and_shape(small: BodyModel) -> None:
    _, betas, expression = random_pose(2)
    rotations = torch.eye(3).expand(2, 55, 3, 3)
    expected = (
        small.v_template
        + torch.einsum("nk,vdk->nvd", betas, small.shape_dirs)
        + torch.einsum("nk,vdk->nvd", expression, small.expression_dirs)
    )
    output = small(rotations, betas, expression)
    torch.testing.assert_close(output.vertices, expected, rtol=0, atol=CLOSE)
    regressed = torch.einsum("jv,nvd->njd", small.joint_regressor, expected)
    torch.testing.assert_close(output.joints, regressed, rtol=0, atol=CLOSE)


@settings(max_examples=25)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.integers(0, 1000))
def test_turning_the_root_turns_the_body(small: BodyModel, turn: list[float], seed: int) -> None:
    """Rotation about the pelvis: nothing else may depend on the root, pose correctives least of all."""
    pose, betas, expression = random_pose(1, seed)
    rotations = axis_angle_to_matrix(pose)
    extra = axis_angle_to_matrix(torch.tensor(turn))
    turned = rotations.clone()
    turned[:, 0] = extra @ rotations[:, 0]
    before, after = small(rotations, betas, expression), small(turned, betas, expression)
    pelvis = before.joints[:, :1]
    expected = (before.vertices - pelvis) @ extra.T + pelvis
    torch.testing.assert_close(after.vertices, expected, rtol=0, atol=5 * CLOSE)
    torch.testing.assert_close(
        after.joints, (before.joints - pelvis) @ extra.T + pelvis, rtol=0, atol=5 * CLOSE
    )


def test_translation_moves_everything(small: BodyModel) -> None:
    pose, betas, expression = random_pose(2)
    rotations, shift = axis_angle_to_matrix(pose), torch.tensor([[1.0, 2, 3], [0, -1, 5]])
    here, there = small(rotations, betas, expression), small(rotations, betas, expression, shift)
    torch.testing.assert_close(there.vertices, here.vertices + shift[:, None])
    torch.testing.assert_close(there.joints, here.joints + shift[:, None])


def test_gradients_agree_with_differences(small: BodyModel) -> None:
    """In float64, through rotation vectors, shape and expression; at zero angles as well."""
    double = replace(
        small,
        **{
            name: getattr(small, name).double()
            for name in (
                "v_template",
                "shape_dirs",
                "expression_dirs",
                "pose_dirs",
                "weights",
                "joint_template",
            )
        },
        joint_dirs=small.joint_dirs.double(),
    )
    pose, betas, expression = (value.double() for value in random_pose(1))
    pose[:, 20:] = 0
    probe = torch.randn(1, 90, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def value(pose: Tensor, betas: Tensor, expression: Tensor) -> Tensor:
        output = double(axis_angle_to_matrix(pose), betas, expression)
        return (output.vertices * probe).sum() + double.keypoints(output).square().sum()

    inputs = tuple(x.requires_grad_() for x in (pose, betas, expression))
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)


@given(st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_axis_angle(vector: list[float]) -> None:
    matrix = axis_angle_to_matrix(torch.tensor(vector, dtype=torch.float64))
    np.testing.assert_allclose(matrix, Rotation.from_rotvec(vector).as_matrix(), rtol=0, atol=1e-9)


def test_axis_angle_between_its_two_formulas() -> None:
    for angle in (0.0099999, 0.0100001, 1e-12, 0.0):
        vector = torch.tensor([0.0, angle, 0.0], dtype=torch.float64)
        assert axis_angle_to_matrix(vector)[0, 2].item() == pytest.approx(np.sin(angle), abs=1e-12)


def test_keypoints_are_joints_and_vertices(small: BodyModel, fields: Fields) -> None:
    assert (len(BODY_KEYPOINTS), len(HAND_KEYPOINTS), len(KEYPOINT_NAMES), len(LANDMARKS)) == (25, 20, 65, 21)
    pose, betas, expression = random_pose(2)
    output = small(axis_angle_to_matrix(pose), betas, expression)
    points = small.keypoints(output)
    assert points.shape == (2, 65, 3)
    expected = {
        **{"Pelvis": "pelvis", "R_Knee": "right_knee", "Neck": "neck", "L_Wrist": "left_wrist"},
        **{"L_Thumb_1": "left_thumb1", "R_Pinky_3": "right_pinky3", "L_Ring_2": "left_ring2"},
    }
    for keypoint, joint in expected.items():
        row = points[:, KEYPOINT_NAMES.index(keypoint)]
        assert torch.equal(row, output.joints[:, JOINT_NAMES.index(joint)]), keypoint
    for name, vertex in fields["keypoint_vertices"]:
        assert torch.equal(points[:, KEYPOINT_NAMES.index(name)], output.vertices[:, vertex]), name


def test_order_of_smplx_fingers() -> None:
    """SMPL-X has the little finger before the ring finger."""
    assert [JOINT_NAMES[25 + 3 * i] for i in range(5)] == [
        f"left_{finger}1" for finger in ("index", "middle", "pinky", "ring", "thumb")
    ]
    assert (INDEX["right_index1"], INDEX["right_thumb3"], len(JOINT_NAMES)) == (40, 54, 55)


def test_landmarks_of_a_file_without_them(fields: Fields, tmp_path: Path) -> None:
    """The smplx package's ids, if it is there, and only for a mesh that has so many vertices."""
    bare = {name: value for name, value in fields.items() if name != "keypoint_vertices"}
    model = BodyModel.load(write(tmp_path / "bare.npz", bare))
    assert model.landmarks is None
    pose, betas, expression = random_pose(1)
    with pytest.raises(
        BhpeError, match=r"names no keypoint vertices, .*(90 vertices|pip install '\.\[smplx\]')"
    ):
        model.keypoints(model(axis_angle_to_matrix(pose), betas, expression))


def test_regions_do_not_overlap(body: BodyModel) -> None:
    sets = {name: set(vertices.tolist()) for name, vertices in body.regions.items()}
    assert set(sets) == {"left_hand", "right_hand", "face"}
    assert not sets["left_hand"] & sets["right_hand"]
    assert not sets["face"] & (sets["left_hand"] | sets["right_hand"])
    place = {name: body.v_template[vertices] for name, vertices in body.regions.items()}
    wrist, neck = body.joint_template[INDEX["left_wrist"]], body.joint_template[INDEX["neck"]]
    assert (place["left_hand"][:, 0] > wrist[0] - 0.05).all()
    assert (place["right_hand"][:, 0] < -wrist[0] + 0.05).all()
    assert (place["face"][:, 1] > neck[1] - 0.05).all()
    assert len(sets["left_hand"]) == len(sets["right_hand"]) > 1000


def test_to_device(small: BodyModel) -> None:
    moved = small.to("meta")
    assert moved.v_template.device.type == moved.regions["face"].device.type == "meta"
    assert moved.parents == small.parents


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("weights", None, "field weights is missing"),
        ("hands_meanl", None, "field hands_meanl is missing"),
        ("v_template", np.zeros((90, 2)), r"v_template has shape \[90, 2\] instead of \[\?, 3\]"),
        ("v_template", np.zeros((0, 3)), "v_template has shape"),
        ("J_regressor", np.zeros((54, 90)), "J_regressor has shape"),
        ("shapedirs", np.zeros((90, 3, 12)), "has 12 coefficients"),
        ("posedirs", np.zeros((90, 3, 207)), "posedirs has shape"),
        ("weights", np.full((90, 55), np.nan), "weights holds values that are not finite"),
        ("weights", np.full((90, 55), "x"), "weights holds <U1, not numbers"),
        ("weights", np.full((90, 55), None), "weights cannot be read: holds objects, which are not read"),
        ("f", np.full((4, 3), 90), "points at vertices that do not exist"),
        ("f", np.full((4, 3), -1), "points at vertices that do not exist"),
        ("kintree_table", np.full((2, 55), 54), "is no tree"),
        ("keypoint_vertices", np.arange(21), "keypoint_vertices holds int64"),
        ("keypoint_vertices", keypoint_field()[:-1], "no valid vertex for R_Pinky_4"),
        ("keypoint_vertices", keypoint_field(900), "no valid vertex for L_Middle_4"),
    ],
)
def test_wrong_fields_are_named(
    fields: Fields, tmp_path: Path, name: str, value: NDArray[np.float64] | None, says: str
) -> None:
    changed = {k: v for k, v in fields.items() if k != name} | ({} if value is None else {name: value})
    path = write(tmp_path / "body.npz", changed)
    with pytest.raises(InputError, match=says) as caught:
        BodyModel.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_pickled_fields_that_are_not_needed_do_no_harm(fields: Fields, tmp_path: Path) -> None:
    """As published files have them; they must not even be read."""
    path = write(tmp_path / "body.npz", fields | {"joint2num": np.array({"a": _Bomb()}, object)})
    assert BodyModel.load(path).vertex_count == 90


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle was executed",))


def test_damaged_files(fields: Fields, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.npz", fields).read_bytes()
    cases = {
        "empty.npz": b"",
        "text.npz": b"a body, honestly",
        "cut.npz": whole[: len(whole) // 2],
        "flipped.npz": whole[:2000] + bytes(64) + whole[2064:],
    }
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    for name in (*cases, "one.npy"):
        with pytest.raises(InputError, match=name):
            BodyModel.load(tmp_path / name)
    with pytest.raises(UsageError, match="no such file"):
        BodyModel.load(tmp_path / "absent.npz")
    with pytest.raises(UsageError, match="is a folder"):
        BodyModel.load(tmp_path)

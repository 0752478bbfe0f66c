"""The one-euro filter: what rests is left, what trembles is calmed, what moves is followed, on the sphere as well."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bhpe_compile.errors import UsageError
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.hmr.description import NETWORK as SPIN
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.camera import camera_in_picture, camera_of, place, unplace
from bhpe_compile.runtime.picture import Picture
from bhpe_compile.runtime.rotations import between, from_axis_angle, to_axis_angle, to_matrix
from bhpe_compile.runtime.smooth import Constants, OneEuro, OneEuroRotations, Smoother

DT = 1 / 30
TINY = NETWORK.interface("tiny")
RGB = np.zeros((480, 640, 3), np.uint8)


def test_the_formula_by_hand() -> None:
    """Two steps of the paper's algorithm, written out."""
    smooth = OneEuro(Constants(1.0, 0.5))
    assert smooth(np.array([2.0]), DT).tolist() == [2.0]

    def gain(cutoff: float) -> float:
        return 1 / (1 + 1 / (2 * np.pi * cutoff * DT))

    speed = gain(1.0) * (3.0 - 2.0) / DT
    expected = 2.0 + gain(1.0 + 0.5 * abs(speed)) * 1.0
    np.testing.assert_allclose(smooth(np.array([3.0]), DT), [expected])
    speed += gain(1.0) * ((1.0 - expected) / DT - speed)
    expected += gain(1.0 + 0.5 * abs(speed)) * (1.0 - expected)
    np.testing.assert_allclose(smooth(np.array([1.0]), DT), [expected])


def test_trembling_is_calmed_and_motion_is_followed() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 300)
    smooth = OneEuro(Constants())
    rest = np.array([smooth(np.array([value]), DT)[0] for value in noise])
    assert rest[50:].std() < 0.5 * noise[50:].std()
    moving = OneEuro(Constants())
    ramp = np.arange(300) * DT  # one height a second
    lag = ramp[-1] - [moving(np.array([value]), DT)[0] for value in ramp][-1]
    # the speed is measured from the smoothed value, so it is 1 + tau / dt: tau (2.5 + tau / dt) = 1 / (2 pi)
    tau = DT / 2 * (np.sqrt(2.5**2 + 4 / (2 * np.pi * DT)) - 2.5)
    assert lag == pytest.approx(tau, rel=1e-3) == pytest.approx(0.0422, abs=1e-4)
    assert lag < Constants().lag == pytest.approx(0.1061, abs=1e-4)


def test_constants() -> None:
    for cutoff, speed in ((0, 1), (-1, 1), (1, -1), (float("nan"), 1)):
        with pytest.raises(UsageError, match="smoothing"):
            Constants(cutoff, speed)


def test_quaternions_against_scipy() -> None:
    vectors = np.random.default_rng(0).normal(0, 1.5, (50, 3))
    q = from_axis_angle(vectors)
    np.testing.assert_allclose(to_matrix(q), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(to_axis_angle(q), Rotation.from_quat(q).as_rotvec(), atol=1e-12)
    np.testing.assert_allclose(from_axis_angle(np.zeros((1, 3))), [[0, 0, 0, 1]])
    np.testing.assert_allclose(to_axis_angle(np.array([[0.0, 0, 0, 1]])), np.zeros((1, 3)))
    half = between(
        from_axis_angle(np.array([[0.2, 0, 0]])), -from_axis_angle(np.array([[0.6, 0, 0]])), np.array([0.5])
    )
    np.testing.assert_allclose(to_axis_angle(half), [[0.4, 0, 0]], atol=1e-12)


def test_rotations_take_the_shorter_way() -> None:
    """Around pi axis-angle jumps to the other side; the sphere does not."""
    smooth = OneEuroRotations(Constants())
    for step in range(60):
        angle = np.pi - 0.1 + 0.2 * step / 60
        vector = Rotation.from_rotvec([[angle, 0, 0]]).as_rotvec()
        found = smooth(from_axis_angle(vector), DT)
        off = (Rotation.from_quat(found).inv() * Rotation.from_rotvec(vector)).magnitude()
        assert off[0] < 0.05


def outputs_of(interface: Interface, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {
        one.name: rng.normal(0, 0.1, one.shape).astype(np.float32) for one in interface.outputs if one.shape
    }
    for name, kind in ((one.name, one.kind) for one in interface.outputs):
        if kind == "camera":
            found[name] = np.array([[0.1, 0.2, 20.0]], np.float32)
        if kind == "keypoints":
            found[name] = rng.uniform(0, 8, found[name].shape).astype(np.float32)
    return found


def test_a_moving_box_moves_nobody() -> None:
    """Joints that rest in the picture rest, though the crop, and with it every number, moves."""
    smooth = Smoother(TINY)
    output, port = TINY.keypoints, TINY.picture
    assert output is not None
    assert port is not None
    points = np.random.default_rng(0).uniform(100, 300, (65, 2))
    for step in range(20):
        picture = Picture(RGB, (50.0 + 7 * step, 20.0, 200.0 + step, 400.0 + 2 * step))
        view = picture.seen_by(port)
        values = outputs_of(TINY, 1)
        grid = output.grid
        assert grid is not None
        cells = view.to_input(points) * (grid[0] / port.size[1], grid[1] / port.size[0])
        values[output.name][0, :, :2] = cells
        found = smooth(1, step * DT, picture, values)
        np.testing.assert_allclose(view.keypoints(output, found[output.name]), points, atol=1e-3)
        for name, array in values.items():
            assert found[name].shape == array.shape
            assert found[name].dtype == array.dtype


def test_people_do_not_mix_and_old_ones_are_forgotten() -> None:
    smooth = Smoother(TINY)
    picture = Picture(RGB, (50.0, 20.0, 200.0, 400.0))
    first, second = outputs_of(TINY, 1), outputs_of(TINY, 2)
    for step in range(3):
        one = smooth(1, step * DT, picture, first)
        two = smooth(2, step * DT, picture, second)
    for name in first:
        np.testing.assert_allclose(one[name], first[name], atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(two[name], second[name], atol=1e-4, rtol=1e-4)
    again = smooth(1, 2.0, picture, second)  # nobody for two seconds: begun anew
    for name in second:
        np.testing.assert_allclose(again[name], second[name], atol=1e-4, rtol=1e-4)
    moved = smooth(1, 2.0 + DT, picture, first)
    assert np.abs(moved["smplx_body_pose"] - first["smplx_body_pose"]).max() > 0.01


@pytest.mark.parametrize(
    ("interface", "values"), [(TINY, (0.1, -0.3, 21.0)), (SPIN.interface("full"), (0.9, 0.05, -0.1))]
)
def test_places_and_cameras(interface: Interface, values: tuple[float, float, float]) -> None:
    """`unplace` is the inverse of `place`, and both kinds of cameras put the body where `place` says."""
    picture = Picture(RGB, (150.0, 20.0, 200.0, 400.0))
    port, output = interface.picture, camera_of(interface)
    assert port is not None
    assert output is not None
    view, array = picture.seen_by(port), np.array([values], np.float32)
    found = place(view, output, array)
    assert found is not None
    np.testing.assert_allclose(unplace(view, output, found), values, rtol=1e-5)
    camera = camera_in_picture(view, interface, output, array)
    assert camera is not None
    origin = camera.focal * camera.translation[:2] / camera.translation[2] + camera.principal
    np.testing.assert_allclose(origin, (found.x, found.y), rtol=1e-9)
    assert camera.focal / camera.translation[2] == pytest.approx(found.scale)
    behind = np.array([[0.0, 0.0, -1.0]] if output.focal else [[-1.0, 0.0, 0.0]], np.float32)
    assert place(view, output, behind) is None

"""The overlay: things are drawn where they are, and bad numbers do not stop it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bhpe_compile.errors import InputError
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.interface import Input, Interface
from bhpe_compile.runtime import Picture, to_lists
from bhpe_compile.runtime import draw_overlay as draw
from bhpe_compile.runtime.overlay import draw_people, side_of

TINY = NETWORK.interface("tiny")
JOINTS = TINY.output("joint_img").names
HEIGHT, WIDTH = 512, 384

Array = NDArray[Any]


def plain(width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """A grey picture, sampled at scale 1 when it has the network's size."""
    rgb = np.full((height, width, 3), 90, np.uint8)
    return Picture(rgb, (width * 0.1, height * 0.1, width * 0.8, height * 0.8))


def draw_overlay(picture: Picture, outputs: dict[str, Array]) -> Image.Image:
    return draw(picture, outputs, TINY)


def joints(x: float, y: float) -> Array:
    """All 65 joints at one place, in heat-map cells."""
    values = np.zeros((1, 65, 3), np.float32)
    values[..., 0], values[..., 1] = x, y
    return values


def changed(picture: Picture, image: Image.Image) -> NDArray[np.bool_]:
    return np.asarray((np.asarray(image) != picture.rgb).any(axis=2))


def test_joints_lie_where_they_are_drawn() -> None:
    picture = plain()
    points = picture.seen_by(TINY.inputs[0]).keypoints(TINY.output("joint_img"), joints(2, 5))
    np.testing.assert_allclose(points, np.full((65, 2), (128, 320)))
    shown = changed(picture, draw_overlay(picture, {"joint_img": joints(2, 5)}))
    ys, xs = np.nonzero(shown[20:-20, 20:-20])  # without the frame of the region
    assert abs(xs.mean() + 20 - 128) < 1
    assert abs(ys.mean() + 20 - 320) < 1
    assert 20 < len(xs) < 500


def test_boxes_lie_where_they_are_drawn() -> None:
    picture = plain()
    box = np.array([[100, 200, 180, 300]], np.float32)
    np.testing.assert_allclose(picture.seen_by(TINY.inputs[0]).box(box), box[0], atol=1e-9)
    image = draw_overlay(picture, {"joint_img": joints(-50, -50), "face_bbox": box})
    shown = changed(picture, image)
    for x, y in ((100, 250), (180, 250), (140, 200), (140, 300)):
        assert shown[y, x]
    assert not shown[210:290, 110:170].any()


def test_size_is_that_of_the_picture() -> None:
    for width, height in ((40, 60), (2000, 900), (3000, 3000)):
        image = draw_overlay(plain(width, height), {"joint_img": joints(3, 4)})
        assert (image.size, image.mode) == ((width, height), "RGB")


def test_edges_are_smooth() -> None:
    picture = plain()
    tilted = joints(1, 1)
    tilted[0, JOINTS.index("neck"), :2] = (4, 6)
    image = np.asarray(draw_overlay(picture, {"joint_img": tilted}))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e6])
def test_numbers_that_cannot_be_drawn(value: float) -> None:
    picture = plain()
    outputs = {
        "joint_img": joints(value, 3),
        "lhand_bbox": np.array([[value, 0, 10, 10]]),
        "rhand_bbox": np.array([[300, 300, 200, 200]]),  # corners the wrong way round
    }
    assert draw_overlay(picture, outputs).size == (WIDTH, HEIGHT)


def test_skeleton() -> None:
    assert len(JOINTS) == len(set(JOINTS)) == 65
    assert [JOINTS[25 + k] for k in (4, 8, 12, 16)] == [
        f"left_{finger}1" for finger in ("index", "middle", "ring", "pinky")
    ]
    assert JOINTS[45] == "right_thumb1"
    bones = TINY.skeleton.bones
    assert {joint for bone in bones for joint in bone} == set(JOINTS)
    assert len([bone for bone in bones if bone[1] not in TINY.skeleton.small]) == 24
    assert len([bone for bone in bones if bone[1] in TINY.skeleton.small]) == 40
    for a, b in bones:
        assert {side_of(a), side_of(b)} != {"left", "right"}


def test_a_network_without_a_picture_has_nothing_to_draw_on() -> None:
    with pytest.raises(InputError, match="takes no picture"):
        draw(plain(), {}, Interface(inputs=(Input("state", (1, 4)),)))


def test_lists_are_exact_and_short() -> None:
    outputs: dict[str, Array] = {
        "a": np.array([[0.1, 1 / 3, -0.0]], np.float32),
        "b": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
        "c": np.array([[1, 2]], np.uint8),
        "d": np.ones((2, 2), np.float32),
    }
    lists = json.loads(json.dumps(to_lists(outputs)))
    assert lists["a"] == [0.1, 0.33333334, 0.0]
    assert lists["b"] == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert lists["c"] == [1, 2]
    assert lists["d"] == [[1.0, 1.0], [1.0, 1.0]]
    for name, array in outputs.items():
        np.testing.assert_array_equal(np.array(lists[name], array.dtype).reshape(array.shape), array)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_lists_hold_numbers_only(value: float) -> None:
    with pytest.raises(InputError, match="cam_trans"):
        to_lists({"cam_trans": np.array([[1, value]], np.float32)})


def test_everybody_is_drawn_and_called_by_name() -> None:
    picture = plain()
    other = Picture(picture.rgb, (10.0, 10.0, 100.0, 200.0))
    first, second = {"joint_img": joints(2, 5)}, {"joint_img": joints(3, 4)}
    both = changed(picture, draw_people(picture.rgb, [(picture, first, ""), (other, second, "")], TINY))
    alone = [changed(one, draw(one, found, TINY)) for one, found in ((picture, first), (other, second))]
    np.testing.assert_array_equal(both, alone[0] | alone[1])
    named = changed(picture, draw_people(picture.rgb, [(picture, first, "12"), (other, second, "")], TINY))
    rows, columns = np.nonzero(named & ~both)
    assert len(rows) > 30
    assert rows.max() < 40  # at the top left of the first one's region
    assert columns.max() < 60
    assert not changed(picture, draw_people(picture.rgb, [], TINY)).any()

"""Following people: identities stay where people pass, who jumps or leaves is lost, and who comes is new."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bhpe_compile.networks.interface import Crop, Input, Interface, Output
from bhpe_compile.runtime.boxes import Given
from bhpe_compile.runtime.track import PATIENCE, Track, Tracker

NAMES = tuple(f"joint{k}" for k in range(8))
INTERFACE = Interface(
    "test",
    "",
    (Input("image", (1, 3, 128, 96), "picture", Crop(1.25)),),
    (Output("joints", (1, 8, 2), "keypoints", "cells", NAMES, (96.0, 128.0)),),
)
SHAPE = np.array(
    [[0, -1], [-0.3, -0.6], [0.3, -0.6], [-0.2, 0], [0.2, 0], [-0.2, 0.9], [0.2, 0.9], [0, -0.3]]
)
SIZE = (640, 480)
RED, GREEN = (200, 30, 30), (30, 200, 30)


class World:
    """Two people as rectangles of a colour; a network that sees the nearest of them in a box."""

    def __init__(self, *people: tuple[int, int, int]) -> None:
        self.colours = people
        self.middles: list[tuple[float, float]] = [(0.0, 240.0)] * len(people)

    def joints(self, index: int) -> NDArray[np.float64]:
        return np.array(self.middles[index]) + SHAPE * 150

    @property
    def rgb(self) -> NDArray[np.uint8]:
        rgb = np.full((480, 640, 3), 90, np.uint8)
        for (x, y), colour in zip(self.middles, self.colours, strict=True):  # the last is in front
            left, right = round(max(0, x - 60)), round(min(640, x + 60))
            rgb[round(y - 160) : round(y + 160), left:right] = colour
        return rgb

    def see(self, track: Track) -> NDArray[np.float64]:
        """The joints of who stands nearest to the box's middle; whoever is nearly behind another is not seen."""
        seen = [
            index
            for index, (x, _) in enumerate(self.middles)
            if not any(abs(x - other) < 50 for other, _ in self.middles[index + 1 :])
        ]
        nearest = min(seen, key=lambda index: abs(self.middles[index][0] - track.box[0]))
        return self.joints(nearest)

    def given(self, index: int) -> Given:
        x, y = self.middles[index]
        return Given((x - 70, y - 170, 140, 340))


def test_people_who_pass_each_other_keep_their_identity() -> None:
    world, told = World(RED, GREEN), []
    tracker = Tracker(INTERFACE, told.append)
    who: dict[int, int] = {}
    for number in range(120):
        world.middles = [(100 + 3.5 * number, 240.0), (540 - 3.5 * number, 240.0)]
        tracks = tracker.begin([world.given(0), world.given(1)] if number == 0 else [], SIZE)
        found = [(track, world.see(track)) for track in tracks]
        visible = tracker.update(world.rgb, found, number)
        for track in visible:
            assert track.sight is not None
            joints = found[track.sight][1]
            person = next(k for k in range(2) if np.allclose(joints, world.joints(k)))
            assert who.setdefault(track.id, person) == person, number
    assert who == {1: 0, 2: 1}
    assert len(visible) == 2
    assert told == []


def test_somebody_who_vanishes_is_lost() -> None:
    world, told = World(RED), []
    tracker = Tracker(INTERFACE, told.append)
    for number in range(10 + PATIENCE + 1):
        world.middles = [(320.0, 240.0)]
        tracks = tracker.begin([world.given(0)] if number == 0 else [], SIZE)
        joints = world.joints(0) if number < 10 else world.joints(0) * 0.2  # small, and elsewhere
        tracker.update(world.rgb, [(track, joints) for track in tracks], number)
        assert (told == []) == (number < 10 + PATIENCE)
    assert told == [f"frame {10 + PATIENCE}: person 1 is lost"]
    assert tracker.begin([], SIZE) == []


def test_somebody_who_leaves_is_lost_and_who_comes_is_new() -> None:
    world, told = World(RED), []
    tracker = Tracker(INTERFACE, told.append)
    for number in range(60):
        world.middles = [(320.0 + 8 * number, 240.0)]
        tracks = tracker.begin([world.given(0)] if number == 0 else [], SIZE)
        tracker.update(world.rgb, [(track, world.joints(0)) for track in tracks], number)
    assert told == ["person 1 left the picture"]
    (new,) = tracker.begin([Given((100, 50, 140, 340))], SIZE)
    assert new.id == 2


def test_a_box_of_somebody_known_is_its_new_place() -> None:
    tracker = Tracker(INTERFACE)
    (first,) = tracker.begin([Given((100, 50, 140, 340))], SIZE)
    tracker.update(np.zeros((480, 640, 3), np.uint8), [(first, np.array([170, 220]) + SHAPE * 150)], 0)
    (again,) = tracker.begin([Given((110, 50, 140, 340))], SIZE)
    assert again.id == 1
    assert again.corner_box == pytest.approx((110, 50, 140, 340))
    one, two = tracker.begin([Given((400, 50, 140, 340), 7)], SIZE)
    assert (one.id, two.id) == (1, 7)
    assert tracker.begin([Given((410, 50, 140, 340), 7)], SIZE)[1] is two


def test_joints_that_are_no_numbers_are_not_followed() -> None:
    tracker = Tracker(INTERFACE)
    (track,) = tracker.begin([Given((100, 50, 140, 340))], SIZE)
    rgb = np.zeros((480, 640, 3), np.uint8)
    assert tracker.update(rgb, [(track, np.full((8, 2), np.nan))], 0) == []
    assert np.isfinite(track.box).all()


@pytest.mark.parametrize(
    ("others", "jump", "followed"), [(0, 60, True), (0, 150, False), (1, 60, False), (1, 20, True)]
)
def test_how_far_somebody_can_move_in_a_frame(others: int, jump: int, followed: bool) -> None:
    """A quarter of a height alone, a tenth where somebody else is in the crop: there networks mix people up."""
    tracker = Tracker(INTERFACE)
    rgb = np.full((480, 640, 3), 90, np.uint8)
    middles = [(320, 240), (480, 240)][: 1 + others]
    given = [Given((x - 70, y - 170, 140, 340)) for x, y in middles]
    for number in range(3):
        tracks = tracker.begin(given if number == 0 else [], SIZE)
        found = [(track, np.array(at) + SHAPE * 150) for track, at in zip(tracks, middles, strict=True)]
        visible = tracker.update(rgb, found, number)
        assert len(visible) == 1 + others
    found[0] = (found[0][0], found[0][1] - (jump, 0))
    tracker.begin([], SIZE)
    visible = tracker.update(rgb, found, 3)
    assert [track.id for track in visible] == ([1] if followed else []) + [2] * others

"""What `benchmarks/drawn_people.py` counts; MediaPipe itself has an environment of its own and is not asked."""

from __future__ import annotations

import numpy as np
from drawn_people import figures, shares
from photographs import JOINTS


def test_joints_are_counted_by_their_distance_in_sizes_of_the_body() -> None:
    places = np.stack([np.linspace(0, 100, 12), np.linspace(0, 200, 12)], 1)
    answer = {joint: [x, y, 1.0] for joint, (x, y) in zip(JOINTS, places, strict=True)}
    answer[JOINTS[0]] = [0.0, 17.0, 1.0]  # within a tenth of 182
    answer[JOINTS[1]] = [300.0, 300.0, 1.0]
    seen = np.ones((3, 12), bool)
    seen[:, 11] = False  # nobody asks for what is hidden; the size, 182, is that of the others
    joints = np.stack([places, places, places])
    counts = shares([answer, None, answer], joints, seen)
    assert counts.tolist() == [[10, 9, 11], [0, 0, 11], [10, 9, 11]]
    told = figures([answer, None, answer], counts)
    assert (told["people"], told["joints"], told["people_found"]) == (3, 33, 0.667)
    assert (told["pck"], told["pck_at_0.05"]) == (round(20 / 33, 3), round(18 / 33, 3))
    assert told["interval"][0] <= told["pck"] <= told["interval"][1]


def test_people_without_a_visible_joint_do_not_count() -> None:
    counts = shares(
        [None, None], np.zeros((2, 12, 2)) + np.arange(12)[:, None], np.eye(2, 12, dtype=bool) & False
    )
    assert counts.size == 0

"""Joints on photographs: what counts, and in which unit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

RGB = np.zeros((200, 100, 3), np.uint8)


def test_only_visible_joints_count_in_sizes_of_the_body() -> None:
    import photographs

    seen = {
        joint: [50.0, 20.0 + 10 * i, 0.9] for i, joint in enumerate(photographs.JOINTS)
    }  # 110 pixels tall
    seen[photographs.JOINTS[3]][2] = 0.5  # hidden
    seen[photographs.JOINTS[4]][0] = 100.0  # outside
    found = np.array([seen[joint][:2] for joint in photographs.JOINTS])
    found[:, 0] = 50.0
    found[0, 0] += 11.0
    found[1, 1] += 22.0
    found[3:5] += 1000.0
    apart = photographs.distances(found, seen, RGB)
    assert apart.shape == (10,)
    np.testing.assert_allclose(np.sort(apart), [0.0] * 8 + [0.1, 0.2])
    assert photographs.figures([apart, apart]) == {"people": 2, "joints": 20, "pck": 0.9, "median": 0.0}


def test_nobody_visible_says_nothing() -> None:
    import photographs

    seen = {key: [1.0, 1.0, 0.1] for key in photographs.JOINTS}
    assert photographs.distances(np.zeros((12, 2)), seen, RGB).shape == (0,)


def test_missing_photographs_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import photographs

    (tmp_path / "bus.jpg").touch()
    monkeypatch.setattr(sys, "argv", ["photographs.py", str(tmp_path), "--judge", sys.executable])
    with pytest.raises(SystemExit) as ended:
        photographs.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "vtest.avi" in said
    assert "bus.jpg" not in said

"""Networks on every target: what is measured is the difference from the file, and what was measured held."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import door_targets
import numpy as np
import pytest
from door_networks import Door

from bhpe_compile.api import compile_model
from bhpe_compile.targets import get_target, host_runs
from tests.onnx_graphs import landmarks, save


def test_the_detector_of_text_is_shown_some() -> None:
    clouds = np.zeros((1, 3, 320, 320), np.float32)
    shown = door_targets.examples(Door("ppocrv4_det", Path(), "x", (clouds,) * 4))
    assert {one.shape for one in shown} == {clouds.shape}
    assert [one.min() < -0.5 and one.max() > 0.5 for one in shown] == [True, True, False, False]
    assert not np.array_equal(*shown[:2])


@pytest.mark.skipif(not host_runs(get_target("x86")), reason="this machine does not run x86 code")
def test_the_difference_is_from_the_file_that_is_named(tmp_path: Path) -> None:
    shown = np.random.default_rng(0).standard_normal((1, 3, 32, 24)).astype(np.float32)
    right = Door("net", save(landmarks(), tmp_path / "net.onnx"), "image", (shown,))
    other = replace(right, path=save(landmarks(seed=1), tmp_path / "other.onnx"))
    compile_model(right.path, target="x86", scheme="float", output=tmp_path / "net")
    (near,) = door_targets.largest_difference(tmp_path / "net", right, (shown,)).values()
    (far,) = door_targets.largest_difference(tmp_path / "net", other, (shown,)).values()
    assert near < door_targets.AIM < 0.01 < far


def test_every_row_that_was_measured_held() -> None:
    networks = json.loads(door_targets.RESULTS.read_text())["networks"]
    rows = [row for schemes in networks.values() for found in schemes.values() for row in found.values()]
    assert len(networks) == 5
    assert all(row["must"] for row in rows)

"""`run`: a picture in, people in pixels of the photograph out, or the network's outputs as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bhpe_compile.networks.hand4whole.keypoints import KEYPOINTS
from bhpe_compile.runtime import Model
from tests.command import bhpe, inside
from tests.examples import Compiled

SIZES = {
    "smplx_root_pose": 3,
    "smplx_body_pose": 63,
    "smplx_lhand_pose": 45,
    "smplx_rhand_pose": 45,
    "smplx_jaw_pose": 3,
    "smplx_shape": 10,
    "smplx_expr": 10,
    "cam_trans": 3,
    "joint_img": 195,
    "lhand_bbox": 4,
    "rhand_bbox": 4,
    "face_bbox": 4,
}


def flatten(value: Any) -> list[float]:
    """All numbers of nested lists."""
    return [number for part in value for number in flatten(part)] if isinstance(value, list) else [value]


@pytest.fixture(scope="module")
def pose(compiled: Compiled, example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pose.json and pose.png of the example."""
    folder = tmp_path_factory.mktemp("pose")
    outcome = bhpe(
        "run",
        compiled.folder,
        example / "person.png",
        "-o",
        folder / "pose.json",
        "--overlay",
        folder / "pose.png",
    )
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout == ""
    return folder


def test_a_person_in_pixels_of_the_photograph(pose: Path) -> None:
    text = (pose / "pose.json").read_text()
    document = json.loads(text)
    (person,) = document["people"]
    assert person["box"] == [0, 0, 384, 512]
    assert list(person["joints"]) == list(KEYPOINTS)
    assert all(-512 < value < 1024 for point in person["joints"].values() for value in point)
    assert len(person["rotations"]) == 1 + 21 + 30 + 1
    assert list(person["boxes"]) == ["left hand", "right hand", "face"]
    assert set(person["camera"]) == {"translation", "focal", "principal"}
    assert set(document["units"]) == set(person)
    assert text.startswith('{\n  "network": "hand4whole"')
    assert '        "left_hip": [' in text  # a joint a line


def test_raw_outputs_as_lists(compiled: Compiled, example: Path) -> None:
    outputs = json.loads(inside("run", compiled.folder, example / "person.png", "--raw").stdout)
    assert {name: len(flatten(outputs[name])) for name in SIZES} == SIZES
    assert all(number == number for name in SIZES for number in flatten(outputs[name]))  # no NaN


def test_raw_outputs_as_arrays(compiled: Compiled, example: Path, tmp_path: Path) -> None:
    outcome = inside("run", compiled.folder, example / "person.png", "-o", tmp_path / "out.npz")
    assert (outcome.code, outcome.stdout) == (0, ""), outcome.stderr
    lists = json.loads(inside("run", compiled.folder, example / "person.png", "--raw").stdout)
    with np.load(tmp_path / "out.npz") as arrays:
        assert {name: arrays[name].shape[0] for name in arrays.files} == dict.fromkeys(SIZES, 1)
        for name in SIZES:
            np.testing.assert_array_equal(arrays[name].ravel(), np.array(flatten(lists[name]), np.float32))


def test_overlay_is_the_picture_with_marks(pose: Path, example: Path) -> None:
    with Image.open(pose / "pose.png") as overlay, Image.open(example / "person.png") as picture:
        assert overlay.format == "PNG"
        assert overlay.size == picture.size
        assert overlay.tobytes() != picture.tobytes()


def test_stdout_without_a_file(pose: Path, compiled: Compiled, example: Path) -> None:
    outcome = inside("run", compiled.folder, example / "person.png")
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout) == json.loads((pose / "pose.json").read_text())


def test_box_selects_the_person(pose: Path, compiled: Compiled, example: Path) -> None:
    whole = inside("run", compiled.folder, example / "person.png", "--box", "0,0,384,512")
    part = inside("run", compiled.folder, example / "person.png", "--box", "100,10,150,200")
    assert (whole.code, part.code) == (0, 0), whole.stderr + part.stderr
    outputs = json.loads((pose / "pose.json").read_text())
    assert json.loads(whole.stdout) == outputs
    assert json.loads(part.stdout) != outputs


def test_a_box_that_sticks_out_is_cut_and_that_is_said(compiled: Compiled, example: Path) -> None:
    outcome = inside("run", compiled.folder, example / "person.png", "--box", "100,-20,500,300", "-q")
    assert outcome.code == 0
    assert outcome.stderr == "box 100,-20,500,300 sticks out of the picture: it was cut to 100,0,284,280\n"
    assert json.loads(outcome.stdout)["people"][0]["box"] == [100, 0, 284, 280]
    fits = inside("run", compiled.folder, example / "person.png", "--box", "100,10,150,200", "-q")
    assert fits.stderr == ""
    assert json.loads(fits.stdout)["people"][0]["box"] == [100, 10, 150, 200]


def test_a_box_outside_is_refused(compiled: Compiled, example: Path) -> None:
    outcome = inside("run", compiled.folder, example / "person.png", "--box", "400,0,50,50")
    assert outcome.code == 2
    assert "lies outside" in outcome.stderr


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "0,0,0,10", "0,0,10,-1", "nan,0,1,1"])
def test_box_that_is_none(box: str, compiled: Compiled, example: Path) -> None:
    outcome = inside("run", compiled.folder, example / "person.png", "--box", box)
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1


def test_output_that_cannot_be_written(compiled: Compiled, example: Path, tmp_path: Path) -> None:
    outcome = inside("run", compiled.folder, example / "person.png", "-o", tmp_path / "no" / "pose.json")
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1


def test_threads_give_the_same_bits(compiled: Compiled) -> None:
    with Model(compiled.folder) as model:
        image = np.random.default_rng(0).random(model.inputs[0].shape).astype(np.float32)
        outputs = {}
        for threads in (1, 2, 3):
            model.threads = threads
            outputs[threads] = [model.run(image)[name].tobytes() for name in sorted(SIZES)]
    assert outputs[1] == outputs[2] == outputs[3]


def test_threads_on_the_command_line(compiled: Compiled, example: Path, pose: Path) -> None:
    for threads in ("2", "0"):
        outcome = inside("run", compiled.folder, example / "person.png", "--threads", threads)
        assert outcome.code == 0, outcome.stderr
        assert json.loads(outcome.stdout) == json.loads((pose / "pose.json").read_text())
    for threads in ("-1", "65", "many"):
        outcome = inside("run", compiled.folder, example / "person.png", "--threads", threads)
        assert outcome.code == 2
        assert "--threads" in outcome.stderr

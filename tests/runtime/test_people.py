"""People as `run` tells of them: numbers against their definitions, and networks that say less."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

import bhpe_compile
from bhpe_compile.errors import InputError
from bhpe_compile.networks.cliff.description import NETWORK as CLIFFS
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.hand4whole.training.losses import CAMERA_HEIGHT, FOCAL
from bhpe_compile.networks.hmr.description import NETWORK as SPIN
from bhpe_compile.networks.interface import Crop, Input, Interface, Output
from bhpe_compile.networks.network import Network
from bhpe_compile.runtime import Picture, describe_person, load_picture, pose_document
from bhpe_compile.runtime.people import axis_angles

INTERFACE = NETWORK.interface("tiny")
(CLIFF,) = (one for one in CLIFFS if one.name == "cliff-hr48")
PORT = Input("picture", (1, 3, 64, 48), "picture", Crop(1.0))


def outputs(seed: int = 0) -> dict[str, NDArray[Any]]:
    """What a network may return."""
    rng = np.random.default_rng(seed)
    found = {one.name: rng.normal(size=one.shape).astype(np.float32) for one in INTERFACE.outputs}
    found["joint_img"] = rng.uniform(0, 8, (1, 65, 3)).astype(np.float32)
    found["face_bbox"] = np.array([[100, 50, 180, 150]], np.float32)
    found["cam_trans"] = np.array([[0.2, -0.1, 20.0]], np.float32)
    return found


def picture(width: int = 640, height: int = 480) -> Picture:
    return load_picture(np.zeros((height, width, 3), np.uint8), (100, 50, 120, 300))


def test_everything_has_its_name_and_its_place() -> None:
    given_outputs, seen = outputs(), picture()
    person = describe_person(seen, given_outputs, INTERFACE)
    view = seen.seen_by(INTERFACE.inputs[0])
    assert person["box"] == [100, 50, 120, 300]
    keypoints = INTERFACE.output("joint_img")
    points = view.keypoints(keypoints, given_outputs["joint_img"])
    # half a hundredth: what rounding leaves
    np.testing.assert_allclose(list(person["joints"].values()), points, atol=0.0051)
    assert tuple(person["joints"]) == keypoints.names
    left, top, right, bottom = view.box(given_outputs["face_bbox"])
    np.testing.assert_allclose(person["boxes"]["face"], [left, top, right - left, bottom - top], atol=0.0051)
    body = given_outputs["smplx_body_pose"].reshape(21, 3)
    names = INTERFACE.output("smplx_body_pose").names
    np.testing.assert_allclose([person["rotations"][name] for name in names], body, atol=5.1e-7)
    np.testing.assert_allclose(
        person["coefficients"]["smplx_shape"], given_outputs["smplx_shape"][0], atol=5.1e-7
    )
    assert set(pose_document([person], INTERFACE)["units"]) == set(person)


def test_the_camera_puts_a_body_where_training_puts_it() -> None:
    """The projection of the losses, in cells of the heat map, against the camera in the photograph."""
    given_outputs, seen = outputs(), picture()
    person = describe_person(seen, given_outputs, INTERFACE)
    points = np.array([[0.3, -0.5, 0.1], [-0.2, 0.9, -0.05]])
    keypoints = INTERFACE.output("joint_img")
    rows, columns = TINY.body_cells
    turned = points + given_outputs["cam_trans"]
    cells = turned[:, :2] / turned[:, 2:] * FOCAL / CAMERA_HEIGHT * rows + (columns / 2, rows / 2)
    expected = seen.seen_by(INTERFACE.inputs[0]).keypoints(keypoints, cells[None])
    camera = person["camera"]
    found = points + camera["translation"]
    found = found[:, :2] / found[:, 2:] * camera["focal"] + camera["principal"]
    np.testing.assert_allclose(found, expected, atol=0.02)  # focal and principal are rounded to 0.01


def clifflike(given: float, focal: float | None = None) -> tuple[dict[str, Any], tuple[float, ...]]:
    """A person whose camera has this scale and shifts of 0.1 and -0.2, as CLIFF's; the box's centre, b and f."""
    interface = CLIFF.interface("full")
    seen = load_picture(np.zeros((480, 640, 3), np.uint8), (100, 50, 120, 300), focal)
    found = {one.name: np.zeros(one.shape, np.float32) for one in interface.outputs}
    found["rotations"][:] = np.eye(3)
    found["camera"] = np.array([[given, 0.1, -0.2]], np.float32)
    view = seen.seen_by(interface.inputs[0])
    x, y, w, h = seen.box
    person = describe_person(seen, found, interface)
    assert set(pose_document([person], interface)["units"]["camera"]) == {
        *("values", "translation", "focal", "principal")
    }
    return person["camera"], (x + w / 2, y + h / 2, view.scale * 256, seen.focal_length)


@pytest.mark.parametrize("focal", [None, 900.0])
def test_a_weak_camera_of_a_box_in_a_picture_becomes_the_pictures(focal: float | None) -> None:
    """CLIFF's formulas: b s metres are the picture's 2 f, and the box's centre is part of the shift."""
    camera, (cx, cy, b, f) = clifflike(0.9, focal)
    assert f == (800.0 if focal is None else focal)
    assert (camera["focal"], camera["principal"]) == (f, [320.0, 240.0])
    np.testing.assert_allclose(camera["values"], [0.9, 0.1, -0.2], atol=1e-6)
    scale = b * 0.9
    expected = [2 * (cx - 320) / scale + 0.1, 2 * (cy - 240) / scale - 0.2, 2 * f / scale]
    np.testing.assert_allclose(camera["translation"], expected, atol=1e-6)


def test_a_scale_that_no_person_has_leaves_the_values() -> None:
    assert list(clifflike(-0.1)[0]) == ["values"]


SEEN_IN_JS = """
import { describePose } from PATH;
import { readFileSync } from "node:fs";
const { network, frame, outputs } = JSON.parse(readFileSync(0, "utf8"));
for (const [name, values] of Object.entries(outputs)) outputs[name] = new Float32Array(values);
console.log(JSON.stringify(describePose(network, frame, outputs, null)));
"""


@pytest.mark.parametrize("network", [CLIFF, SPIN], ids=["the picture's", "the crop's"])
def test_javascript_says_the_same_of_a_weak_camera(network: Network) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node on this machine")
    interface, seen = network.interface("full"), picture()
    found = {one.name: np.zeros(one.shape, np.float32) for one in interface.outputs}
    found["rotations"][:] = np.eye(3)
    found["camera"] = np.array([[0.9, 0.1, -0.2]], np.float32)
    view = seen.seen_by(interface.inputs[0])
    x, y = view.affine[:, 2].tolist()
    frame = {"x": x, "y": y, "scale": view.scale, "width": 640, "height": 480, "box": seen.asked_box}
    given_js = {
        "network": interface.to_dict(),
        "frame": frame,
        "outputs": {name: values.ravel().tolist() for name, values in found.items()},
    }
    path = json.dumps((Path(bhpe_compile.__file__).parent / "artifact" / "web" / "people.js").as_uri())
    done = subprocess.run(
        ["node", "--input-type=module", "-e", SEEN_IN_JS.replace("PATH", path)],
        input=json.dumps(given_js),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == pose_document([describe_person(seen, found, interface)], interface)


def test_a_network_without_keypoints_says_none() -> None:
    interface = Interface(
        "other",
        inputs=(PORT,),
        outputs=(
            Output("rotmat", (1, 2, 3, 3), "rotation", "", ("hip", "knee")),
            Output("cam", (1, 3), "camera"),
        ),
    )
    values = Rotation.from_rotvec([[0.1, 0.2, 0.3], [2.0, -1.0, 0.5]])
    given_outputs = {
        "rotmat": values.as_matrix()[None].astype(np.float32),
        "cam": np.array([[1.0, 2.0, 3.0]], np.float32),
    }
    person = describe_person(picture(), given_outputs, interface)
    assert person["joints"] is None
    assert person["camera"] == {"values": [1.0, 2.0, 3.0]}
    assert person["boxes"] == {}
    np.testing.assert_allclose(person["rotations"]["knee"], [2.0, -1.0, 0.5], atol=1e-6)
    bare = Interface(inputs=(PORT,), outputs=(Output("points", (1, 2, 2), "keypoints"),))
    person = describe_person(picture(), {"points": np.zeros((1, 2, 2), np.float32)}, bare)
    assert list(person["joints"]) == ["0", "1"]
    assert (person["rotations"], person["camera"]) == (None, None)


@settings(max_examples=100)
@given(vector=st.tuples(*[st.floats(-2, 2)] * 3))
def test_rotation_matrices_become_axis_angle(vector: tuple[float, float, float]) -> None:
    rotation = Rotation.from_rotvec(vector)
    found = Rotation.from_rotvec(axis_angles(rotation.as_matrix())[0])
    assert (rotation.inv() * found).magnitude() < 1e-7  # of sums of float64, near half a turn


def test_half_turns_and_no_turn() -> None:
    for vector in ([0, 0, 0], [np.pi, 0, 0], [0, np.pi, 0], [0, 0, -np.pi]):
        matrix = Rotation.from_rotvec(vector).as_matrix()
        found = Rotation.from_rotvec(axis_angles(matrix)[0]).as_matrix()
        np.testing.assert_allclose(found, matrix, atol=1e-9)


def test_values_that_are_no_numbers_are_refused() -> None:
    given_outputs = outputs()
    given_outputs["smplx_jaw_pose"][0, 1] = np.nan
    with pytest.raises(InputError, match="smplx_jaw_pose with values that are no numbers"):
        describe_person(picture(), given_outputs, INTERFACE)
    with pytest.raises(InputError, match="takes no picture"):
        describe_person(picture(), {}, Interface(inputs=(Input("state", (1, 4)),)))


def test_torch_is_not_needed_for_rotations() -> None:
    """The same as torch's own conversion of the network's head."""
    from bhpe_compile.networks.layers.rotations import rotation_6d_to_axis_angle, rotation_6d_to_matrix

    six = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    expected = rotation_6d_to_axis_angle(six).numpy()
    found = axis_angles(rotation_6d_to_matrix(six).numpy())
    np.testing.assert_allclose(found, expected, atol=2e-5)  # float32 on one side

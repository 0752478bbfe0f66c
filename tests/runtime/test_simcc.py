"""Points of networks that classify columns and rows, back in the photograph."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bhpe_compile.errors import InputError
from bhpe_compile.networks.described import describe_ports
from bhpe_compile.networks.interface import POINTS, Crop, Input, Interface, Output, SimCC
from bhpe_compile.runtime import load_picture
from bhpe_compile.runtime.overlay import draw_overlay
from bhpe_compile.runtime.people import describe_person, pose_document
from bhpe_compile.runtime.simcc import with_points

ROWS, COLUMNS, SPLIT = 64, 48, 2
NAMES = ("nose", "left_wrist", "right_wrist")
INTERFACE = Interface(
    inputs=(Input("image", (1, 3, ROWS, COLUMNS), "picture", Crop(enlarge=1.0)),),
    outputs=(
        Output("across", (1, 3, SPLIT * COLUMNS), "simcc"),
        Output("down", (1, 3, SPLIT * ROWS), "simcc"),
    ),
    simcc=SimCC("across", "down", SPLIT, NAMES),
)


def peaks(places: list[tuple[float, float, float]]) -> dict[str, NDArray[np.float32]]:
    """Logits whose largest value, the third number, is at x, y in pixels of the input."""
    across = np.full((1, len(places), SPLIT * COLUMNS), -5, np.float32)
    down = np.full((1, len(places), SPLIT * ROWS), -5, np.float32)
    for index, (x, y, score) in enumerate(places):
        across[0, index, int(SPLIT * x)] = score + 1  # the smaller of the two counts
        down[0, index, int(SPLIT * y)] = score
    return {"across": across, "down": down}


OUTPUTS = peaks([(10, 20, 0.75), (24.5, 31.5, 3), (36, 12, -1)])


def test_points_and_scores() -> None:
    points = with_points(INTERFACE, OUTPUTS)[POINTS]
    np.testing.assert_array_equal(points, [[[10, 20, 0.75], [24.5, 31.5, 3], [36, 12, -1]]])
    assert with_points(Interface(), OUTPUTS) is OUTPUTS


def test_points_in_the_photograph() -> None:
    """A box of twice the input's size: a pixel of the input is two of the photograph, centres on centres."""
    picture = load_picture(np.zeros((200, 150, 3), np.uint8), (20.0, 40.0, 96.0, 128.0))
    person = describe_person(picture, OUTPUTS, INTERFACE)
    view = picture.seen_by(INTERFACE.inputs[0])
    wanted = view.to_picture(np.array([[10, 20], [24.5, 31.5]]))
    assert person["joints"] == {
        name: [round(x, 2), round(y, 2)] for name, (x, y) in zip(NAMES[:2], wanted.tolist(), strict=True)
    }
    assert np.abs(wanted - np.array([[40, 80], [69, 103]])).max() <= 1
    assert person["scores"] == {"nose": 0.75, "left_wrist": 3.0, "right_wrist": -1.0}
    assert pose_document([person], INTERFACE)["units"]["scores"] == "as the network gives them"


def test_a_point_that_is_not_there_is_not_drawn() -> None:
    picture = load_picture(np.zeros((64, 48, 3), np.uint8))
    view = picture.seen_by(INTERFACE.inputs[0])
    drawn = np.asarray(draw_overlay(picture, OUTPUTS, INTERFACE))
    for (x, y), there in zip(view.to_picture(np.array([[24.5, 31.5], [36, 12]])), (True, False), strict=True):
        assert bool(drawn[round(y), round(x)].max() > 150) is there


def test_a_description_in_toml() -> None:
    shapes = {"image": (1, 3, ROWS, COLUMNS)}, {"across": (1, 3, 96), "down": (1, 3, 128)}
    text = "\n".join(
        (
            "[outputs.across]\nkind = 'simcc'\n[outputs.down]\nkind = 'simcc'",
            "[simcc]\nx = 'across'\ny = 'down'\nnames = ['nose']",
        )
    )
    found = describe_ports("m.onnx", *shapes, None, {"bhpe.network": text})
    assert found.simcc == SimCC("across", "down", 2.0, ("nose",))
    assert found.keypoints is not None
    assert found.keypoints.names == ("nose",)
    with pytest.raises(InputError, match="simcc reads the output 'up', and no output of kind simcc"):
        describe_ports("m.onnx", *shapes, None, {"bhpe.network": text.replace("y = 'down'", "y = 'up'")})

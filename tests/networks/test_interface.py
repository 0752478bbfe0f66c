"""Inputs and outputs as data: there and back through JSON, and every kind of damage is one line that says where."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bhpe_compile.errors import InputError
from bhpe_compile.networks.interface import (
    TOLERANCES,
    UNDESCRIBED,
    BodyOutputs,
    BoxVector,
    Crop,
    Input,
    Interface,
    Output,
    Skeleton,
)
from bhpe_compile.networks.registry import networks

IMAGE = Input("image", (1, 3, 256, 192), "picture", Crop(1.1, 1.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "bgr"))
EVERYTHING = Interface(
    "example",
    "small",
    (IMAGE, Input("bbox", (1, 3), "box", vector=BoxVector(2.8, 0.24, 0.06)), Input("state", (1, 7))),
    (
        Output("pose", (1, 6), "axis-angle", "radians", ("a", "b")),
        Output("points", (1, 3, 2), "keypoints", "cells", ("a", "b", "c"), grid=(6.0, 8.5), tolerance=0.5),
        Output("face", (1, 4), "boxes", part="face", margin=1.5),
    ),
    Skeleton((("a", "b"), ("b", "c")), ("c",)),
    BodyOutputs("root", "body", "jaw", "left", "right", "shape", "expression"),
)


def through_json(interface: Interface) -> Interface:
    return Interface.from_dict(json.loads(json.dumps(interface.to_dict())))


def test_everything_comes_back_from_json() -> None:
    assert through_json(EVERYTHING) == EVERYTHING
    assert through_json(UNDESCRIBED) == UNDESCRIBED


@pytest.mark.parametrize(
    "spec", [(network.name, preset) for network in networks() for preset in network.presets], ids=":".join
)
def test_every_network_comes_back_from_json(spec: tuple[str, str]) -> None:
    name, preset = spec
    network = next(one for one in networks() if one.name == name)
    interface = network.interface(preset)
    assert (interface.network, interface.preset) == spec
    assert through_json(interface) == interface
    assert interface.inputs
    assert interface.outputs


def test_what_is_asked_of_it() -> None:
    assert EVERYTHING.picture is IMAGE
    assert IMAGE.size == (256, 192)
    assert EVERYTHING.keypoints is EVERYTHING.output("points")
    assert EVERYTHING.output("elsewhere") == Output("elsewhere")
    assert EVERYTHING.body is not None
    assert EVERYTHING.body.names == ("root", "body", "jaw", "left", "right", "shape", "expression")
    assert UNDESCRIBED.picture is None
    assert UNDESCRIBED.keypoints is None


def test_tolerances() -> None:
    """An output's own, else that of its kind; every kind has one."""
    assert EVERYTHING.output("points").bound == 0.5
    assert EVERYTHING.output("pose").bound == TOLERANCES["axis-angle"]
    for kind in TOLERANCES:
        one = Interface.from_dict({"outputs": [{"name": "x", "kind": kind}]}).outputs[0]
        assert one.bound == TOLERANCES[kind] > 0


PICTURE = {"name": "image", "shape": [1, 3, 8, 8], "kind": "picture", "crop": {}}


def with_crop(**crop: Any) -> dict[str, Any]:
    return {"inputs": [{**PICTURE, "crop": crop}]}


def with_output(**output: Any) -> dict[str, Any]:
    return {"outputs": [{"name": "y", **output}]}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "Expected `object`, got `null`"),
        ([], "Expected `object`, got `array`"),
        ({"network": 3}, r"Expected `str`, got `int` - at `\$.network`"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"inputs": {}}, r"Expected `array`, got `object` - at `\$.inputs`"),
        ({"inputs": [{"shape": [1]}]}, r"missing required field `name` - at `\$.inputs\[0\]`"),
        ({"inputs": [{"name": "x"}]}, r"missing required field `shape` - at `\$.inputs\[0\]`"),
        ({"inputs": [{"name": "x", "shape": [1, 0]}]}, r">= 1 - at `\$.inputs\[0\].shape\[1\]`"),
        ({"inputs": [{"name": "x", "shape": [1 << 40]}]}, r"<= 1048576 - at `\$.inputs\[0\].shape\[0\]`"),
        ({"inputs": [{"name": "x", "shape": [1.5]}]}, r"Expected `int`.* - at `\$.inputs\[0\].shape\[0\]`"),
        (
            {"inputs": [{"name": "x", "shape": [1], "kind": "sound"}]},
            r"'sound' - at `\$.inputs\[0\].kind`",
        ),
        ({"inputs": [{**PICTURE, "crop": None}]}, r"input image: a picture is .* - at `\$.inputs\[0\]`"),
        ({"inputs": [{**PICTURE, "shape": [1, 1, 8, 8]}]}, "input image: a picture is"),
        ({"inputs": [{**PICTURE, "shape": [2, 3, 8, 8]}]}, "input image: a picture is"),
        ({"inputs": [{**PICTURE, "shape": [3, 8, 8]}]}, "input image: a picture is"),
        ({"inputs": [{"name": "b", "shape": [1, 3], "kind": "box"}]}, "input b: a box is "),
        (
            {"inputs": [{"name": "b", "shape": [1, 4], "kind": "box", "vector": {}}]},
            "input b: a box is ",
        ),
        (
            {"inputs": [{"name": "b", "shape": [1, 3], "kind": "box", "vector": {}}]},
            "a box is told of a picture, and no input is one",
        ),
        ({"inputs": [PICTURE, PICTURE]}, "two inputs are called image"),
        (with_crop(enlarge=0), r"> 0.0 - at `\$.inputs\[0\].crop.enlarge`"),
        (with_crop(enlarge=float("nan")), r"> 0.0 - at `\$.inputs\[0\].crop.enlarge`"),
        (with_crop(divisor=-255), r"> 0.0 - at `\$.inputs\[0\].crop.divisor`"),
        (with_crop(deviation=[1, 0, 1]), r"> 0.0 - at `\$.inputs\[0\].crop.deviation\[1\]`"),
        (with_crop(mean=[0, 0]), r"length 3, got 2 - at `\$.inputs\[0\].crop.mean`"),
        (with_crop(mean=[0, 0, float("inf")]), r"<= 1000000000.0 - at `\$.inputs\[0\].crop.mean\[2\]`"),
        (with_crop(order="grb"), r"'grb' - at `\$.inputs\[0\].crop.order`"),
        (with_output(kind="hologram"), r"'hologram' - at `\$.outputs\[0\].kind`"),
        (with_output(grid=[0, 4]), r"> 0.0 - at `\$.outputs\[0\].grid\[0\]`"),
        (with_output(tolerance=0), r"> 0.0 - at `\$.outputs\[0\].tolerance`"),
        (with_output(names=[1]), r"Expected `str`, got `int` - at `\$.outputs\[0\].names\[0\]`"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "two outputs are called y"),
        ({"skeleton": {"bones": [["a"]]}}, r"length 2, got 1 - at `\$.skeleton.bones\[0\]`"),
        ({"body": {"root": "r"}}, r"missing required field `body` - at `\$.body`"),
    ],
)
def test_damage_is_one_line_that_says_where(data: object, says: str) -> None:
    with pytest.raises(InputError, match=f"^the description of the network is damaged: .*{says}") as caught:
        Interface.from_dict(data)
    assert "\n" not in str(caught.value)

"""How far outputs move: figures against their definitions, and networks that are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from bhpe_compile.compiler.agreement import (
    AT_MOST,
    Movement,
    describe,
    from_json,
    measure_agreement,
    measure_movement,
    moved_much,
    to_json,
)
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.frontends.checkpoint import load_model, save_model
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.interface import Crop, Input, Interface, Output, SimCC

PORT = Input("image", (1, 3, 64, 48), "picture", Crop(1.0))
INTERFACE = Interface(
    inputs=(PORT,),
    outputs=(
        Output("turn", (1, 6), "axis-angle"),
        Output("points", (1, 2, 3), "keypoints", grid=(12, 16)),
        Output("box", (1, 4), "boxes"),
        Output("matrix", (1, 1, 3, 3), "rotation"),
        Output("cam", (1, 3), "camera", "metres"),
        Output("shape", (1, 4), "coefficients"),
        Output("score", (1, 2, 3), "logits"),
        Output("map", (1, 2, 2), "heat-map"),
        Output("unknown", (1, 2)),
    ),
)


class Constant(nn.Module):
    """Returns the same arrays whatever it is given."""

    def __init__(self, outputs: dict[str, NDArray[Any]]) -> None:
        super().__init__()
        self.outputs = {name: torch.from_numpy(np.float32(array)) for name, array in outputs.items()}

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.outputs


ZERO = {one.name: np.zeros(one.shape, np.float32) for one in INTERFACE.outputs} | {
    "matrix": np.eye(3)[None, None],
    "map": np.ones((1, 2, 2)),
    "score": np.array([[[1.0, 0, 0], [1.0, 0, 0]]]),
}


def moved(pictures: int = 2, **changes: Any) -> dict[str, tuple[float, str, int]]:
    feeds = [{"image": np.zeros((1, 3, 64, 48), np.float32)}] * pictures
    changed = ZERO | {name: np.asarray(value) for name, value in changes.items()}
    found = measure_agreement(Constant(ZERO), Constant(changed), INTERFACE, feeds)
    return {kind: (one.value, one.unit, one.pictures) for kind, one in found.items()}


def test_the_same_network_moves_nothing() -> None:
    found = moved()
    assert list(found) == [
        *("joints", "rotations", "boxes", "camera", "coefficients", "classes", "maps", "values")
    ]
    assert all(value == 0 for value, _, _ in found.values())


def test_every_kind_in_its_unit() -> None:
    half = Rotation.from_rotvec([0, 0, np.pi / 2]).as_matrix()
    # six degrees about one axis for one of three rotations (the third is the matrix)
    found = moved(
        turn=np.array([[np.radians(6), 0, 0, 0, 0, 0]]),
        points=np.array([[[3.0, 4.0, 9.0], [0, 0, 0]]]),  # cells of 4 x 4 pixels: 20 pixels
        box=np.array([[3.0, 4.0, 0, 0]]),
        cam=np.array([[0.0, 0.0, 2.0]]),
        shape=np.array([[1.0, -1.0, 0, 0]]),
        score=np.array([[[0, 1.0, 0], [1.0, 0, 0]]]),
        map=np.full((1, 2, 2), 1.1),
    )
    assert found["joints"] == (pytest.approx(10), "pixels of the input", 2)
    assert found["rotations"] == (pytest.approx(2, rel=1e-3), "degrees", 2)
    assert found["boxes"] == (pytest.approx(2.5), "pixels of the input", 2)
    assert found["camera"] == (2, "metres", 2)
    assert found["coefficients"] == (0.5, "of order 1", 2)
    assert found["classes"] == (50, "percent", 2)
    assert found["maps"] == (pytest.approx(10, rel=1e-3), "percent", 2)
    assert found["values"] == (0, "percent", 2)
    assert moved(matrix=half[None, None])["rotations"][0] == pytest.approx(30)


def test_a_rotation_and_its_other_vector_are_the_same() -> None:
    """Near half a turn the vector may point the other way."""
    one = {"turn": np.array([[np.pi - 1e-3, 0, 0, 0, 0, 0]])}
    other = {"turn": np.array([[-np.pi + 1e-3, 0, 0, 0, 0, 0]])}
    feeds = [{"image": np.zeros((1, 3, 64, 48), np.float32)}]
    found = measure_agreement(Constant(ZERO | one), Constant(ZERO | other), INTERFACE, feeds)
    assert found["rotations"].value < 0.1


def test_a_few_pictures_are_enough() -> None:
    assert moved(pictures=50)["joints"][2] == AT_MOST
    heard: list[str] = []
    feeds = [{"image": np.zeros((1, 3, 64, 48), np.float32)}] * 2
    measure_agreement(Constant(ZERO), Constant(ZERO), INTERFACE, feeds, heard.append)
    assert heard == ["agreement, picture 1", "agreement, picture 2"]


def test_words_and_json() -> None:
    feeds = [{"image": np.zeros((1, 3, 64, 48), np.float32)}]
    changed = {"points": np.array([[[3.0, 4.0, 9.0], [3.0, 4.0, 0]]])}
    found = measure_agreement(Constant(ZERO), Constant(ZERO | changed), INTERFACE, feeds)
    assert describe(found).startswith("joints by 20 px, rotations by 0 degrees, ")
    assert describe(found).endswith("(means of 1 picture)")
    assert from_json(to_json(found)) == found
    assert from_json(None) == {}


def test_points_of_two_classifications_are_joints() -> None:
    said = Interface(
        inputs=(PORT,),
        outputs=(
            Output("x", (1, 1, 96), "simcc"),
            Output("y", (1, 1, 128), "simcc"),
            Output("codes", (1, 4)),
        ),
        simcc=SimCC("x", "y", split=2.0, names=("nose",)),
    )

    def one(x: int, y: int, code: int) -> dict[str, NDArray[Any]]:
        codes = np.array([[1, 2, 3, code]])
        return {"x": np.eye(96)[None, [x]], "y": np.eye(128)[None, [y]], "codes": codes}

    found = measure_movement(lambda _: one(10, 10, 4), lambda _: one(16, 18, 5), said, [{}])
    assert {kind: (moved.value, moved.unit) for kind, moved in found.items()} == {
        "joints": (5.0, "pixels of the input"),  # 3 across and 4 down
        "classes": (25.0, "percent"),
    }


def test_what_is_much() -> None:
    found = {
        "joints": Movement(2.0, "pixels of the input", 1),  # 64 pixels: 1.92 are the limit
        "rotations": Movement(9.0, "degrees", 1),
        "camera": Movement(1e3, "metres", 1),
        "values": Movement(31.0, "percent", 1),
    }
    assert list(moved_much(found, INTERFACE)) == ["joints", "values"]
    assert list(moved_much(found, Interface())) == ["values"]  # nothing tells how large a picture is


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("agreement") / "model.pt"
    save_model(path, initialise(Hand4Whole(TINY), 1), "hand4whole:tiny")
    return path


def test_a_compilation_compares_with_the_network_it_started_from(checkpoint: Any) -> None:
    """Binary without training moves much, 8 bits move little, float cannot differ."""
    found = {
        scheme: Compilation.of_loaded(load_model(checkpoint), CompileOptions("x86", scheme)).agreement
        for scheme in ("bidrn", "int8", "float")
    }
    assert found["float"] == {}
    for scheme in ("bidrn", "int8"):
        assert {one.pictures for one in found[scheme].values()} == {2}  # the photograph and its mirror image
    # an untrained network's rotations are near the identity: what binarizing costs shows in all of them
    assert found["bidrn"]["rotations"].value > 5 * found["int8"]["rotations"].value > 0
    assert found["bidrn"]["joints"].value > 2 * found["int8"]["joints"].value > 0


def test_nothing_to_compare_with(checkpoint: Any) -> None:
    loaded = load_model(checkpoint)
    first = Compilation.of_loaded(loaded, CompileOptions("x86"))
    bare = Compilation.of_graph(first.graph, first.inputs, CompileOptions("x86"))
    assert bare.agreement == {}

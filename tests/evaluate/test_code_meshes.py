"""Codes to vertices, against the formulas point by point, with made-up weights and tables; what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bhpe_compile.cli.meshes import Decoding, open_mesher
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.code_meshes import BOOK, CodeDecoder, read_tables
from bhpe_compile.networks.registry import get_network
from bhpe_compile.runtime import load_picture
from bhpe_compile.runtime.stream import Person
from tests.evaluate.bodies import write
from tests.evaluate.test_meshes import smpl_fields

Array = NDArray[Any]
State = dict[str, Array]

PARTS, ENTRIES, VERTICES = 6, 16, 90
POINTS = (7, 9, VERTICES)
"""Behind a layer, a pool and a layer."""

SOURCE = "decoder.pt"


def table(rng: np.random.Generator, points: int, of: int, most: int = 4) -> Array:
    """Rows of one to `most` neighbours, in a table that is one column pair wider; the rest is nobody."""
    rows = np.full((points, 1 + 2 * (most + 1)), float(of))
    for row in rows:
        count = int(rng.integers(1, most + 1))
        row[0] = count
        row[1 : 1 + 2 * count : 2] = rng.choice(of, count, replace=count > of)
        row[2::2] = rng.random(most + 1)
    return rows


def made_up(seed: int = 0) -> tuple[State, dict[int, Array]]:
    rng = np.random.default_rng(seed)
    sizes = (PARTS, *POINTS)
    tables = {2 - i: table(rng, sizes[i + 1], sizes[i]) for i in range(3)}
    state = {
        BOOK: rng.standard_normal((ENTRIES, 4)),
        "decoder.model.weights3": rng.standard_normal((2, 8 * 4)),
        "decoder.model.bias3": rng.standard_normal(8),
        "decoder.model.w_weights3": rng.standard_normal((7, 5, 2)),
        "decoder.model.p_neighbors4": rng.standard_normal((9, 5)),
        "decoder.model.weight_res4": rng.standard_normal((5, 8)),
        "decoder.model.weights5": rng.standard_normal((3, 3 * 5)),
        "decoder.model.bias5": rng.standard_normal(3),
        "decoder.model.w_weights5": rng.standard_normal((VERTICES, 5, 3)),
        "encoder.model.weights0": rng.standard_normal((1, 1)),
    }
    return {name: value.astype(np.float32) for name, value in state.items()}, tables


def by_points(state: State, tables: dict[int, Array], codes: Array) -> Array:
    """The formulas, one point and one neighbour after the other."""
    x = state[BOOK][codes].astype(np.float64)
    for number in (3, 4, 5):
        rows = tables[5 - number]
        result = []
        for p, row in enumerate(rows):
            near = [(m, int(i)) for m, i in enumerate(row[1::2]) if int(i) < len(x)]
            if number == 4:
                shares = np.abs(state["decoder.model.p_neighbors4"][p].astype(np.float64))
                total = sum(shares[m] for m, _ in near) + 1e-8
                change = state["decoder.model.weight_res4"].astype(np.float64)
                result.append(sum(shares[m] / total * (change @ x[i]) for m, i in near))
                continue
            matrices = state[f"decoder.model.weights{number}"].astype(np.float64)
            channels = len(state[f"decoder.model.bias{number}"])
            y = state[f"decoder.model.bias{number}"].astype(np.float64)
            for m, i in near:
                for w, matrix in enumerate(matrices):
                    share = float(state[f"decoder.model.w_weights{number}"][p, m, w])
                    y = y + share * matrix.reshape(channels, -1) @ x[i]
            result.append(y if number == 5 else np.where(y > 0, y, np.expm1(y)))
        x = np.array(result)
    return x


@pytest.mark.parametrize("seed", range(3))
def test_vertices_are_those_of_the_formulas(seed: int) -> None:
    """float64 on both sides, sums in another order."""
    state, tables = made_up(seed)
    codes = np.random.default_rng(seed).integers(0, ENTRIES, (1, PARTS))
    decoder = CodeDecoder(state, tables, PARTS, SOURCE)
    assert decoder.vertex_count == VERTICES
    np.testing.assert_allclose(decoder(codes), by_points(state, tables, codes[0]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({BOOK: None}, "it is no checkpoint of a Mesh-VQ-VAE"),
        ({"decoder.model.weights3": None}, "layer 3 .*the checkpoint has no weights for it"),
        ({"decoder.model.w_weights5": np.zeros((9, 5, 3))}, "layer 5 .*do not fit its table of 90 points"),
        ({"decoder.model.p_neighbors4": np.zeros((9, 2))}, "layer 4 .*its pool does not fit its table"),
        ({"decoder.model.weights5": np.zeros((3, 21))}, "layer 5 .*not of 5 channels to 3"),
        ({"decoder.model.p_neighbors5": np.zeros((90, 5))}, "layer 5 .*mixes a layer with a pool"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Array | None], says: str) -> None:
    state, tables = made_up()
    state = {name: value for name, value in {**state, **change}.items() if value is not None}
    with pytest.raises(InputError, match=rf"decoder\.pt: .*{says}"):
        CodeDecoder(state, tables, PARTS, SOURCE)


def test_tables_and_codes_out_of_range_are_refused(tmp_path: Path) -> None:
    state, tables = made_up()
    with pytest.raises(InputError, match="its table reads point 6 of 5"):
        CodeDecoder(state, tables, PARTS - 1, SOURCE)
    with pytest.raises(InputError, match="codes up to 16 are not in a book of 16"):
        CodeDecoder(state, tables, PARTS, SOURCE)(np.full(PARTS, 16))
    with pytest.raises(UsageError, match=r"holds no tables \.\.\._unpool0\.npy"):
        read_tables(tmp_path)
    (tmp_path / "connection_unpool0.npy").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"connection_unpool0\.npy: damaged"):
        read_tables(tmp_path)
    np.save(tmp_path / "connection_unpool0.npy", np.zeros((3, 4)))
    with pytest.raises(InputError, match=r"is no table of a count and pairs a row, its shape is \[3, 4\]"):
        read_tables(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    state, tables = made_up()
    folder = tmp_path / "ConnectionMatrices"
    folder.mkdir()
    for number, rows in tables.items():
        np.save(folder / f"template_unpool{number}.npy", rows)
        np.save(folder / f"template_pool{number}.npy", rows[:1])  # of the encoder: not read
    torch.save(
        {"model": {name: torch.from_numpy(one) for name, one in state.items()}, "loss": 0.5},
        tmp_path / "mesh.pt",
    )
    return {
        "decoder": tmp_path / "mesh.pt",
        "tables": folder,
        "body": write(tmp_path / "smpl.npz", smpl_fields(VERTICES)),
    }


def test_a_mesh_is_decoded_and_turned(files: dict[str, Path]) -> None:
    interface = get_network("vqhps-r50").interface("tiny")
    state, tables = made_up()
    codes = np.arange(PARTS)[None]
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
    outputs = {
        "codes": codes,
        "logits": np.zeros((1, PARTS, ENTRIES), np.float32),
        "rotation": turn[None],
        "camera": np.array([[0.9, 0.1, -0.2]], np.float32),
    }
    person = Person(load_picture(np.zeros((100, 80, 3), np.uint8)), outputs)
    decoding = Decoding(files["decoder"], files["tables"])
    with open_mesher(files["decoder"], str(files["body"]), interface, decoding, quiet=True) as mesher:
        pose = mesher.pose(person)
        got = mesher.vertices(pose)
    want = by_points(state, tables, codes[0]) @ turn.T
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    assert pose.placement is not None


@pytest.mark.parametrize("missing", ["decoder", "tables", "body"])
def test_what_is_missing_is_named(files: dict[str, Path], missing: str) -> None:
    interface = get_network("vqhps-r50").interface("tiny")
    given = {name: None if name == missing else path for name, path in files.items()}
    decoding = Decoding(given["decoder"], given["tables"])
    body = None if given["body"] is None else str(given["body"])
    with (
        pytest.raises(UsageError, match=f"tells codes of a mesh; to decode them name --{missing} "),
        open_mesher(files["decoder"], body, interface, decoding, quiet=True),
    ):
        pass

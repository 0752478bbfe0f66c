"""Movement under changes that nobody sees: who answers the same stands still, who reads pixels moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.errors import BudgetError, UsageError
from bhpe_compile.evaluate.dataset import SynthDataset
from bhpe_compile.evaluate.evaluate import Examples, open_body
from bhpe_compile.evaluate.gate import require_still
from bhpe_compile.evaluate.jitter import FILM, PERTURBATIONS, UNITS, jitter, perturbed
from bhpe_compile.evaluate.people import Bodies, Outputs
from bhpe_compile.evaluate.subjects import Inputs
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.interface import Interface
from tests.evaluate.made_up import MadeUpSet, write_body, write_set

INTERFACE = NETWORK.interface("tiny")
FLOAT32 = 1e-3


@dataclass
class Reader:
    """Turns the first joint by `turn` times the picture's mean value; its boxes never move."""

    turn: float = 0.0
    name: str = "reader"
    executed: str = "test"
    relative_hands: bool = False
    interface: Interface = field(default_factory=lambda: INTERFACE)

    def predict(self, inputs: Inputs) -> Outputs:
        (image,) = inputs.values()
        outputs = {one.name: np.zeros((len(image), *one.shape[1:]), np.float32) for one in INTERFACE.outputs}
        assert INTERFACE.body is not None
        outputs[INTERFACE.body.body][:, 0] = self.turn * image.mean((1, 2, 3))
        return outputs


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Bodies:
    return open_body(write_body(tmp_path_factory.mktemp("body") / "body.npz"))


@pytest.fixture(scope="module")
def films(bodies: Bodies, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Two films of three frames; in a made-up set neighbours are strangers, so the person moves a lot."""
    folder = write_set(tmp_path_factory.mktemp("films") / "set", bodies.body.source, 6, film=3)
    return Examples(SynthDataset(folder), bodies, 6, 3)


def pictures(count: int = 4) -> np.ndarray:
    return np.stack([MadeUpSet().image(i) for i in range(count)])


def test_who_answers_the_same_stands_still(bodies: Bodies) -> None:
    (row,) = jitter([Reader()], Examples(MadeUpSet(), bodies, 5, 2))
    assert set(row.moved) == set(PERTURBATIONS)
    for name, quantities in row.moved.items():
        assert set(quantities) == set(UNITS)
        assert len(quantities["mesh_mm"]) == 5
        np.testing.assert_allclose(quantities["mesh_mm"], 0, atol=FLOAT32)
        # the boxes did not follow a picture that moved by a pixel
        np.testing.assert_allclose(quantities["box_px"], 1.0 if name == "shift1" else 0.0, atol=1e-6)
    assert row.figure == pytest.approx(0, abs=FLOAT32)


def test_who_reads_pixels_moves_and_the_more_the_stronger(bodies: Bodies) -> None:
    examples = Examples(MadeUpSet(), bodies, 5, 2)
    weak, strong = (row.figure for row in jitter([Reader(100.0), Reader(200.0)], examples))
    assert 0 < weak < strong
    require_still(jitter([Reader(100.0)], examples), weak + 1e-6)
    with pytest.raises(BudgetError, match=r"reader: the mesh moves by .* mm .* allowed are 0\.0001 mm"):
        require_still(jitter([Reader(100.0)], examples), 1e-4)


def test_a_film_counts_what_the_person_did_not_do(bodies: Bodies, films: Examples) -> None:
    (row,) = jitter([Reader()], Examples(MadeUpSet(), bodies, 2), films)
    assert len(row.moved[FILM]["mesh_mm"]) == 4  # two pairs a film; films are not compared with each other
    truth = [film.truth for film in films]
    joints = truth[0].joints[:2].astype(np.float64)
    vertices = truth[0].vertices[:2] - joints[:, :1]
    moved = np.linalg.norm(vertices[1] - vertices[0], axis=1).mean() * 1000
    assert row.moved[FILM]["mesh_mm"][0] == pytest.approx(moved, rel=1e-6)  # the answer stood still


def test_a_set_without_films_is_refused(bodies: Bodies) -> None:
    with pytest.raises(UsageError, match="has no films; draw some with `data synth --film`"):
        jitter([], Examples(MadeUpSet(), bodies, 2), Examples(MadeUpSet(), bodies, 2))


def test_one_level_is_one_level() -> None:
    before = pictures().astype(int)
    change = perturbed(pictures(), 0, "one_level", 0).astype(int) - before
    inside = (before > 0) & (before < 255)
    shares = [float((change[inside] == k).mean()) for k in (-1, 0, 1)]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.01)


def test_noise_has_its_deviation_and_a_shift_is_a_pixel() -> None:
    before = np.full((1, 64, 64, 3), 100, np.uint8)
    assert perturbed(before, 0, "sigma3", 0).std() == pytest.approx(3, rel=0.05)
    shifted = perturbed(pictures(1), 0, "shift1", 0)
    np.testing.assert_array_equal(shifted[0, 1:, 1:], pictures(1)[0, :-1, :-1])
    coarse = np.abs(perturbed(pictures(1), 0, "jpeg90", 0).astype(int) - pictures(1))
    assert 0 < coarse.mean() < 20


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_it_depends_on_the_person_and_the_seed_alone(name: str) -> None:
    together = perturbed(pictures(), 0, name, 1)
    np.testing.assert_array_equal(together[2:], perturbed(pictures()[2:], 2, name, 1))
    if name in ("one_level", "sigma3"):
        assert (together != perturbed(pictures(), 0, name, 2)).any()


def test_figures(bodies: Bodies, tmp_path: Path) -> None:
    (row,) = jitter([Reader(100.0)], Examples(MadeUpSet(), bodies, 5))
    values = row.moved["one_level"]["mesh_mm"]
    found = row.figures()["one_level"]["mesh_mm"]
    assert found == {
        "median": pytest.approx(np.median(values)),
        "mean": pytest.approx(values.mean()),
        "p90": pytest.approx(np.percentile(values, 90)),
    }

"""Version 3 of the generator: the people of version 2, where their labels are. Needs OpenGL through EGL."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bhpe_compile.errors import ToolchainError, UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.dataset import LABEL_FIELDS
from bhpe_compile.evaluate.open import open_dataset
from bhpe_compile.evaluate.synth import store
from bhpe_compile.evaluate.synth.generate import generate
from bhpe_compile.evaluate.synth.person import Generator, Person
from bhpe_compile.evaluate.synth.photo import painter as module
from bhpe_compile.evaluate.synth.photo.painter import PhotoPainter
from bhpe_compile.evaluate.synth.photo.scenery import find_backgrounds
from bhpe_compile.evaluate.synth.render import open_context
from tests.command import inside

pytest.importorskip("moderngl")
try:
    open_context().release()
except ToolchainError as error:
    pytest.skip(f"no OpenGL: {error}", allow_module_level=True)

COUNT = 6


@pytest.fixture(scope="module")
def generator(body: BodyModel) -> Generator:
    return Generator(body, 11, "train", 3)


@pytest.fixture(scope="module")
def people(generator: Generator) -> list[Person]:
    return [generator.person(i) for i in range(COUNT)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for k in range(12):
        pixels = np.random.default_rng(k).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{k}.png")
    return folder


def test_people_are_those_of_version_2_in_other_pictures(body: BodyModel, people: list[Person]) -> None:
    before = Generator(body, 11, "train")
    for index in (0, 3):
        old, new = before.person(index), people[index]
        for name in LABEL_FIELDS:
            np.testing.assert_array_equal(getattr(old.labels, name), getattr(new.labels, name))
        assert (old.image != new.image).mean() > 0.5


def test_a_person_depends_on_its_number_only(body: BodyModel, people: list[Person]) -> None:
    other = Generator(body, 11, "train", 3)
    for index in (4, 1):
        assert (other.person(index).image == people[index].image).all()
    assert not (people[0].image == people[1].image).all()


def test_the_drawn_person_is_where_the_labels_say(
    generator: Generator, people: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joints inside the limbs are on the silhouette, and it ends a few pixels beyond the keypoints."""
    painter = generator.painter
    assert isinstance(painter, PhotoPainter)
    layers: list[np.ndarray] = []
    drawn = painter._renderer.draw

    def kept(*arguments: object) -> tuple[np.ndarray, np.ndarray]:
        person, shadows = drawn(*arguments)  # type: ignore[arg-type]
        layers.append(person[..., 3])
        assert shadows.shape == (256, 192, 2)
        assert shadows.max() > 0
        return person, shadows

    monkeypatch.setattr(painter._renderer, "draw", kept)
    for index in range(COUNT):
        labels = generator.person(index).labels
        covered = layers[-1] > 127
        x, y = labels.keypoints[:, :2].T
        inside = (x >= 0) & (x < 383) & (y >= 0) & (y < 511)
        at = inside & (np.arange(65) < 14)
        assert covered[y[at].round().astype(int), x[at].round().astype(int)].mean() > 0.95
        if inside.all():
            rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
            box = np.array([columns[0], rows[0], columns[-1], rows[-1]])
            size = max(np.ptp(x), np.ptp(y))
            assert np.abs(box - [x.min(), y.min(), x.max(), y.max()]).max() < 0.14 * size


def test_frames_of_a_film_differ_in_noise_and_pose(generator: Generator) -> None:
    first, second, again = (generator.frame(3, k) for k in (0, 1, 1))
    assert (second.image == again.image).all()
    corner = [one.image[:40, :40].astype(int) for one in (first, second)]
    assert np.abs(corner[1] - corner[0]).mean() < 8
    assert (first.image != second.image).any()


def test_backgrounds_are_photographs_where_there_are_some(
    body: BodyModel, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = list(find_backgrounds([photographs], "train").values())
    asked: list[int] = []
    real = module.sample_background
    monkeypatch.setattr(
        module, "sample_background", lambda rng, split: (asked.append(1), real(rng, split))[1]
    )
    generator = Generator(body, 11, "train", 3, pictures)
    for index in range(4):
        generator.person(index)
    assert len(asked) < 4


def test_the_manifest_names_version_and_photographs(
    body_path: Path, photographs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    command = ("data", "synth", "--count", "2", "--body", body_path, "-q", "-o", folder)
    refused = inside(*command, "--backgrounds", photographs)
    assert refused.code == 2
    assert "--generator 3 does" in refused.stderr
    assert not folder.exists()
    assert inside(*command, "--generator", "3", "--backgrounds", photographs).code == 0
    manifest = json.loads((folder / store.MANIFEST).read_text())
    assert manifest["generator"] == 3
    assert manifest["backgrounds"] == list(find_backgrounds([photographs], "train"))
    assert inside("data", "check", folder, "-q").code == 0
    assert len(open_dataset(folder)) == 2
    again = generate(folder, body_path, 2, 0, "train", version=3, backgrounds=[photographs])
    assert list(again.backgrounds) == manifest["backgrounds"]
    with pytest.raises(UsageError, match=r"backgrounds are \d+ photographs, asked for are none"):
        generate(folder, body_path, 2, 0, "train", version=3)
    plain = dataclasses.replace(again, backgrounds=())
    assert "backgrounds" not in plain.to_dict()
    store.prepare(tmp_path / "plain", plain)
    with pytest.raises(UsageError, match=r"backgrounds are none, asked for are \d+ photographs"):
        store.prepare(tmp_path / "plain", again)
    with pytest.raises(UsageError, match="generator is 3, asked for is 2"):
        store.prepare(tmp_path / "plain", dataclasses.replace(plain, generator=2))

"""Version 3 of the generator, what needs no OpenGL: photographs, light, lens, sensor, cloth."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.frame import HEIGHT, WIDTH
from bhpe_compile.evaluate.synth.photo import garment, lens, sensor
from bhpe_compile.evaluate.synth.photo.fabrics import PATTERNS, pattern_function, sample_pattern
from bhpe_compile.evaluate.synth.photo.garment import Garments
from bhpe_compile.evaluate.synth.photo.grain import SIDE, grain, sample_grain
from bhpe_compile.evaluate.synth.photo.ground import foot_of, shaded, upright
from bhpe_compile.evaluate.synth.photo.light import sample_light
from bhpe_compile.evaluate.synth.photo.occlusion import open_sky
from bhpe_compile.evaluate.synth.photo.scenery import find_backgrounds, sample_scenery, split_of
from bhpe_compile.evaluate.synth.poses import FLIP
from bhpe_compile.evaluate.synth.streams import SPLITS
from bhpe_compile.evaluate.synth.surface import measure

UP = np.array([0.0, -1.0, 0.0])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for k in range(12):
        pixels = rng(k).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{k}.png")
    (folder / "below").mkdir()
    (folder / "below" / "copy.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_photograph_belongs_to_one_split_and_counts_once(photographs: Path) -> None:
    found = {split: find_backgrounds([photographs, photographs], split) for split in SPLITS}
    assert not set(found["train"]) & set(found["test"])
    assert len(found["train"]) + len(found["test"]) == 12
    for split, pictures in found.items():
        assert list(pictures) == sorted(pictures)
        for digest, path in pictures.items():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
            assert split_of(digest) == split


def test_folders_without_photographs_are_one_clear_line(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        find_backgrounds([tmp_path / "none"], "train")
    with pytest.raises(UsageError, match=r"no picture .* for the train split"):
        find_backgrounds([tmp_path], "train")
    for k in range(40):  # some of them for either split
        (tmp_path / f"{k}.jpg").write_bytes(b"no picture %d" % k)
    with pytest.raises(InputError, match="cannot be read as a picture"):
        find_backgrounds([tmp_path], "test")


def test_scenery_is_another_crop_for_everybody(photographs: Path) -> None:
    pictures = tuple(find_backgrounds([photographs], "train").values())
    shown = [sample_scenery(rng(k), pictures) for k in range(40)]
    there = [one for one in shown if one is not None]
    assert 20 < len(there) < 40  # the others stand before drawn backgrounds
    assert all(one.shape == (HEIGHT, WIDTH, 3) and one.dtype == np.uint8 for one in there)
    assert len({one.tobytes() for one in there}) == len(there)
    again = sample_scenery(rng(0), pictures)
    assert again is not None
    assert shown[0] is not None
    assert (again == shown[0]).all()
    assert sample_scenery(rng(0), ()) is None


def spot() -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[200:203, 150:153] = 255
    return image


def centre(image: np.ndarray) -> np.ndarray:
    weight = image.astype(float).sum(2)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def test_movement_shifts_nothing() -> None:
    drawn_out = 0
    for seed in range(12):
        moved = np.asarray(lens.movement(rng(seed), Image.fromarray(spot()), 1.0))
        np.testing.assert_allclose(centre(moved), (151, 201), atol=0.1)
        drawn_out += (moved > 0).sum() > (spot() > 0).sum()
    assert drawn_out == 12
    untouched = lens.movement(rng(), Image.fromarray(spot()), 0.0)
    assert (np.asarray(untouched) == spot()).all()


@pytest.mark.parametrize("radius", [1.0, 2.5, 6.0])
def test_a_point_out_of_focus_is_a_disc_around_it(radius: float) -> None:
    shown = lens.disc(spot(), radius)
    np.testing.assert_allclose(centre(shown), (151, 201), atol=0.6)  # half of the size for large ones
    y, x = np.nonzero(shown[..., 0] > 8)
    assert np.hypot(x - 151, y - 201).max() < radius + 4
    assert (lens.disc(np.full((HEIGHT, WIDTH, 3), 77, np.uint8), radius) == 77).all()


def test_colours_come_apart_by_half_a_pixel_at_most() -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[4:507, 10:13] = 255
    changed = 0
    for seed in range(10):
        shown = np.asarray(lens.apart(rng(seed), Image.fromarray(image)))
        assert (shown[..., 1] == image[..., 1]).all()
        columns = shown[256].astype(float)
        places = (columns * np.arange(WIDTH)[:, None]).sum(0) / columns.sum(0)
        assert np.abs(places - 11).max() < 0.6
        changed += (shown != image).any()
    assert 2 <= changed <= 8


def test_corners_are_darker_or_as_they_were() -> None:
    grey = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    shown = [lens.vignette(rng(seed), grey) for seed in range(10)]
    assert all(one[256, 192, 0] >= 199 for one in shown)
    assert 2 <= sum(one[0, 0, 0] < 199 for one in shown) <= 8


def test_noise_grows_with_the_light_and_has_no_bias() -> None:
    table = sensor._noise_table(1.5, 0.5)
    assert (np.diff(table.std(1)[[0, 4, 8, 15]]) > 0.5).all()
    assert np.abs(table.mean(1)).max() < 0.1
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    shown = [sensor.expose(rng(k), grey, rng(100 + k)) for k in range(12)]
    assert all(image.shape == grey.shape and image.dtype == np.uint8 for image in shown)
    assert abs(np.mean([image.mean() for image in shown]) - 128) < 20
    others = [sensor.expose(rng(k), grey, rng(999)) for k in range(12)]  # the same camera, other noise
    assert sum((a != b).any() for a, b in zip(others, shown, strict=True)) > 6
    assert max(abs(a.mean() - b.mean()) for a, b in zip(others, shown, strict=True)) < 1


def test_grain_repeats_without_a_seam() -> None:
    field = grain()
    assert field.shape == (SIDE, SIDE, SIDE, 4)
    np.testing.assert_allclose(field.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(field.std((0, 1, 2)), 1, atol=1e-3)
    places = rng().uniform(0, SIDE, (50, 3))
    np.testing.assert_allclose(sample_grain(places, 1), sample_grain(places - SIDE, 1), atol=1e-4)
    corner = sample_grain(np.array([[3.0, 4.0, 5.0]]), 2)
    np.testing.assert_allclose(corner, field[5, 4, 3, 2], atol=1e-6)


def test_every_pattern_is_in_the_shader_and_worn() -> None:
    source = pattern_function()
    assert all(one.glsl in source for one in PATTERNS)
    drawn = {(chest, int(sample_pattern(rng(k), chest)[0])) for k in range(600) for chest in (True, False)}
    wanted = {
        (chest, k)
        for k, one in enumerate(PATTERNS)
        for chest in (True, False)
        if (one.chest if chest else one.legs)
    }
    assert drawn == wanted


def test_light_has_the_colour_of_the_background() -> None:
    blue = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    blue[..., 2], blue[..., :2] = 220, 60
    lights = [sample_light(rng(k), UP, blue, 0.5) for k in range(60)]
    for light in lights:
        assert light.sky[2] > light.sky[0]
        np.testing.assert_allclose([np.linalg.norm(light.sun), np.linalg.norm(light.fill)], 1)
        assert light.sun @ UP > 0.2  # the sun is above the ground
        assert 0 <= light.hardness < 1
    grey = sample_light(rng(3), UP, blue, 0.0)
    np.testing.assert_allclose(grey.sky, grey.sky[0])
    weak = sum(light.hardness < 0.2 for light in lights)
    assert 10 < weak < 45


def test_the_ground_is_below_people_and_shadows_darken_it() -> None:
    assert (upright(FLIP) == UP).all()
    lying = FLIP @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert (upright(lying) == UP).all()
    points = rng().normal(0, 1, (20, 3)).astype(np.float32)
    assert foot_of(points, UP)[1] == points[:, 1].max()
    grey, shadows = (
        np.full((HEIGHT, WIDTH, 3), 200, np.uint8),
        np.zeros((HEIGHT // 2, WIDTH // 2, 2), np.uint8),
    )
    shadows[100:140, 60:100] = 255
    darker = 0
    for seed in range(12):
        shown = shaded(rng(seed), grey, shadows, sample_light(rng(seed), UP, grey, 0.0))
        assert (shown[:150] == 200).all()
        darker += shown[240, 160, 0] < 180
    assert 5 <= darker < 12


def test_a_hollow_sees_less_of_the_sky_than_a_hill() -> None:
    x, z = np.meshgrid(np.linspace(-0.5, 0.5, 60), np.linspace(-0.5, 0.5, 60))
    height = 0.4 * np.sin(12 * x)
    points = np.stack([x, -height, z], -1).reshape(-1, 3).astype(np.float32)
    normals = np.tile(np.array([0, -1, 0], np.float32), (len(points), 1))
    sky = open_sky(points, normals)
    assert ((sky >= 0) & (sky <= 1)).all()
    inner = (abs(x) < 0.4).ravel()
    low, high = inner & (height < -0.3).ravel(), inner & (height > 0.3).ravel()
    assert sky[low].mean() < sky[high].mean() - 0.2
    wall = np.array([(0, y, z) for y in np.linspace(-1.5, -0.1, 40) for z in np.linspace(-0.5, 0.5, 40)])
    assert open_sky(points, normals, wall.astype(np.float32)).mean() < sky.mean()


def test_cloth_stays_near_the_body_and_shoes_have_no_toes(
    body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garment, "SOLE", 0.0)
    measures = measure(body)
    garments = Garments(body, measures)
    placed = (body.v_template.numpy() * np.array([1, -1, -1], np.float32)) + np.array([0, 0, 3], np.float32)
    bare = {
        "head": measures.eyes,
        "hair": (20.0, 20.0, -1.0, 0.0),
        "shirt": (9.0, -9.0, -9.0, 0.0),
        "trousers": (-9.0, 9.0, 0.0, 0.0),
        "feet": (-9.0, -9.0, -9.0, 0.0),
        "loose": (0.0, 0.0),
        "hollows": (0.0, 1.0, 0.5),
        "swell": 0.0,
        "tousled": 0.0,
    }
    naked = garments.dress(placed, bare, UP)
    np.testing.assert_allclose(naked.positions, placed, atol=1e-6)
    assert naked.cloth.max() == 0
    np.testing.assert_allclose(np.linalg.norm(naked.normals, axis=1), 1, atol=1e-3)
    dressed = garments.dress(
        placed,
        {
            **bare,
            "shirt": (measures.waist, measures.elbow, measures.neck, 0.0),
            "loose": (2.0, 1.0),
            "swell": 0.005,
            "feet": (measures.ankle, -9.0, -9.0, 0.0),
        },
        UP,
    )
    moved = np.linalg.norm(dressed.positions - placed, axis=1)
    rest = body.v_template.numpy()
    chest = (rest[:, 1] > measures.waist + 0.1) & (rest[:, 1] < measures.neck - 0.1) & (abs(rest[:, 0]) < 0.1)
    assert 0.01 < moved[chest].mean() < 0.05
    assert moved[abs(rest[:, 0]) > measures.wrist].max() < 1e-6  # hands are bare
    ground = rest[:, 1] < measures.floor + 0.03
    toes = ground & (rest[:, 2] > np.quantile(rest[ground, 2], 0.9))

    def roughness(points: np.ndarray) -> float:
        smoothed = garments._mean @ points
        return float(np.linalg.norm(points - smoothed, axis=1)[toes].mean())

    assert roughness(dressed.positions) < 0.6 * roughness(placed)

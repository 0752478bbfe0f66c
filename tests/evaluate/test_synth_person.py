"""Whole people: the picture is where the labels say. Needs OpenGL through EGL."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from bhpe_compile.errors import ToolchainError
from bhpe_compile.evaluate.body import BodyModel, BodyOutput, axis_angle_to_matrix
from bhpe_compile.evaluate.dataset import LABEL_FIELDS, Labels
from bhpe_compile.evaluate.frame import HEIGHT, WIDTH
from bhpe_compile.evaluate.synth import occluders
from bhpe_compile.evaluate.synth.appearance import sample_appearance
from bhpe_compile.evaluate.synth.camera import View
from bhpe_compile.evaluate.synth.drawn import DrawnPainter
from bhpe_compile.evaluate.synth.generate import made_with
from bhpe_compile.evaluate.synth.person import PARTS, Generator, Person
from bhpe_compile.evaluate.synth.render import open_context
from bhpe_compile.evaluate.synth.shapes import split_of
from bhpe_compile.evaluate.synth.surface import normals

pytest.importorskip("moderngl")
try:
    MADE_HERE = made_with()  # opens and closes a context: not while another one draws
except ToolchainError as error:
    pytest.skip(f"no OpenGL: {error}", allow_module_level=True)

COUNT = 24

MADE_WITH = {
    "numpy": "2.4.6",
    "pillow": "13.0.0",
    "torch": "2.13.0+cpu",
    "moderngl": "5.13.0",
    "opengl": "llvmpipe (LLVM 15.0.6, 256 bits), 4.5 (Core Profile) Mesa 22.3.6",
}
DRAWN = "33572b8f79246a453ccad00ca825733566ca31926713ef0e748fcb57fbd79df9"
"""SHA-256 of the pictures and labels of four people of version 2, drawn before there was a version 3 with these
versions on a CPU with AVX2."""


@pytest.fixture(scope="module")
def generator(body: BodyModel) -> Generator:
    return Generator(body, 11, "train")


@pytest.fixture(scope="module")
def people(generator: Generator) -> list[Person]:
    return [generator.person(i) for i in range(COUNT)]


def posed(body: BodyModel, labels: Labels) -> BodyOutput:
    """The body in camera space, from the labels alone."""
    return body(
        axis_angle_to_matrix(torch.from_numpy(labels.pose))[None],
        torch.from_numpy(labels.betas)[None],
        torch.from_numpy(labels.expression)[None],
        torch.from_numpy(labels.translation)[None],
    )


def project(labels: Labels, points: np.ndarray) -> np.ndarray:
    return labels.focal * points[:, :2] / points[:, 2:] + labels.principal


def same(a: Person, b: Person) -> bool:
    return bool((a.image == b.image).all()) and all(
        (getattr(a.labels, name) == getattr(b.labels, name)).all() for name in LABEL_FIELDS
    )


def test_a_person_depends_on_its_number_only(body: BodyModel, people: list[Person]) -> None:
    other = Generator(body, 11, "train")
    for index in (17, 3, 3):
        assert same(other.person(index), people[index])
    assert not same(other.person(4), people[3])


def test_version_2_draws_what_it_drew(people: list[Person]) -> None:
    if MADE_HERE != MADE_WITH or torch.backends.cpu.get_cpu_capability() != "AVX2":
        pytest.skip("the hash was made with other versions or on another CPU")
    digest = hashlib.sha256()
    for person in people[:4]:
        digest.update(person.image.tobytes())
        for name in LABEL_FIELDS:
            digest.update(getattr(person.labels, name).tobytes())
    assert digest.hexdigest() == DRAWN


def test_splits_and_seeds_have_no_person_in_common(body: BodyModel, people: list[Person]) -> None:
    test, seed = Generator(body, 11, "test"), Generator(body, 12, "train")
    for i in range(4):
        ours, theirs, later = people[i].labels, test.person(i).labels, seed.person(i).labels
        assert (split_of(ours.betas), split_of(theirs.betas)) == ("train", "test")
        for name in ("pose", "betas", "translation"):
            assert (getattr(ours, name) != getattr(theirs, name)).any()
            assert (getattr(ours, name) != getattr(later, name)).any()


def test_labels_have_the_contracts_shapes(people: list[Person]) -> None:
    shapes = {"pose": (55, 3), "betas": (10,), "expression": (10,), "translation": (3,), "focal": (2,)}
    shapes |= {"principal": (2,), "keypoints": (65, 3), "visible": (65,), "boxes": (3, 4)}
    assert set(shapes) == set(LABEL_FIELDS)
    for person in people:
        assert person.image.shape == (HEIGHT, WIDTH, 3)
        for name, shape in shapes.items():
            value = getattr(person.labels, name)
            assert value.shape == shape
            assert value.dtype == (np.bool_ if name == "visible" else np.float32)
            assert np.isfinite(value).all()


def test_keypoints_are_the_bodys_projected(body: BodyModel, people: list[Person]) -> None:
    for person in people:
        points = body.keypoints(posed(body, person.labels))[0].numpy().astype(np.float64)
        np.testing.assert_allclose(project(person.labels, points), person.labels.keypoints[:, :2], atol=0.01)
        # float32 at a depth of some metres: a hundredth of a pixel, a hundredth of a millimetre
        np.testing.assert_allclose(points[:, 2] - points[0, 2], person.labels.keypoints[:, 2], atol=1e-5)


def test_boxes_hold_hands_and_face(body: BodyModel, people: list[Person]) -> None:
    for person in people:
        labels = person.labels
        vertices = posed(body, labels).vertices[0].numpy().astype(np.float64)
        for box, part, points in zip(labels.boxes, PARTS, (range(25, 45), range(45, 65), (24,)), strict=True):
            pixels = project(labels, vertices[body.regions[part].numpy()])
            np.testing.assert_allclose(box, [*pixels.min(0), *pixels.max(0)], atol=0.01)
            inside = labels.keypoints[list(points), :2]
            assert (inside >= box[:2] - 0.5).all()
            assert (inside <= box[2:] + 0.5).all()


def test_people_stand_before_the_camera_and_fill_the_picture(body: BodyModel, people: list[Person]) -> None:
    heights = []
    for person in people:
        vertices = posed(body, person.labels).vertices[0].numpy()
        assert vertices[:, 2].min() > 0.29
        heights.append(max(np.ptp(project(person.labels, vertices), axis=0) / (WIDTH, HEIGHT)))
    assert 0.7 < np.median(heights) < 1.0  # 1 / 1.25 = 0.8


def test_the_silhouette_is_where_the_vertices_are(generator: Generator, people: list[Person]) -> None:
    """Naked and bald, the drawn person covers the projected mesh and nothing else."""
    body, painter = generator.body, generator.painter
    assert isinstance(painter, DrawnPainter)
    for index in range(6):
        labels = people[index].labels
        vertices = posed(body, labels).vertices[0]
        look = sample_appearance(np.random.default_rng(0), "train", painter.measures)
        bare = {**look.uniforms, "hair": (20.0, 20.0, -1.0, 0.0), "trousers": (-9.0, 9.0, 0.0, 0.0)}
        bare["shirt"] = (9.0, -9.0, -9.0, 0.0)
        view = View(float(labels.focal[0]), labels.principal.astype(float), labels.translation.astype(float))
        drawn = painter.renderer.draw(
            vertices.numpy(), normals(vertices, body.faces), view, dataclasses.replace(look, uniforms=bare)
        )
        covered = drawn[..., 3] > 127
        pixels = project(labels, vertices.numpy())
        inside = ((pixels > 1) & (pixels < (WIDTH - 2, HEIGHT - 2))).all(1)
        x, y = pixels[inside].round().astype(int).T
        near = np.maximum.reduce([np.roll(covered, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        assert near[y, x].all()  # within a pixel of the drawn person
        if inside.all():
            rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
            drawn_box = [columns[0], rows[0], columns[-1], rows[-1]]
            np.testing.assert_allclose(drawn_box, [*pixels.min(0), *pixels.max(0)], atol=1.5)


def test_a_face_looks_at_the_camera_when_the_pose_says_so(people: list[Person]) -> None:
    """The nose is in front of the ears exactly when the head is turned towards the camera."""
    names = [p.labels.keypoints for p in people]
    facing = [k[24, 2] < (k[20, 2] + k[21, 2]) / 2 for k in names]
    assert 0.5 < np.mean(facing) <= 1.0
    left_of_right = [k[8, 0] > k[9, 0] for k in names]
    assert (
        np.mean(np.array(left_of_right) == np.array(facing)) > 0.7
    )  # a facing person's left is on the right


def test_what_is_outside_or_behind_a_thing_is_not_visible(
    generator: Generator, people: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    wall = Image.new("RGBA", (WIDTH, HEIGHT))
    wall.paste((200, 30, 30, 255), (0, 0, WIDTH, 256))
    monkeypatch.setattr(occluders, "sample_occluder", lambda rng, keypoints: wall)
    for index in range(6):
        labels = generator.person(index).labels
        x, y = labels.keypoints[:, 0], labels.keypoints[:, 1]
        below = (y.round() >= 256) & (y < HEIGHT - 0.5) & (x >= -0.5) & (x < WIDTH - 0.5)
        assert (labels.visible == below).all()
    assert any(not person.labels.visible.all() for person in people)
    assert np.mean([person.labels.visible.mean() for person in people]) > 0.8


def test_pictures_differ_from_plain_ones(people: list[Person]) -> None:
    """A coarse hash of what is drawn; another Mesa may move pixels, so only levels are compared."""
    assert all(person.image.std() > 10 for person in people)
    means = np.array([person.image.mean((0, 1)) for person in people])
    assert means.std(0).min() > 10


def test_no_egl_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import moderngl

    def refuse(**options: str) -> None:
        raise RuntimeError("no display")

    monkeypatch.setattr(moderngl, "create_standalone_context", refuse)
    with pytest.raises(ToolchainError, match=r"no display.*libegl1 and libgl1-mesa-dri"):
        open_context()


def test_frames_of_a_film(generator: Generator) -> None:
    first, second, again = (generator.frame(3, k) for k in (0, 1, 1))
    assert same(second, again)
    np.testing.assert_array_equal(first.labels.betas, second.labels.betas)
    np.testing.assert_array_equal(first.labels.translation, second.labels.translation)
    np.testing.assert_allclose(first.labels.pose, generator.person(3).labels.pose, atol=1e-5)
    moved = [posed(generator.body, one.labels).vertices[0].numpy() for one in (first, second)]
    distance = np.linalg.norm(moved[1] - moved[0], axis=1).mean() * 1000
    assert 1 < distance < 30  # millimetres
    corner = [
        one.image[:40, :40].astype(int) for one in (first, second)
    ]  # nobody is there: only noise differs
    assert np.abs(corner[1] - corner[0]).max() < 60
    assert np.abs(corner[1] - corner[0]).mean() < 8

"""Networks that only their descriptions tell: what they see, what is compared, a student from its first step to its
compilation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("accelerate")

from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.distill import record
from bhpe_compile.distill.activations import replaced
from bhpe_compile.distill.by_kind import FEATURES, LOSSES, TARGET, WEIGHTS, ByKind, weights_of
from bhpe_compile.distill.described import DescribedLesson, lesson_of
from bhpe_compile.distill.engine import make_optimizers
from bhpe_compile.distill.full_precision import train
from bhpe_compile.distill.lesson import DistillOptions, Lesson, Run
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.record import Place
from bhpe_compile.distill.student import distill
from bhpe_compile.distill.taps import add_taps, find_taps
from bhpe_compile.distill.views import Views, person_box
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.body import axis_angle_to_matrix
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.networks.hmr.module import HMR
from bhpe_compile.networks.interface import Crop, Input, Interface, Output, OutputKind
from bhpe_compile.networks.layers.rotations import rotation_6d_to_matrix
from bhpe_compile.networks.network import Network
from bhpe_compile.networks.registry import get_network
from bhpe_compile.networks.smpl import TINY, TINY_HIDDEN
from bhpe_compile.passes.binarize import BinarizeOptions, RoundStorage, binarize, get_scheme, trace
from bhpe_compile.runtime.picture import Picture, make_feeds
from tests.distill.people import People

PEOPLE = People()
RECIPE = Recipe(images=16, batch=4, micro_batch=4, precision="fp32", learning_rate=1e-3)
NAMES = ("spin", "cliff-r50")


class Unlabelled:
    """The same people; nobody says anything of them."""

    def __len__(self) -> int:
        return len(PEOPLE)

    def image(self, index: int) -> np.ndarray:
        return PEOPLE.image(index)


def lesson(name: str = "spin") -> Lesson:
    return lesson_of(get_network(name), "tiny")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_what_the_network_reads_in_use(name: str) -> None:
    """Unchanged, it is the picture of `run`, but for levels that pillow rounds the other way."""
    network = get_network(name)
    interface = network.interface("tiny")
    sample = Views(PEOPLE, interface, 0, change=None)[0, 3]
    feeds = make_feeds(interface, Picture(PEOPLE.image(3), person_box()))
    assert sample.keys() == feeds.keys()
    deviation = np.array(interface.inputs[0].crop.deviation)[:, None, None]  # type: ignore[union-attr]
    gap = np.abs(sample["image"] - feeds["image"][0]) * deviation * 255
    assert gap.max() < 1.5
    assert gap.mean() < 0.1
    if "bbox" in feeds:
        np.testing.assert_allclose(sample["bbox"], feeds["bbox"][0], atol=1e-6)


def test_samples_repeat_and_differ() -> None:
    """By seed, epoch and number alone; without labels the picture stands somewhere else in a larger one each time."""
    interface = get_network("cliff-r50").interface("tiny")
    views = Views(Unlabelled(), interface, 0)
    first, again, other = views[0, 3], Views(Unlabelled(), interface, 0)[0, 3], views[1, 3]
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert all(not np.array_equal(first[name], other[name]) for name in first)
    assert first["image"].shape == (3, 64, 48)
    boxes = np.stack([views[0, i]["bbox"] for i in range(12)])
    assert np.ptp(boxes[:, :2], axis=0).min() > 0.2


def test_a_second_view_is_the_first_with_noise_of_a_level() -> None:
    """The box stays where it is, though it is drawn after the noise."""
    interface = get_network("cliff-r50").interface("tiny")
    views = Views(Unlabelled(), interface, 0)
    first, second = views[0, 3, 0], views[0, 3, 1]
    assert np.array_equal(first["bbox"], second["bbox"])
    deviation = np.array(interface.inputs[0].crop.deviation)[:, None, None]  # type: ignore[union-attr]
    gap = (second["image"] - first["image"]) * deviation * 255
    assert set(np.unique(np.rint(gap))) == {-1, 0, 1}
    np.testing.assert_allclose(gap, np.rint(gap), atol=1e-3)


def test_targets_are_the_labels_in_the_view() -> None:
    """The camera puts the body's origin where the full perspective does; rotations are the labels' first 22."""
    network, labels = get_network("cliff-r50"), PEOPLE.labels(2)
    interface = network.interface("tiny")
    assert network.targets is not None
    assert interface.picture is not None
    view = Picture(PEOPLE.image(2), (30.0, 40.0, 280.0, 400.0)).seen_by(interface.picture)
    said = network.targets(labels, view)
    assert {name: value.shape for name, value in said.items()} == {
        output.name: output.shape[1:] for output in interface.outputs
    }
    scale, across, down = said["camera"]
    pixel = labels.focal * labels.translation[:2] / labels.translation[2] + labels.principal
    rows, columns = interface.picture.size
    half = np.array([columns, rows]) / 2
    np.testing.assert_allclose(
        scale * np.array([across, down]) * rows / 2 + half, view.to_input(pixel), atol=1e-3
    )
    wanted = axis_angle_to_matrix(torch.from_numpy(labels.pose[:22]))
    np.testing.assert_allclose(said["rotations"][:22], wanted, atol=1e-6)
    assert np.array_equal(said["rotations"][22:], np.stack([np.eye(3)] * 2))


def test_a_new_regressor_begins_at_the_mean() -> None:
    labelled = lesson()
    model = labelled.begin(PEOPLE, 0).eval()
    again = labelled.begin(PEOPLE, 0)
    assert isinstance(model, HMR)
    assert all(
        torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True)
    )
    mean = np.mean([PEOPLE.labels(i).betas for i in range(len(PEOPLE))], 0)
    np.testing.assert_allclose(model.init_shape[0], mean, atol=1e-6)
    with torch.no_grad():
        found = model(torch.randn(4, 3, 64, 64))
    assert float((found["betas"] - model.init_shape).abs().max()) < 1.0
    turned = torch.stack(
        [axis_angle_to_matrix(torch.from_numpy(PEOPLE.labels(i).pose[:22])) for i in range(12)]
    )
    start = rotation_6d_to_matrix(model.init_pose.reshape(-1, 6))[:22]
    assert float((start - turned.mean(0)).abs().max()) < 0.2  # the mean of matrices is nearly one


GRID = Interface(
    "made-up",
    "",
    (Input("image", (1, 3, 64, 48), "picture", Crop()),),
    tuple(
        Output(kind, kind=kind, grid=(12, 16) if kind == "keypoints" else None)  # type: ignore[arg-type]
        for kind in LOSSES
    ),
)
SHAPES = {"rotation": (3, 3), "axis-angle": (6,), "keypoints": (5, 3), "boxes": (4,), "heat-map": (2, 6, 5)}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_is_nothing_where_all_is_right_and_grows_with_the_error(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    right = torch.randn(4, *SHAPES.get(kind, (7,)), generator=generator)
    away = torch.randn(right.shape, generator=generator)
    compare = ByKind(GRID)

    def loss(found: Tensor) -> Tensor:
        (term,) = compare.with_teacher({kind: found}, {kind: right}).values()
        return term

    assert float(loss(right)) == pytest.approx(0, abs=1e-6)
    near, far = loss(right + 0.05 * away), loss(right + 0.2 * away)
    assert 1e-5 < float(near) < float(far)
    found = (right + 0.2 * away).requires_grad_()
    loss(found).backward()  # type: ignore[no-untyped-call]
    assert found.grad is not None
    assert float(found.grad.abs().sum()) > 0
    assert compare.with_labels({kind: right}, {f"{TARGET}{kind}": right}).keys() == {kind}


def test_what_is_compared_follows_from_the_interface() -> None:
    """Whole numbers and outputs that nobody describes have no term; a description may change a weight."""
    weights = weights_of(get_network("spin").interface("tiny"), {"betas": 0.5})
    assert weights == {"rotations": 4.0, "betas": 0.5, "camera": 1.0, FEATURES: 1.0}
    found = {"tensor": torch.ones(1, 3), "logits": torch.ones(1, 3).int(), "unknown": torch.ones(1)}
    assert ByKind(GRID).with_teacher(found, found).keys() == {"tensor"}


def test_every_kind_that_has_a_gradient_has_a_loss() -> None:
    kinds = set(get_args(OutputKind))
    assert kinds - LOSSES.keys() == {"codes"}
    assert WEIGHTS.keys() == {*LOSSES, FEATURES}


def test_boxes_and_places_do_not_depend_on_the_picture_s_size() -> None:
    large = replace_picture(GRID, (128, 96))
    for kind, factor in (("boxes", 2.0), ("keypoints", 1.0)):
        right = torch.zeros(1, 5, 4 if kind == "boxes" else 2)
        terms = [
            float(ByKind(one).with_teacher({kind: right + step}, {kind: right})[kind])
            for one, step in ((GRID, 1.0), (large, factor))
        ]
        assert terms[0] == pytest.approx(terms[1]) == pytest.approx(1 / 4 if kind == "boxes" else 1.0)


def replace_picture(interface: Interface, size: tuple[int, int]) -> Interface:
    data = interface.to_dict()
    data["inputs"][0]["shape"] = [1, 3, *size]
    return Interface.from_dict(data)


def test_places_of_the_trunk_are_the_same_in_both_graphs() -> None:
    """Without a binary layer they are equal; binary, four stages' beginnings and the pooled end are compared."""
    model = HMR(TINY, TINY_HIDDEN)
    teacher = trace(model)
    kept, _ = binarize(teacher, BinarizeOptions(keep_float=("*",)))
    student = RoundStorage()(binarize(teacher, BinarizeOptions())[0]).graph
    image = torch.rand(2, 3, 64, 64)
    for other, equal in ((kept, True), (student, False)):
        first = trace(model)
        taps = find_taps(first, other)
        assert len(taps) == 5
        add_taps(first, {name: pair[0] for name, pair in taps.items()})
        add_taps(other, {name: pair[1] for name, pair in taps.items()})
        with torch.no_grad():
            one, two = (graph.eval()(image) for graph in (first, other))
        for name in taps:
            assert one[name].shape == two[name].shape
            assert torch.equal(one[name], two[name]) == equal, name
        negative = [bool((one[name] < 0).any()) for name in taps]
        # stages begin in the student with sums that stay signed; the pooled end is what the regressor reads
        assert negative == ([False] * 5 if equal else [False, True, True, True, False])
        assert one["features.4"].shape == (2, 512)


def test_which_activations_a_student_has() -> None:
    teacher = trace(HMR(TINY, TINY_HIDDEN))
    for scheme, said in (
        ("bidrn", "13 of 13 ReLU became Hardtanh before (12) and RPReLU behind (12) the signs of 12 binary"),
        ("bnn", "13 of 13 ReLU became Hardtanh before"),
    ):
        student, _ = binarize(teacher, BinarizeOptions(get_scheme(scheme)))
        assert replaced(teacher, student).startswith(said), scheme


def test_layers_that_run_again_and_again_learn_by_adamw() -> None:
    network = trace(HMR(TINY, TINY_HIDDEN))
    adamw, muon = make_optimizers(network, RECIPE)
    turned = {id(p) for group in muon.param_groups for p in group["params"]}
    assert id(network.get_parameter("layer1.0.conv1.weight")) in turned
    slow = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert {
        id(network.get_parameter(f"{name}.weight")) for name in ("conv1", "fc1", "fc2", "decpose")
    } <= slow


@pytest.mark.parametrize("name", NAMES)
def test_trained_distilled_and_compiled(name: str, tmp_path: Path) -> None:
    """A teacher from labels; a student from the bare pictures, whose file says what it is and compiles."""
    taught = lesson(name)
    place = Place(tmp_path / "teacher", workers=0)
    log = train(taught, PEOPLE, None, Run(RECIPE, place, tmp_path / "teacher.pt")).log
    assert log[-1].keys() - {"step", "images", "lr"} == {"rotations", "betas", "camera", "loss"}
    loaded = load_model(tmp_path / "teacher.pt")
    assert loaded.spec == f"{name}:tiny"
    run = Run(RECIPE, Place(tmp_path / "student", workers=0), tmp_path / "student.pt")
    trained = distill(taught, loaded.model, Unlabelled(), None, run)
    assert trained.log[-1].keys() - log[-1].keys() == {FEATURES}
    assert "RPReLU behind (12)" in trained.replaced
    again = load_model(tmp_path / "teacher.pt").model.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in loaded.model.state_dict().items())
    student = load_model(tmp_path / "student.pt")
    assert (student.spec, student.binarization) == (f"{name}:tiny", BinarizeOptions().to_dict())
    assert student.ranges is not None
    compilation = Compilation.of_loaded(student, CompileOptions(target=""))
    compilation.teacher = loaded
    assert compilation.rounding.source == {"source": "training"}
    assert compilation.agreement.keys() == {"rotations", "camera", "coefficients"}


def test_a_student_comes_nearer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "LOG_EVERY", 5)
    teacher = lesson().begin(PEOPLE, 0)
    recipe = replace(RECIPE, images=80, learning_rate=1e-3)
    run = Run(recipe, Place(tmp_path / "student", workers=0), tmp_path / "student.pt")
    log = distill(lesson(), teacher, Unlabelled(), None, run).log
    assert log[-1][FEATURES] < 0.97 * log[0][FEATURES]
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]


def test_labels_may_be_added(tmp_path: Path) -> None:
    run = Run(replace(RECIPE, images=4), Place(tmp_path / "a", workers=0), tmp_path / "a.pt")
    teacher = lesson().begin(PEOPLE, 0)
    plain = distill(lesson(), teacher, PEOPLE, None, run).log
    run = Run(replace(RECIPE, images=4), Place(tmp_path / "b", workers=0), tmp_path / "b.pt")
    more = distill(lesson(), teacher, PEOPLE, None, run, DistillOptions(label_weight=1.0)).log
    assert more[0]["betas"] > plain[0]["betas"]


class Plain(nn.Module):
    """Nothing in it becomes binary: its only convolution reads the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"points": self.layer(image).mean((2, 3))}


def described(**changes: object) -> Network:
    values: Mapping[str, object] = {
        "name": "made-up",
        "summary": "",
        "presets": ("small",),
        "build": lambda preset: Plain(),
        "interface": lambda preset: Interface("made-up", preset, GRID.inputs, (Output("points"),)),
        **changes,
    }
    return Network(**values)  # type: ignore[arg-type]


def test_what_cannot_learn_is_said(tmp_path: Path) -> None:
    run = Run(RECIPE, Place(tmp_path / "work", workers=0), tmp_path / "a.pt")
    plain = DescribedLesson(described(), "small", described().interface("small"))
    with pytest.raises(InputError, match="made-up:small: no layer of it becomes binary"):
        distill(plain, Plain(), Unlabelled(), None, run)
    with pytest.raises(UsageError, match="made-up: its description does not say what labels mean"):
        plain.begin(PEOPLE, 0)
    other = Interface("made-up", "small", (Input("noise", (1, 8)),), (Output("points"),))
    with pytest.raises(UsageError, match="made-up:small: pictures say nothing of its input noise"):
        DescribedLesson(described(), "small", other)
    assert json.dumps(dict(plain.weights)) == '{"points": 1.0, "features": 1.0}'

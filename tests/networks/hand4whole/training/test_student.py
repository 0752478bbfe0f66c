"""Distillation: what is written compiles as it was trained, the teacher is left alone, its boxes are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("accelerate")

from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.distill import record
from bhpe_compile.distill.curve import draw
from bhpe_compile.distill.folder import Folder
from bhpe_compile.distill.lesson import DistillOptions, Run, Start, Trained
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.record import CHECKPOINT, Place
from bhpe_compile.distill.student import distill, go_on
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.frontends.state import load_state
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.hand4whole.training.lesson import Hand4WholeLesson
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.networks.layers.rounding import RoundedInput
from bhpe_compile.passes.binarize import BinarizeOptions, RoundStorage, binarize, get_scheme, trace
from tests.distill.people import People

PEOPLE = People()
LESSON = Hand4WholeLesson(TINY)
RECIPE = Recipe(images=12, batch=4, micro_batch=4, precision="fp32", learning_rate=1e-3)


def run(
    folder: Path, body: BodyModel, scheme: str = "bidrn", label_weight: float = 0.0
) -> tuple[Hand4Whole, Trained]:
    torch.set_num_threads(1)
    teacher = initialise(Hand4Whole(TINY), 1)
    options = BinarizeOptions(scheme=get_scheme(scheme))
    place = Place(folder / "work", workers=0)
    asked = DistillOptions(options, label_weight)
    trained = distill(LESSON, teacher, PEOPLE, body, Run(RECIPE, place, folder / "student.pt"), asked)
    return teacher, trained


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, body: BodyModel) -> tuple[Path, Hand4Whole, Trained]:
    folder = tmp_path_factory.mktemp("student")
    return folder, *run(folder, body)


def test_the_teacher_is_left_alone(student: tuple[Path, Hand4Whole, Trained]) -> None:
    fresh = initialise(Hand4Whole(TINY), 1).state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in student[1].state_dict().items())


def test_the_student_is_compiled_as_it_ended(student: tuple[Path, Hand4Whole, Trained]) -> None:
    """Signs of the last checkpoint, magnitudes its mean |W|, other weights float16."""
    folder, teacher, _ = student
    assert (folder / "student.pt").stat().st_size < 3_000_000
    graph = Compilation.of_loaded(load_model(folder / "student.pt"), CompileOptions(target="")).graph
    latent, _ = binarize(trace(teacher, "predict"), BinarizeOptions())
    load_state(latent, torch.load(folder / "work" / CHECKPOINT, weights_only=True)["network"], "checkpoint")
    trained = dict(latent.named_modules())
    binary = [(name, layer) for name, layer in graph.named_modules() if isinstance(layer, BinaryLayer)]
    assert len(binary) > 30
    for name, layer in binary:
        assert torch.equal(layer.weight >= 0, trained[name].weight >= 0), name
        # the mean of thousands of equal numbers is theirs but for the rounding of a long sum
        torch.testing.assert_close(layer.scale(), trained[name].scale(), rtol=1e-4, atol=0)
    stem = graph.get_submodule("backbone.conv1").weight
    assert torch.equal(stem, trained["backbone.conv1"].weight.half().float())


def test_features_and_outputs_come_nearer(
    tmp_path: Path, body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "LOG_EVERY", 10)
    torch.set_num_threads(1)
    teacher = initialise(Hand4Whole(TINY), 1)
    recipe = Recipe(images=80, batch=4, micro_batch=4, precision="fp32", learning_rate=1e-3)
    place = Place(tmp_path / "work", workers=0)
    log = distill(LESSON, teacher, PEOPLE, body, Run(recipe, place, tmp_path / "s.pt")).log
    assert log[-1]["features"] < log[0]["features"]
    assert log[-1]["loss"] < log[0]["loss"]
    draw(log, tmp_path / "curve.png", "a curve")
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size[0] > 500


@pytest.mark.parametrize("scheme", ["bnn", "reactnet"])
def test_other_schemes_learn_too(scheme: str, tmp_path: Path, body: BodyModel) -> None:
    _, trained = run(tmp_path, body, scheme, label_weight=0.5)
    assert np.isfinite(trained.log[-1]["loss"])
    graph = Compilation.of_loaded(load_model(trained.output), CompileOptions(target="")).graph
    with torch.no_grad():
        outputs = graph(torch.rand(1, 3, 512, 384))
    assert all(bool(torch.isfinite(value).all()) for value in outputs.values())


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        Folder(tmp_path / "missing")
    with pytest.raises(UsageError, match="holds no picture"):
        Folder(tmp_path)
    for name in ("b.png", "a.jpg"):
        Image.new("RGB", (60, 80), (10, 200, 30)).save(tmp_path / name)
    pictures = Folder(tmp_path)
    assert len(pictures) == 2
    before = pictures.fingerprint
    assert Folder(tmp_path).fingerprint == before
    Image.new("RGB", (60, 80), (10, 200, 90)).save(tmp_path / "a.jpg")
    assert Folder(tmp_path).fingerprint != before
    image = pictures.image(1)
    assert image.shape == (512, 384, 3)
    assert tuple(image[256, 192]) == (10, 200, 30)
    assert tuple(image[0, 0]) == (0, 0, 0)  # the margin that every crop has


def test_a_student_brings_what_compiling_rounds(
    student: tuple[Path, Hand4Whole, Trained], tmp_path: Path
) -> None:
    """Ranges of all convolutions of the compiled network, which are those of its own picture's 8 bits."""
    loaded = load_model(student[0] / "student.pt")
    assert loaded.ranges is not None
    compilation = Compilation.of_loaded(loaded, CompileOptions(target=""))
    rounding = compilation.rounding
    assert rounding.source == {"source": "training"}
    rounded = RoundStorage(rounding.ranges, half=rounding.half)(compilation.graph).graph
    spans = {path: m.span for path, m in rounded.named_modules() if isinstance(m, RoundedInput)}
    assert spans == loaded.ranges
    assert all(low < high for low, high in spans.values())
    plain = Compilation.of_loaded(replace(loaded, ranges=None), CompileOptions(target="")).rounding
    assert plain.source == {"source": "embedded example", "pictures": 2}


def test_going_on_from_a_student_in_bfloat16(
    student: tuple[Path, Hand4Whole, Trained], tmp_path: Path, body: BodyModel
) -> None:
    """It starts with the student's weights; statistics and ranges are measured in float32 afterwards."""
    loaded = load_model(student[0] / "student.pt")
    start = Start(loaded.state_dict, loaded.source, BinarizeOptions())
    recipe = replace(RECIPE, precision="bf16", learning_rate=1e-6)
    place = Place(tmp_path / "work", workers=0)
    output = tmp_path / "on.pt"
    distill(LESSON, student[1], PEOPLE, body, Run(recipe, place, output), DistillOptions(start=start))
    after = load_model(output)
    assert after.ranges is not None
    assert all(
        value.dtype == torch.float32 for value in after.state_dict.values() if value.is_floating_point()
    )
    names = [name for name in start.state if name.endswith("conv2.weight")]
    assert names
    for name in names:  # so small a rate turns no sign
        assert torch.equal(after.state_dict[name] >= 0, start.state[name] >= 0), name
    other = BinarizeOptions(scheme=get_scheme("reactnet"))
    with pytest.raises(InputError, match="of another scheme"):
        distill(
            LESSON, student[1], PEOPLE, body, Run(recipe, place, output), DistillOptions(other, start=start)
        )


def test_layers_kept_from_now_on_begin_as_the_teachers(
    student: tuple[Path, Hand4Whole, Trained], tmp_path: Path, body: BodyModel
) -> None:
    """What was binary so far has weights that are no filters; everything else goes on."""
    loaded = load_model(student[0] / "student.pt")
    start = Start(loaded.state_dict, loaded.source, BinarizeOptions())
    options = BinarizeOptions(keep_float=("backbone.layer1.*",))
    recipe = replace(RECIPE, images=4, learning_rate=1e-6)
    place, output = Place(tmp_path / "work", workers=0), tmp_path / "on.pt"
    asked = DistillOptions(options, rounding=False, start=start)
    distill(LESSON, student[1], PEOPLE, body, Run(recipe, place, output), asked)
    after = load_model(output)
    assert after.binarization is not None
    assert after.binarization["keep_float"] == ["backbone.layer1.*"]
    taught, kept = student[1].state_dict(), "backbone.layer1.0.conv1.weight"
    # stored as float16, after one step of Muon at 25e-6
    torch.testing.assert_close(after.state_dict[kept], taught[kept], rtol=1e-3, atol=1e-4)
    gone_on = "backbone.layer2.0.conv1.weight"
    assert torch.equal(after.state_dict[gone_on] >= 0, start.state[gone_on] >= 0)
    assert not any(name.startswith("backbone.layer1.0.conv1_activation") for name in after.state_dict)


def test_going_on_keeps_the_thresholds_of_the_form(
    student: tuple[Path, Hand4Whole, Trained], tmp_path: Path, body: BodyModel
) -> None:
    """Students from before BoxNet compared its heat maps with 0: going on, they compare with 1 / cells."""
    loaded = load_model(student[0] / "student.pt")
    name = "box_net.deconv.0.threshold"
    old = {**loaded.state_dict, name: torch.zeros_like(loaded.state_dict[name])}
    start = Start(old, "an old student", BinarizeOptions())
    network, _ = binarize(trace(student[1], "predict"), BinarizeOptions())
    before = go_on(network, trace(student[1], "predict"), start, BinarizeOptions())
    assert not before.state_dict()[name].any()
    assert torch.equal(network.state_dict()[name], loaded.state_dict[name])
    assert network.state_dict()[name].any()


def test_without_rounding_there_are_no_ranges(tmp_path: Path, body: BodyModel) -> None:
    teacher = initialise(Hand4Whole(TINY), 1)
    place = Place(tmp_path / "work", workers=0)
    output = tmp_path / "student.pt"
    distill(LESSON, teacher, PEOPLE, body, Run(RECIPE, place, output), DistillOptions(rounding=False))
    assert load_model(output).ranges is None

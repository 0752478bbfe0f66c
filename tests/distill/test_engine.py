"""The loop: stopped anywhere it ends with the same weights, two processes compute what one computes."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bhpe_compile.processes import python_command

pytest.importorskip("accelerate")

from bhpe_compile.distill import engine, record
from bhpe_compile.distill.full_precision import freeze_layers, train
from bhpe_compile.distill.lesson import Run, Trained, TrainOptions
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.record import CHECKPOINT, Place, read_checkpoint
from bhpe_compile.errors import InputError, StoppedError, UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.hand4whole.training.lesson import Hand4WholeLesson, start_at_the_mean
from bhpe_compile.networks.hand4whole.training.losses import WEIGHTS
from tests.command import ROOT
from tests.distill.people import People

RECIPE = Recipe(images=24, batch=4, micro_batch=2, learning_rate=1e-3, warmup=2, precision="fp32")
PEOPLE = People()
LESSON = Hand4WholeLesson(TINY)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(folder: Path, body: BodyModel, tick: Any = lambda *_: None, recipe: Recipe = RECIPE) -> Trained:
    place = Place(folder / "work", workers=0)
    folder.mkdir(exist_ok=True)
    return train(LESSON, PEOPLE, body, Run(recipe, place, folder / "model.pt", {"data": "made up"}, tick))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "model.pt").model.state_dict()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, body: BodyModel) -> tuple[Path, Trained]:
    """A run that nothing stopped."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("straight")
    return folder, run(folder, body)


def test_the_loss_falls(straight: tuple[Path, Trained], tmp_path: Path, body: BodyModel) -> None:
    log = run(tmp_path, body, recipe=Recipe(images=120, batch=4, micro_batch=4, precision="fp32")).log
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]
    assert log[0]["step"] == record.LOG_EVERY
    assert log[-1]["images"] == 120


def test_stopped_and_gone_on_with_it_ends_the_same(
    straight: tuple[Path, Trained], tmp_path: Path, body: BodyModel
) -> None:
    folder, trained = straight

    def stop(done: int, steps: int, loss: float) -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match="step 3 of 6"):
        run(tmp_path, body, stop)
    assert not (tmp_path / "model.pt").exists()
    ticks: list[int] = []
    log = run(tmp_path, body, lambda done, *_: ticks.append(done)).log
    assert ticks == [4, 5, 6]
    assert log == trained.log
    theirs = weights(folder)
    assert all(torch.equal(value, theirs[name]) for name, value in weights(tmp_path).items())


def test_an_average_is_the_mean_of_the_last_weights_and_survives_a_stop(
    straight: tuple[Path, Trained], tmp_path: Path, body: BodyModel
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    recipe = replace(RECIPE, average=100)

    def stop_often(done: int, steps: int, loss: float) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    for step in range(RECIPE.steps):
        with pytest.raises(StoppedError, match=f"step {step + 1} of 6"):
            run(tmp_path / "stopped", body, stop_often, recipe)
        seen.append(dict(read_checkpoint(tmp_path / "stopped" / "work")["network"]))
    run(tmp_path / "stopped", body, recipe=recipe)
    run(tmp_path / "once", body, recipe=recipe)
    found = dict(read_checkpoint(tmp_path / "once" / "work")["network"])
    last = dict(read_checkpoint(straight[0] / "work")["network"])
    theirs = weights(tmp_path / "once")
    assert all(torch.equal(value, theirs[name]) for name, value in weights(tmp_path / "stopped").items())
    assert all(torch.equal(value, last[name]) for name, value in seen[-1].items())  # training does not see it
    for name, value in found.items():
        mean = torch.stack([one[name].double() for one in seen]).mean(0)
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-7)  # float32 sums of six
    assert any(not torch.equal(value, last[name]) for name, value in found.items())
    with pytest.raises(UsageError, match=r"holds another run \(recipe differ\)"):
        run(tmp_path / "once", body, recipe=replace(RECIPE, average=3))


def test_another_run_is_not_gone_on_with(straight: tuple[Path, Trained], body: BodyModel) -> None:
    folder, _ = straight
    other = Recipe(images=24, batch=4, micro_batch=2, learning_rate=2e-3, precision="fp32")
    with pytest.raises(UsageError, match=r"holds another run \(recipe differ\).*--restart"):
        run(folder, body, recipe=other)


def test_a_loss_weight_is_what_the_loss_is_summed_with(
    straight: tuple[Path, Trained], tmp_path: Path, body: BodyModel
) -> None:
    """The first steps see the same network: their terms are equal, and the loss differs by the weight alone."""
    one = Recipe(images=4, batch=4, micro_batch=4, precision="fp32")
    plain = run(tmp_path / "plain", body, recipe=one).log[0]
    heavy = run(tmp_path / "heavy", body, recipe=replace(one, loss_weights={"fingers": 60.0})).log[0]
    assert heavy["fingers"] == plain["fingers"] > 0
    more = (60.0 - WEIGHTS["fingers"]) * plain["fingers"]
    assert heavy["loss"] - plain["loss"] == pytest.approx(more, rel=1e-4)  # float32 sums of about 20
    folder, _ = straight
    with pytest.raises(UsageError, match=r"holds another run \(recipe differ\)"):
        run(folder, body, recipe=replace(RECIPE, loss_weights={"fingers": 60.0}))


def test_a_restart_forgets_the_run_and_nothing_else(tmp_path: Path, body: BodyModel) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / CHECKPOINT).write_bytes(b"of another run")
    (tmp_path / "work" / "notes.txt").touch()
    place = Place(tmp_path / "work", workers=0, restart=True)
    short = Recipe(images=4, batch=4, micro_batch=4, precision="fp32")
    trained = train(LESSON, PEOPLE, body, Run(short, place, tmp_path / "model.pt"))
    assert [entry["step"] for entry in trained.log] == [1]
    assert (tmp_path / "work" / "notes.txt").exists()


def test_training_goes_on_from_a_network_and_leaves_what_is_frozen(
    straight: tuple[Path, Trained], tmp_path: Path, body: BodyModel
) -> None:
    """Not a weight and not a statistic of a frozen layer moves; the first loss is about the last one of before."""
    folder, trained = straight
    start = load_model(folder / "model.pt").model
    place = Place(tmp_path / "work", workers=0)
    short = Recipe(images=8, batch=4, micro_batch=4, learning_rate=1e-3, precision="fp32")
    options = TrainOptions(start, freeze=("hand_*", "face_*"))
    log = train(LESSON, PEOPLE, body, Run(short, place, tmp_path / "model.pt"), options).log
    assert log[0]["loss"] < 1.5 * trained.log[-1]["loss"]
    before, after = weights(folder), weights(tmp_path)
    frozen = {name for name in before if name.startswith(("hand_", "face_"))}
    assert {name for name in frozen if "running" in name}
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"backbone.conv1.weight", "backbone.bn1.running_mean"} <= moved


def test_without_accelerate_the_extra_is_named() -> None:
    script = (
        "import sys; sys.modules['accelerate'] = None\n"
        "import bhpe_compile.distill.student, bhpe_compile.networks.hand4whole.training.lesson\n"
        "from bhpe_compile.distill.engine import processes\n"
        "from bhpe_compile.distill.recipe import Recipe\n"
        "processes(Recipe(images=64)).__enter__()\n"
    )
    done = subprocess.run(
        python_command("-c", script), env=environment(), capture_output=True, text=True, check=False
    )
    assert "ToolchainError: training needs accelerate: pip install '.[train]'" in done.stderr


def test_what_cannot_be_frozen_is_said() -> None:
    with pytest.raises(UsageError, match=r"--freeze foot_\*: no layer has such a name"):
        freeze_layers(Hand4Whole(TINY), ["foot_*"])
    with pytest.raises(UsageError, match="nothing is left to learn"):
        freeze_layers(Hand4Whole(TINY), ["*"])


def test_a_damaged_checkpoint_is_named(tmp_path: Path, body: BodyModel) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / CHECKPOINT).write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(InputError, match=r"checkpoint\.pt: damaged; --restart"):
        run(tmp_path, body)


def test_a_checkpoint_with_nan_or_missing_parts_is_no_model(
    straight: tuple[Path, Trained], tmp_path: Path, body: BodyModel
) -> None:
    content = torch.load(straight[0] / "work" / CHECKPOINT, weights_only=True)
    (tmp_path / "work").mkdir()
    place = tmp_path / "work" / CHECKPOINT
    for part in ("facts", "step", "network", "optimizers", "log", "sums", "count"):
        for changed in ({k: v for k, v in content.items() if k != part}, content | {part: "?"}):
            torch.save(changed, place)
            with pytest.raises(InputError, match=rf"damaged \({part} missing or of a wrong kind\)"):
                read_checkpoint(tmp_path / "work")
    name = next(k for k, value in content["network"].items() if value.is_floating_point())
    content["network"][name] = torch.full_like(content["network"][name], float("nan"))
    torch.save(content, place)
    with pytest.raises(InputError, match=rf"NaN or infinity in {name}.*--restart"):
        run(tmp_path, body)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, body: BodyModel) -> None:
    with pytest.raises(InputError, match="the loss is no number at step"):
        run(
            tmp_path,
            body,
            recipe=Recipe(images=40, batch=4, micro_batch=4, learning_rate=1e18, precision="fp32"),
        )


SCRIPT = """
import os
import sys
from pathlib import Path
import torch
from tests.distill.people import random_body
from tests.distill import test_engine
torch.set_num_threads(1)
folder = Path(sys.argv[1])
place = folder / "body" / os.environ.get("RANK", "0")
place.mkdir(exist_ok=True)
body = random_body(place)
def tick(done, steps, loss):
    print(done, flush=True)
test_engine.run(folder, body, tick)
"""


def command(folder: Path, processes: int) -> list[str]:
    (folder / "body").mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    if processes == 1:
        return python_command(script, folder)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return python_command(*launcher, script, folder)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_killed_without_warning_it_ends_the_same(
    straight: tuple[Path, Trained], tmp_path: Path, body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL between two steps: everything since the last checkpoint is done again."""
    folder, trained = straight
    with subprocess.Popen(
        command(tmp_path, 1), env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "2":
                process.kill()
                break
    assert not (tmp_path / "model.pt").exists()
    log = run(tmp_path, body).log
    assert log == trained.log
    theirs = weights(folder)
    assert all(torch.equal(value, theirs[name]) for name, value in weights(tmp_path).items())


def test_two_processes_compute_what_one_computes(straight: tuple[Path, Trained], tmp_path: Path) -> None:
    """Sums in another order: losses agree to float32's rounding, magnified by six steps of Adam."""
    folder, trained = straight
    done = subprocess.run(
        command(tmp_path, 2), env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    shared = torch.load(tmp_path / "work" / CHECKPOINT, weights_only=True)["log"]
    assert len(shared) == len(trained.log)
    for ours, theirs in zip(shared, trained.log, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert value == pytest.approx(theirs[name], rel=2e-3, abs=1e-5), name
    first, second = weights(folder), weights(tmp_path)
    start = initialise(Hand4Whole(TINY), RECIPE.seed)
    start_at_the_mean(start, PEOPLE)
    moved = apart = 0.0
    for name, value in start.requires_grad_(False).named_parameters():
        moved += float((first[name] - value).abs().sum())
        apart += float((second[name] - first[name]).abs().sum())
    # Adam's first steps have the sign of the gradient, and where that is near 0 rounding decides it
    assert apart < 0.05 * moved


def test_processes_must_share_evenly(
    tmp_path: Path, body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(images=24, batch=4, micro_batch=4, precision="fp32")
    with engine.processes(recipe) as accelerator:
        monkeypatch.setattr(type(accelerator), "num_processes", property(lambda self: 3))
    with pytest.raises(UsageError, match="3 processes cannot share 1 micro-batches"):
        run(tmp_path, body, recipe=recipe)

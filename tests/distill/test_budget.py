"""Minutes become a number of pictures once; who goes on with a run finds it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bhpe_compile.distill import budget
from bhpe_compile.distill.budget import FEWEST_STEPS, PLAN, TIMED_STEPS, TRAINING, plan_samples, samples_in
from bhpe_compile.errors import UsageError

Tick = Callable[[int, int, float], None]


def test_steps_fill_the_minutes() -> None:
    ends = [10.0, 10.5, 11.0, 11.5]  # half a second a step
    assert samples_in(10, ends, 64) == 64 * int(600 * TRAINING / 0.5)
    assert samples_in(0.01, ends, 64) == 64 * FEWEST_STEPS
    assert samples_in(10, [1.0], 64) == 64 * FEWEST_STEPS


def test_a_few_steps_are_timed_and_the_plan_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(budget.time, "monotonic", lambda: float(next(clock)))
    steps: list[int] = []

    def start(tick: Tick) -> None:
        for step in range(1, 50):
            steps.append(step)
            tick(step, 50, 1.0)

    folder = tmp_path / "student.pt.training"
    samples = plan_samples(folder, 60, 64, start)
    assert steps == list(range(1, TIMED_STEPS + 2))
    assert samples == 64 * int(3600 * TRAINING)
    assert json.loads((folder / PLAN).read_text()) == {"minutes": 60, "samples": samples}
    steps.clear()
    assert plan_samples(folder, 60, 64, start) == samples
    assert steps == []


def test_another_number_of_minutes_is_another_run(tmp_path: Path) -> None:
    (tmp_path / PLAN).write_text('{"minutes": 60, "samples": 6400}')
    with pytest.raises(UsageError, match="a training of 60 minutes; say --minutes 60 to go on"):
        plan_samples(tmp_path, 5, 64, lambda tick: None)
    (tmp_path / PLAN).write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        plan_samples(tmp_path, 5, 64, lambda tick: None)


def test_an_error_of_the_training_is_not_swallowed(tmp_path: Path) -> None:
    def start(tick: Tick) -> None:
        raise UsageError("no pictures")

    with pytest.raises(UsageError, match="no pictures"):
        plan_samples(tmp_path, 5, 64, start)
    assert not (tmp_path / PLAN).exists()

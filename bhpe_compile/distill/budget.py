"""How many pictures a training sees in a number of minutes: measured once, then kept beside its checkpoint.

The learning rate falls over the whole run, so its length has to be known before it begins. The first steps are timed,
the rest follows; who goes on with the run finds the number that was chosen then.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.errors import UsageError
from bhpe_compile.files import write_atomically
from bhpe_compile.reading import read_json

PLAN = "plan.json"

TIMED_STEPS = 4
"""Steps whose time is taken, after one that waits for the first pictures."""

LONGEST = 60.0
"""Seconds after which fewer steps have to do."""

TRAINING = 0.85
"""Part of the minutes that training gets; norms and ranges are measured in the rest."""

FEWEST_STEPS = 20


class _EnoughTimedError(Exception):
    """Ends a run whose steps were timed."""


@dataclass
class _Clock:
    """What is called after every step, until enough were timed."""

    ends: list[float] = field(default_factory=list)

    def __call__(self, done: int, steps: int, loss: float) -> None:
        self.ends.append(time.monotonic())
        if len(self.ends) > TIMED_STEPS or (len(self.ends) > 1 and self.ends[-1] - self.ends[0] > LONGEST):
            raise _EnoughTimedError


def plan_samples(
    folder: Path, minutes: float, batch: int, start: Callable[[Callable[[int, int, float], None]], object]
) -> int:
    """How many pictures are seen in `minutes`: what `folder` remembers, or else what timing says.

    start: begins the training with what it calls after every step; it is ended after a few. UsageError where the folder
    remembers another number of minutes.
    """
    file = folder / PLAN
    if file.is_file():
        try:
            plan = read_json(file)
            known, samples = float(plan["minutes"]), int(plan["samples"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            raise UsageError(f"{file}: is damaged; remove {folder} to begin anew") from None
        if known != minutes:
            raise UsageError(
                f"{folder}: holds a training of {known:g} minutes; say --minutes {known:g} to go on, or remove it"
            )
        return samples
    clock = _Clock()
    with suppress(_EnoughTimedError):
        start(clock)
    samples = samples_in(minutes, clock.ends, batch)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"minutes": minutes, "samples": samples}).encode())
    return samples


def samples_in(minutes: float, ends: list[float], batch: int) -> int:
    """Pictures in `minutes`, a multiple of `batch`, from the times at which steps ended."""
    seconds = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else 0.0
    steps = int(60 * minutes * TRAINING / seconds) if seconds > 0 else FEWEST_STEPS
    return batch * max(FEWEST_STEPS, steps)


TIMED = Recipe(images=64 * (TIMED_STEPS + 2))
"""Of the run that is timed: longer than what is timed, so that it never ends by itself."""

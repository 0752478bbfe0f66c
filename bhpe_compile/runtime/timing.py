"""How long a compiled model takes on this machine: whole runs, and its steps one by one.

Whole runs and steps are timed in turn, so that both meet the same moods of the machine; medians are told, with the
fastest run and the 90th percentile beside, which show how calm it was. A step is called from Python, which adds two
or three microseconds to each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bhpe_compile.runtime.board import Board
from bhpe_compile.runtime.driven import DrivenSession
from bhpe_compile.runtime.model import Model
from bhpe_compile.runtime.open import open_session
from bhpe_compile.runtime.session import Array
from bhpe_compile.runtime.spread import Spread


@dataclass(frozen=True)
class StepTime:
    """One step of a model and the median of its milliseconds."""

    layer: str
    kind: str
    symbol: str
    ms: float


@dataclass(frozen=True)
class Timing:
    """What `time_model` found."""

    rounds: int
    threads: int
    whole: Spread
    steps: tuple[StepTime, ...]
    place: str = ""
    """The board, where it was one."""


def time_on_board(path: Path, board: Board, inputs: Mapping[str, Array], rounds: int, threads: int) -> Timing:
    """Time `rounds` runs of the artefact at `path` on `inputs`, on a board, by the driver's own clock.

    Raises what `open_session` does.
    """
    with open_session(path, threads=threads, board=board) as session:
        assert isinstance(session, DrivenSession)
        spread = session.time(inputs, rounds)
        return Timing(rounds, threads, spread, (), session.executed)


def time_model(
    model: Model,
    rounds: int,
    *,
    warm_up: int = 3,
    steps: bool = False,
    tick: Callable[[int], None] | None = None,
) -> Timing:
    """Time `rounds` runs of `model` on what its input holds, after `warm_up` runs that do not count.

    steps: also every step of each round. tick: called with the number of every finished round.
    """
    for _ in range(warm_up):
        model.execute()
    whole: list[float] = []
    single: list[list[float]] = [[] for _ in model.steps] if steps else []
    for number in range(rounds):
        whole.append(_milliseconds(model.execute))
        for index, times in enumerate(single):
            start = time.perf_counter_ns()
            model.execute_step(index)
            times.append((time.perf_counter_ns() - start) / 1e6)
        if tick is not None:
            tick(number + 1)
    listed = tuple(
        StepTime(step.layer, step.kind, step.symbol, float(np.median(times)))
        for step, times in zip(model.steps, single, strict=False)
    )
    return Timing(rounds, model.threads, Spread.of(whole), listed)


def time_together(models: Sequence[Model], rounds: int, *, warm_up: int = 3) -> list[Timing]:
    """Time whole runs of several models in turn, so that a disturbance meets all of them; who is first rotates."""
    for model in models:
        for _ in range(warm_up):
            model.execute()
    times: list[list[float]] = [[] for _ in models]
    for number in range(rounds):
        for k in range(len(models)):
            index = (number + k) % len(models)
            times[index].append(_milliseconds(models[index].execute))
    return [
        Timing(rounds, model.threads, Spread.of(one), ()) for model, one in zip(models, times, strict=True)
    ]


def _milliseconds(run: Callable[[], None]) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6

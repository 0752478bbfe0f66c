"""What a run keeps: its last checkpoint and its log, in a folder of its own."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bhpe_compile.distill.average import Average
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.files import write_atomically
from bhpe_compile.frontends.state import check_finite
from bhpe_compile.frontends.torch_files import is_state, read_torch
from bhpe_compile.reading import open_regular

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
SECONDS_BETWEEN_CHECKPOINTS = 60.0
LOG_EVERY = 20


@dataclass(frozen=True)
class Place:
    """Where a run keeps its checkpoint and its log, removed before a `restart`; `workers` processes decode pictures."""

    folder: Path
    workers: int = 1
    restart: bool = False


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and all(isinstance(value, int | float) for value in entry.values())


PARTS: Mapping[str, Callable[[Any], bool]] = {
    "facts": lambda part: isinstance(part, dict),
    "step": lambda part: type(part) is int and part >= 0,
    "network": lambda part: is_state(part) and bool(part),
    "optimizers": lambda part: isinstance(part, list) and all(isinstance(one, dict) for one in part),
    "log": lambda part: isinstance(part, list) and all(_is_entry(one) and "step" in one for one in part),
    "sums": _is_entry,
    "count": lambda part: type(part) is int and part >= 0,
}
"""What a checkpoint of a run holds, and whether something is that."""


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The last checkpoint of the run in `folder`: `facts`, `step`, and `network`, its state with real-valued weights.

    Raises UsageError where there is none, InputError for a damaged one.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        raise UsageError(f"{folder}: holds no {CHECKPOINT} of a training run")
    again = "--restart begins that run anew"
    try:
        with open_regular(path):
            pass
        state = dict(read_torch(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
    except InputError as error:
        raise InputError(f"{path}: damaged; {again}") from error
    wrong = [name for name, fits in PARTS.items() if not fits(state.get(name))]
    if wrong:
        raise InputError(f"{path}: damaged ({', '.join(wrong)} missing or of a wrong kind); {again}")
    try:
        check_finite(state["network"], str(path))
    except InputError as error:
        raise InputError(f"{error}; {again}, with a lower --lr") from None
    return state


class Record:
    """The checkpoint and the log of one run."""

    def __init__(
        self,
        folder: Path,
        facts: dict[str, Any],
        accelerator: Accelerator,
        network: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        average: Average | None = None,
    ) -> None:
        self._folder, self._facts, self._accelerator = folder, facts, accelerator
        self._network, self._optimizers, self._average = network, optimizers, average
        self._saved = time.monotonic()
        self._sums: dict[str, float] = {}
        self._count = 0
        self.log: list[dict[str, float]] = []
        self.last_loss = float("nan")

    def resume(self) -> int:
        """Load the checkpoint, if there is one, and return the step to go on with."""
        if not (self._folder / CHECKPOINT).exists():
            return 0
        state = read_checkpoint(self._folder)
        facts, step = state["facts"], int(state["step"])
        if facts != json.loads(json.dumps(self._facts)):
            differing = sorted(k for k in {*facts, *self._facts} if facts.get(k) != self._facts.get(k))
            raise UsageError(
                f"{self._folder}: holds another run ({', '.join(differing)} differ); name another folder with "
                "--work, or --restart to begin anew"
            )
        try:
            self._network.load_state_dict(state["network"])
            for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
            if self._average is not None:
                self._average.load(state["average"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self._folder / CHECKPOINT}: damaged: does not fit this network; --restart begins that run anew"
            ) from error
        self.log = [entry for entry in state["log"] if entry["step"] <= step]
        self._sums, self._count = dict(state["sums"]), int(state["count"])
        return step

    def note(self, step: int, recipe: Recipe, terms: dict[str, Tensor]) -> None:
        """Add a step's terms; every `LOG_EVERY` steps their mean over all processes goes to the log."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._count += 1
        self.last_loss = float(terms["loss"])
        if not math.isfinite(self.last_loss):
            raise InputError(f"the loss is no number at step {step + 1}: lower --lr")
        if (step + 1) % LOG_EVERY == 0 or step + 1 == recipe.steps:
            means = torch.tensor([value / self._count for value in self._sums.values()], dtype=torch.float64)
            if self._accelerator.num_processes > 1:
                means = self._accelerator.reduce(means.to(self._accelerator.device), "mean")
            entry = {"step": step + 1, "images": (step + 1) * recipe.batch, "lr": recipe.rate(step)}
            self.log.append(entry | dict(zip(self._sums, means.tolist(), strict=True)))
            self._sums, self._count = {}, 0

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint; the first process decides for all."""
        due = torch.tensor(time.monotonic() - self._saved > SECONDS_BETWEEN_CHECKPOINTS, dtype=torch.float32)
        if self._accelerator.num_processes > 1:
            from accelerate.utils import broadcast

            due = broadcast(due.to(self._accelerator.device))
        return bool(due)

    def save(self, step: int) -> None:
        """Write checkpoint and log, each replaced whole."""
        self._saved = time.monotonic()
        if not self._accelerator.is_main_process:
            return
        check_finite(self._network.state_dict(), f"step {step} of the training in {self._folder}")
        state = {
            "facts": json.loads(json.dumps(self._facts)),
            "step": step,
            "network": self._network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "log": self.log,
            "sums": self._sums,
            "count": self._count,
        }
        if self._average is not None:
            state["average"] = self._average.state
        buffer = io.BytesIO()
        torch.save(state, buffer)
        lines = "".join(json.dumps(entry) + "\n" for entry in self.log)
        try:
            write_atomically(self._folder / CHECKPOINT, buffer.getbuffer())
            write_atomically(self._folder / LOG, lines.encode())
        except OSError as error:
            raise UsageError(f"{self._folder}: cannot be written ({error.strerror or error})") from error

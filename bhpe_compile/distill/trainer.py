"""What a network's description gives to `train` and `distill`: how it learns (`networks/network.py`, `trainer`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from bhpe_compile.distill.engine import Place, Tick
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.samples import Pictures
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.passes.binarize import BinarizeOptions

Looking = Callable[[float], None]
"""Hears which part of the pictures has been looked at, before training begins."""


@dataclass(frozen=True)
class Trained:
    """What a run ended with: the log has one entry for every few steps, `loss` and its terms in each."""

    output: Path
    log: list[dict[str, float]]


@dataclass(frozen=True)
class Start:
    """A student to go on from: its weights, from `source` (a file or a folder's checkpoint), and its form."""

    state: Mapping[str, Tensor]
    source: str
    options: BinarizeOptions


class Trainer(Protocol):
    """How one network learns.

    weights: the terms of its loss, and how much each counts. preset: what `train` takes where none is named.
    """

    @property
    def preset(self) -> str: ...

    @property
    def weights(self) -> Mapping[str, float]: ...

    def train(
        self,
        people: Dataset,
        body: BodyModel,
        preset: str,
        recipe: Recipe,
        place: Place,
        output: Path,
        facts: dict[str, Any],
        tick: Tick,
        *,
        start: nn.Module | None,
        freeze: Sequence[str],
        own_boxes: float,
        looking: Looking,
    ) -> Trained:
        """Train in full precision, from nothing or from `start`, and write `output`."""

    def distill(
        self,
        teacher: nn.Module,
        pictures: Pictures | Dataset,
        body: BodyModel,
        options: BinarizeOptions,
        recipe: Recipe,
        place: Place,
        output: Path,
        facts: dict[str, Any],
        *,
        label_weight: float,
        own_boxes: float,
        rounding: bool,
        start: Start | None,
        tick: Tick,
        looking: Looking,
    ) -> Trained:
        """Train the binary form of `teacher`, of the network this trainer belongs to, and write `output`."""

"""How Hand4Whole learns: in full precision from labels, and as a binary student of the full-precision network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from bhpe_compile.distill.engine import Place, Tick
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.samples import Pictures
from bhpe_compile.distill.trainer import Looking, Start, Trained
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY, get_preset
from bhpe_compile.networks.hand4whole.training.losses import WEIGHTS
from bhpe_compile.networks.hand4whole.training.student import distill
from bhpe_compile.networks.hand4whole.training.train import train
from bhpe_compile.passes.binarize import BinarizeOptions


class Hand4WholeTrainer:
    """The `Trainer` of Hand4Whole."""

    weights: Mapping[str, float] = WEIGHTS
    preset = TINY.name

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
        """See `train.train`."""
        assert start is None or isinstance(start, Hand4Whole)  # what its description builds
        return train(
            people,
            body,
            get_preset(preset),
            recipe,
            place,
            output,
            facts,
            tick,
            start=start,
            freeze=freeze,
            own_boxes=own_boxes,
            looking=looking,
        )

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
        """See `student.distill`."""
        assert isinstance(teacher, Hand4Whole)  # what its description builds
        return distill(
            teacher,
            pictures,
            body,
            options,
            recipe,
            place,
            output,
            facts,
            label_weight=label_weight,
            own_boxes=own_boxes,
            rounding=rounding,
            start=start,
            tick=tick,
            looking=looking,
        )

"""What differs between networks that learn: a `Lesson`, which `full_precision.py` and `student.py` read.

A network's description brings one (`networks/network.py`, `lesson`), or what its interface says of inputs and outputs
makes one (`described.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from bhpe_compile.distill.engine import Terms, Tick
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.record import Place
from bhpe_compile.distill.samples import Pictures, Sample, SampleSet
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.passes.binarize import BinarizeOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

Looking = Callable[[float], None]
"""Hears which part of the pictures has been looked at, before training begins."""

Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Trained:
    """What a run ended with: the log has one entry for every few steps, `loss` and its terms in each.

    replaced: of a student, which activations it has instead of the teacher's.
    """

    output: Path
    log: list[dict[str, float]]
    replaced: str = ""


@dataclass(frozen=True)
class Start:
    """A student to go on from: its weights, from `source` (a file or a folder's checkpoint), and its form."""

    state: Mapping[str, Tensor]
    source: str
    options: BinarizeOptions


@dataclass(frozen=True)
class Run:
    """What every training is told: how long it learns, where it keeps its checkpoint, and what it writes.

    facts: name data and networks; a run with others does not go on from the same checkpoint. tick hears of steps.
    """

    recipe: Recipe
    place: Place
    output: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    tick: Tick = lambda *_: None
    looking: Looking = lambda _: None


@dataclass(frozen=True)
class TrainOptions:
    """In full precision: from nothing or from `start`; layers that match `freeze` keep their weights.

    own_boxes: with a `start`, the part of the samples that is cropped where it looks itself.
    """

    start: nn.Module | None = None
    freeze: Sequence[str] = ()
    own_boxes: float = 0.0


@dataclass(frozen=True)
class DistillOptions:
    """A student: its form; `label_weight` of labels beside the teacher; `rounding` as compiling rounds.

    own_boxes: with labels, the part of the samples that is cropped where a network looks itself. start: a student to
    go on from, of the same form but for layers that `binarize` keeps in full precision besides. consistency, margin:
    the weights of what makes it hold still (`stillness.py`).
    """

    binarize: BinarizeOptions = field(default_factory=BinarizeOptions)
    label_weight: float = 0.0
    own_boxes: float = 1.0
    rounding: bool = True
    start: Start | None = None
    consistency: float = 0.0
    margin: float = 0.0


class Comparison(Protocol):
    """What a network found, beside what it should find: terms of the loss by name."""

    def with_labels(self, found: Mapping[str, Tensor], sample: Sample) -> Terms: ...
    def with_teacher(self, found: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> Terms: ...


class Lesson(Protocol):
    """How one preset of a network learns."""

    @property
    def spec(self) -> str:
        """NAME:PRESET, which its files say."""

    @property
    def fact(self) -> str:
        """What checkpoints of a run call it."""

    @property
    def carried(self) -> Mapping[str, Any]:
        """What its files carry beside weights (`networks/network.py`)."""

    @property
    def method(self) -> str:
        """The module's method that learns: `forward`, or one that returns more than the outputs."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Parts of a sample that the method takes, in order."""

    @property
    def weights(self) -> Mapping[str, float]:
        """The terms of the loss, and how much each counts."""

    @property
    def looks(self) -> bool:
        """Whether a network says itself where its samples are cropped."""

    @property
    def taps(self) -> bool:
        """Whether features are read from the graph (`taps.py`), because the method returns none."""

    @property
    def poses(self) -> bool:
        """Whether losses are computed on a body."""

    def trace(self, model: nn.Module) -> fx.GraphModule:
        """The graph of the method."""

    def begin(self, people: Dataset, seed: int) -> nn.Module:
        """A new network in full precision. UsageError where labels say nothing of what it finds."""

    def look(
        self,
        network: fx.GraphModule,
        model: nn.Module,
        pictures: Pictures,
        run: Run,
        accelerator: Accelerator,
    ) -> Boxes:
        """Where `network`, a form of `model`, crops every picture."""

    def samples(
        self, pictures: Pictures | Dataset, seed: int, *, labelled: bool, boxes: Boxes | None, own: float
    ) -> SampleSet:
        """Samples of `inputs`, with targets where `labelled`; `own` of them at `boxes`."""

    def comparison(self, body: BodyModel | None) -> Comparison:
        """What losses are; body: there where it `poses`."""

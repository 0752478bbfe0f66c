"""Where a compilation is, how long its stages took, and who looks at its graphs meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bhpe_compile.passes.base import PassRecord

Observer = Callable[[str, str, float], None]
"""(stage, pass or step, fraction of the whole work done)."""

STAGES = ("load", "binarize", "reference", "export", "fold", "lower", "generate", "write")
"""The stages in order, as progress bars and reports name them."""

_WEIGHT = {
    "load": 2,
    "binarize": 1,
    "reference": 2,
    "export": 8,
    "fold": 4,
    "lower": 2,
    "generate": 8,
    "write": 3,
}


class Inspector(Protocol):
    """Looks at what a compilation has made so far; it may end the compilation by raising."""

    def look(self, stage: str, point: str, subject: object, record: PassRecord | None) -> None:
        """`subject` (fx graph, ONNX graph, program) stands at `point` of `stage`: a pass, then with its record, or
        one of `plan.POINTS`. It must not be changed."""


@dataclass
class Progress:
    """Tells the observer where the work is, shows the inspector every graph, and times the stages."""

    observer: Observer | None
    inspector: Inspector | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    current: str = ""
    """The stage that runs."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The block is stage `name`, or a further part of it: its steps are told with it, its seconds are summed."""
        start = time.perf_counter()
        self.current = name
        self.step("")
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def step(self, name: str) -> None:
        """Tell the observer what is being done now."""
        if self.observer is not None:
            done = sum(_WEIGHT[stage] for stage in self.seconds)
            self.observer(self.current, name, done / sum(_WEIGHT.values()))

    def passed(self, record: PassRecord, graph: object) -> None:
        """A pass has run: what a pass manager tells."""
        self.step(record.name)
        self.show(record.name, graph, record)

    def show(self, point: str, subject: object, record: PassRecord | None = None) -> None:
        """Let the inspector look at `subject`."""
        if self.inspector is not None:
            self.inspector.look(self.current, point, subject, record)

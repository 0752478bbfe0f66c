"""Where a compilation is, and how long its stages took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Observer = Callable[[str, str, float], None]
"""(stage, pass or step, fraction of the whole work done)."""

STAGES = ("load", "binarize", "reference", "export", "fold", "lower", "write")
"""The stages in order, as progress bars and reports name them."""

_WEIGHT = {"load": 2, "binarize": 1, "reference": 2, "export": 8, "fold": 4, "lower": 10, "write": 3}


@dataclass
class Progress:
    """Tells the observer where the work is, and times the stages."""

    observer: Observer | None
    seconds: dict[str, float] = field(default_factory=dict)
    _stage: str = ""
    _done: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The block is stage `name`: its steps are told with it, its seconds are kept."""
        start = time.perf_counter()
        self._stage = name
        self.step("")
        yield
        self.seconds[name] = time.perf_counter() - start
        self._done += _WEIGHT[name]

    def step(self, name: str) -> None:
        """Tell the observer what is being done now."""
        if self.observer is not None:
            self.observer(self._stage, name, self._done / sum(_WEIGHT.values()))

"""How long and how fast a network learns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bhpe_compile.errors import UsageError

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True)
class Recipe:
    """`images` are seen in all, in steps of `batch`; a step adds up the gradients of micro-batches.

    Batch norms see one micro-batch at a time, so the result depends on `micro_batch` and not on how many processes
    share a step. The learning rate rises linearly during `warmup` steps, then falls to a hundredth on half a cosine.
    `loss_weights` are those that differ from the lesson's, by term. `average`: the result is the mean of the weights of
    about so many last steps (`average.py`); 0: the last ones.
    """

    images: int
    batch: int = 64
    micro_batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup: int = 200
    seed: int = 0
    precision: Precision = "auto"
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    average: int = 0

    def __post_init__(self) -> None:
        for name in ("images", "batch", "micro_batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        if self.batch % self.micro_batch:
            raise UsageError(
                f"a batch of {self.batch} does not divide into micro-batches of {self.micro_batch}"
            )
        if self.images < self.batch:
            raise UsageError(f"{self.images} images do not fill one batch of {self.batch}")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"the learning rate must be above 0, not {self.learning_rate:g}")
        if self.average < 0:
            raise UsageError(f"average must be 0 or more steps, not {self.average}")

    @property
    def steps(self) -> int:
        """How many times the weights change."""
        return self.images // self.batch

    def rate(self, step: int) -> float:
        """The learning rate of `step` (from 0)."""
        warmup = min(self.warmup, self.steps // 10)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data; two runs with the same go on from each other's checkpoints."""
        facts = asdict(self)
        if not self.average:  # as in folders of runs from before there was one
            del facts["average"]
        return facts

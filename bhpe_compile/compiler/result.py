"""What one compilation did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bhpe_compile.passes.base import Note

if TYPE_CHECKING:
    from bhpe_compile.compiler.agreement import Movement


@dataclass
class CompileResult:
    """What one compilation did; `report` is the artefact's report.json, `code` how many parts of the machine code were
    kept from before, and how many there are."""

    output: Path
    report: dict[str, Any]
    notes: tuple[Note, ...]
    seconds: dict[str, float]
    agreement: Mapping[str, Movement] = field(default_factory=dict)
    moved_much: Mapping[str, Movement] = field(default_factory=dict)
    """What of `agreement` is so far that the network is of little use, though nothing is binary."""
    code: tuple[int, int] = (0, 0)

    @property
    def untrained(self) -> bool:
        """Whether layers were made binary that were not trained so: the network has lost its accuracy."""
        return self.report.get("trained_binary") is False and self.report["weights"]["binary"] > 0

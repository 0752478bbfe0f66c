"""What a pass is, and how an ordered list of passes is run.

A pass maps a graph to a graph and tells what it did: every match applied and every match refused
with its reason. Properties (`requires`, `ensures`) are plain words that passes establish one after the other;
the manager refuses an order in which a pass would run before what it needs.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from bhpe_compile.errors import BhpeError

G = TypeVar("G")
N = TypeVar("N")


@dataclass(frozen=True)
class Note:
    """One decision of a pass at one site (a layer path or node name)."""

    pass_name: str
    site: str
    applied: bool
    reason: str


@dataclass(frozen=True)
class PassResult(Generic[G]):
    """The graph after a pass, whether it changed, and the pass's decisions."""

    graph: G
    modified: bool
    notes: tuple[Note, ...] = ()


class Pass(ABC, Generic[G]):
    """A small class with one `call`. `summary` is the line `bhpe-compile passes` prints.

    `name` is words joined by dashes. Every word of `ensures` is required by a later pass.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    ensures: ClassVar[tuple[str, ...]] = ()

    at: str = ""
    """The node that is being worked on, by name."""

    def __call__(self, graph: G) -> PassResult[G]:
        """Run the pass; every exception says in a note which pass it left, and at which node."""
        self.at = ""
        try:
            return self.call(graph)
        except Exception as error:
            error.add_note(f"in pass {self.name}{', at ' if self.at else ''}{self.at}")
            raise

    @abstractmethod
    def call(self, graph: G) -> PassResult[G]:
        """Rewrite `graph` (in place or not) and return it with the decisions taken."""

    def visit(self, nodes: Iterable[N]) -> Iterator[N]:
        """The nodes (or sites) one after the other; what is raised meanwhile names the one it was raised at."""
        for node in nodes:
            self.at = str(getattr(node, "path", None) or getattr(node, "name", None) or "")
            yield node
        self.at = ""

    def applied(self, site: str, reason: str) -> Note:
        """A note for a match that was rewritten."""
        return Note(self.name, site, True, reason)

    def refused(self, site: str, reason: str) -> Note:
        """A note for a match that was left alone, with the reason."""
        return Note(self.name, site, False, reason)


class PassOrderError(BhpeError):
    """A pass was placed before the passes that establish what it needs."""


@dataclass(frozen=True)
class PassRecord:
    """What the manager remembers of one run pass."""

    name: str
    modified: bool
    seconds: float
    notes: tuple[Note, ...]


Observer = Callable[[PassRecord, G], None]
"""Called after each pass with its record and the graph (progress bars, IR dumps)."""


@dataclass
class PassManager(Generic[G]):
    """Runs passes in order, checking `requires` against what earlier passes ensured.

    `ensured`: what passes of earlier stages ensured; what these ensure is added to it.
    """

    passes: Sequence[Pass[G]]
    ensured: set[str] = field(default_factory=set)
    records: list[PassRecord] = field(default_factory=list)

    def run(self, graph: G, observer: Observer[G] | None = None) -> G:
        """Return the graph after all passes; errors carry the names of the passes already run."""
        for one in self.passes:
            missing = [word for word in one.requires if word not in self.ensured]
            if missing:
                raise PassOrderError(
                    f"pass {one.name} needs {', '.join(missing)}, which no earlier pass ensures"
                )
            start = time.perf_counter()
            try:
                result = one(graph)
            except Exception as error:
                error.add_note(f"passes already run: {', '.join(r.name for r in self.records) or 'none'}")
                raise
            graph = result.graph
            self.ensured.update(one.ensures)
            self.records.append(
                PassRecord(one.name, result.modified, time.perf_counter() - start, result.notes)
            )
            if observer is not None:
                observer(self.records[-1], graph)
        return graph

    @property
    def notes(self) -> tuple[Note, ...]:
        """All notes, in the order taken."""
        return tuple(note for record in self.records for note in record.notes)


def ensured_by(passes: Iterable[Pass[G]]) -> set[str]:
    """What holds of a graph that went through `passes`."""
    return {word for one in passes for word in one.ensures}

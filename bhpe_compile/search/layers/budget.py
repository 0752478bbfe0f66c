"""Compiling within an accuracy budget: the layers that cost most stay in higher precision (8 bits).

    1. full precision and the network as asked: is the drop allowed already?
    2. rank all layers by what each costs alone (`sensitivity`), as compiled: without new statistics
    3. the shortest list of the dearest layers whose keeping brings the drop within the budget, by bisection; every list
       that is accepted was measured
    4. compile, and measure the artefact where this CPU runs it; 8-bit and float16 rounding are in now. Over the budget:
       1, 2, 4, ... more layers are kept, and it is compiled again

Cost: with L layers, about L + log2 L + 3 evaluations in torch and one compilation with its evaluation, seldom more.
The list need not be the shortest of all: layers are taken in the order of their single costs, and costs do not simply
add up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bhpe_compile.artifact import check_output, copy_artifact
from bhpe_compile.compiler.compile import compile_model
from bhpe_compile.compiler.progress import Observer
from bhpe_compile.compiler.result import CompileResult
from bhpe_compile.errors import BudgetError
from bhpe_compile.evaluate.evaluate import Batch, Row, score_all
from bhpe_compile.evaluate.gate import Allowance, Verdict, judge
from bhpe_compile.evaluate.people import Bodies
from bhpe_compile.evaluate.subjects import Subject, open_artifact
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.passes.binarize import trace
from bhpe_compile.search.layers.sensitivity import Cost, Ranking, binary_layers, rank, require_float
from bhpe_compile.search.layers.stages import BINARIZED, COMPILED, FULL, binarized, full_precision
from bhpe_compile.targets import get_target
from bhpe_compile.targets.host import host_runs

if TYPE_CHECKING:
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.frontends.imported import Imported

Told = Callable[[str], None]
"""Hears what is being measured."""


@dataclass(frozen=True)
class Budget:
    """What may be lost, and the people on whom it is measured."""

    allowances: Sequence[Allowance]
    examples: Sequence[Batch]
    bodies: Bodies


@dataclass(frozen=True)
class WithinBudget:
    """What was compiled, what stayed in 8 bits for it, and the last measurement.

    `measured` is "compiled", or "binarized" where this CPU cannot run the artefact.
    """

    result: CompileResult
    kept: tuple[Cost, ...]
    layers: int
    verdicts: tuple[Verdict, ...]
    measured: str


@dataclass
class _Search:
    """Measures the network with a number of its dearest layers kept."""

    loaded: Imported
    options: CompileOptions
    budget: Budget
    reference: dict[str, float]
    told: Told
    ranking: Ranking | None = None
    known: dict[int, list[Verdict]] = field(default_factory=dict)

    def kept(self, count: int) -> tuple[Cost, ...]:
        """The dearest layers."""
        return self.ranking.costs[:count] if self.ranking is not None else ()

    def compile_options(self, count: int) -> CompileOptions:
        """The user's options, and the dearest layers kept."""
        layers = tuple(layer for cost in self.kept(count) for layer in cost.layers)
        return replace(self.options, keep_float=(*self.options.keep_float, *layers))

    def verdicts(self, count: int) -> list[Verdict]:
        """Of the network in torch."""
        if count not in self.known:
            self.told(f"in torch, {count} layers kept")
            self.known[count] = self.judge(binarized(self.loaded, self.compile_options(count)))
        return self.known[count]

    def judge(self, subject: Subject) -> list[Verdict]:
        """Measure and compare with full precision."""
        errors = score_all(subject, self.budget.examples, self.budget.bodies)
        figures = Row(subject.name, subject.executed, errors).figures()
        return judge(subject.name, figures, self.reference, self.budget.allowances)

    def fits(self, count: int) -> bool:
        """Whether torch is within the budget."""
        return _passed(self.verdicts(count))

    def shortest(self, most: int) -> int:
        """The number of layers to keep, by bisection between one too few and one enough."""
        few, enough = 0, most
        while enough - few > 1:
            middle = (few + enough) // 2
            few, enough = (few, middle) if self.fits(middle) else (middle, enough)
        return enough


def compile_within(
    source: Path,
    output: Path,
    options: CompileOptions,
    budget: Budget,
    *,
    force: bool = False,
    observer: Observer | None = None,
    told: Told = lambda _: None,
) -> WithinBudget:
    """Compile `source` so that no metric drops by more than allowed against its full precision.

    Raises BudgetError, with both values and the allowance, where even all layers in 8 bits drop too far; UsageError
    for a checkpoint that is binary already; and what `compile_model` raises. Nothing is written then.
    """
    check_output(output, force)
    loaded = load_model(source, options.network)
    require_float(loaded)
    told("full precision")
    errors = score_all(full_precision(loaded), budget.examples, budget.bodies)
    search = _Search(loaded, options, budget, Row(FULL, "torch", errors).figures(), told)
    count, most = _choose(search)
    runs_here = host_runs(get_target(options.target))
    step = 1
    with tempfile.TemporaryDirectory(prefix="bhpe-budget-") as temporary:
        while True:
            folder = Path(temporary) / f"kept-{count}"
            result = compile_model(source, folder, search.compile_options(count), observer=observer)
            verdicts = search.verdicts(count)
            if runs_here:
                told(f"the artefact, {count} layers kept")
                with open_artifact(folder, COMPILED) as subject:
                    verdicts = search.judge(subject)
            if _passed(verdicts):
                break
            if count == most:
                _refuse(most, verdicts)
            if search.ranking is None:
                search.ranking = _rank(search)
            count, step = min(count + step, most), 2 * step
        copy_artifact(folder, output, force)
    measured = COMPILED if runs_here else BINARIZED
    return WithinBudget(replace(result, output=output), search.kept(count), most, tuple(verdicts), measured)


def _choose(search: _Search) -> tuple[int, int]:
    """(how many layers to keep by what torch says, how many there are)."""
    if not search.options.is_binary:
        return 0, 0
    most = len(
        binary_layers(
            trace(search.loaded.model, roles=search.loaded.network.roles), search.options.binarize_options()
        )
    )
    if search.fits(0):
        return 0, most
    search.ranking = _rank(search)
    if not search.fits(most):
        _refuse(most, search.verdicts(most))
    return search.shortest(most), most


def _rank(search: _Search) -> Ranking:
    budget = search.budget
    return rank(
        search.loaded,
        search.options.binarize_options(),
        budget.examples,
        budget.bodies,
        recalibrated=False,
        told=lambda name, done, of: search.told(f"layer {done} of {of - 1}: {name}"),
    )


def _passed(verdicts: Sequence[Verdict]) -> bool:
    return all(verdict.passed for verdict in verdicts)


def _refuse(most: int, verdicts: Sequence[Verdict]) -> NoReturn:
    failed = "; ".join(str(verdict) for verdict in verdicts if not verdict.passed)
    what = f"even with all {most} layers in higher precision, accuracy" if most else "accuracy"
    raise BudgetError(f"{what} drops by more than allowed: {failed}")

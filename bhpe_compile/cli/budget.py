"""`compile --max-drop`: what was kept in 8 bits for the sake of accuracy, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bhpe_compile.cli.accuracy import open_data
from bhpe_compile.cli.console import Console
from bhpe_compile.cli.tables import render_table

if TYPE_CHECKING:
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.search.layers.budget import WithinBudget

FEW = 128
"""People on whom every choice is measured."""


def compile_in_budget(
    model: Path,
    output: Path,
    options: CompileOptions,
    max_drop: Sequence[str],
    people: tuple[str, int, Path | None],
    force: bool,
    console: Console,
) -> WithinBudget:
    """Compile with progress; `people` are data, count (at most) and body."""
    from bhpe_compile.evaluate.gate import Allowance
    from bhpe_compile.frontends.checkpoint import load_model
    from bhpe_compile.search.layers.budget import Budget, compile_within
    from bhpe_compile.search.layers.sensitivity import require_float

    allowances = [Allowance.parse(text) for text in max_drop]
    require_float(load_model(model, options.network))  # before people are drawn
    data, count, body = people
    examples = open_data(data, count, 0, body, console, at_most=True)
    budget = Budget(allowances, list(examples), examples.bodies)
    return compile_within(
        model,
        output,
        options,
        budget,
        force=force,
        observer=console,
        told=lambda step: console("accuracy", step, None),
    )


def render_within(within: WithinBudget) -> str:
    """The verdicts, and the layers that were kept with the reason."""
    from bhpe_compile.cli.eval_tables import verdict_table

    blocks = [f"accuracy, {within.measured}", render_table(*verdict_table(within.verdicts), range(2, 6))]
    if within.kept:
        rows = [
            [name, f"{cost.difference:+.2f} mm of MPVPE if it alone is binary"]
            for cost in within.kept
            for name in cost.layers
        ]
        blocks.append(f"kept in higher precision: {len(rows)} of {within.layers} layers")
        blocks.append(render_table(["layer", "why"], rows))
    else:
        blocks.append(f"no layer had to be kept in higher precision ({within.layers} are binary)")
    return "\n\n".join(blocks)


def within_json(within: WithinBudget) -> dict[str, Any]:
    """For programs."""
    return {
        "measured": within.measured,
        "verdicts": [verdict.to_json() for verdict in within.verdicts],
        "kept": [{"layers": list(cost.layers), "difference": cost.difference} for cost in within.kept],
        "layers": within.layers,
    }

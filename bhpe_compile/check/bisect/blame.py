"""Why a step of a program is wrong: its constants, its machine code, or the choice that lowering made.

weights.bin        a constant is not what lowering model.onnx again packs
code generation    the step's result is not what the kernel's NumPy reference makes of what the step read
lower              both are right, and the result still differs from model.onnx
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.runtime.session import Session, StepInfo

if TYPE_CHECKING:
    from bhpe_compile.kernels.kernel import Kernel
    from bhpe_compile.targets import Target

Array = NDArray[Any]

WEIGHTS, CODE, LOWERING = "weights.bin", "code generation", "lower"
"""Where a wrong step comes from."""


@dataclass(frozen=True)
class Described:
    """What lowering says of one step: its kernel and its constants by role."""

    kernel: Kernel
    constants: Mapping[str, Array]


@dataclass(frozen=True)
class Blame:
    """A wrong step: where the fault lies, in what, and what the step reads and should write (see `repro`)."""

    origin: str
    what: str
    expected: Array | None = None
    found: Array | None = None
    arguments: Mapping[str, Array] | None = None


def lowered_again(artifact: Path, target: Target, session: Session) -> dict[int, Described]:
    """Step -> description, of the artefact's model.onnx lowered for `target`; no code is made."""
    from bhpe_compile.compiler.pipeline import Compilation
    from bhpe_compile.passes.lower import graph as g
    from bhpe_compile.passes.lower.describe import ARRAY_ROLES, describe

    found: dict[tuple[str, str], deque[Described]] = defaultdict(deque)
    for node in Compilation.of_artifact(artifact, target).kernels.graph:
        if not g.is_kernel(node):
            continue
        kernel = describe(node)
        operands = g.operands_of(node)
        arrays = {r: a for r, v in operands.items() if r in ARRAY_ROLES and (a := g.array_of(v)) is not None}
        constants = kernel.constants(target.isa, arrays)
        found[g.text(node, "layer"), node.op_type].append(Described(kernel, constants))
    steps = [step for step in session.steps if found.get((step.layer, step.kind))]
    return {
        step.index: found[step.layer, step.kind].popleft() for step in steps if found[step.layer, step.kind]
    }


def wrong_constant(
    session: Session, described: Mapping[int, Described], feeds: Mapping[str, Array]
) -> tuple[StepInfo, Blame] | None:
    """The first step with a constant that is not what lowering packs."""
    places = [
        (step.index, k)
        for step in session.steps
        if step.index in described
        for k, argument in enumerate(step.arguments)
        if argument.constant and argument.name in described[step.index].constants
    ]
    taps = session.execute(feeds, taps=places).taps
    for index, k in places:
        step = session.steps[index]
        role = step.arguments[k].name
        want, got = described[index].constants[role], taps[index, k]
        if want.tobytes() != got.tobytes():
            blame = Blame(WEIGHTS, f"{role} of {step.layer}", want, got)
            return step, _with_arguments(blame, step, described[index], session, feeds)
    return None


def blame(
    step: StepInfo, described: Described | None, session: Session, feeds: Mapping[str, Array], what: str
) -> Blame:
    """Who is to blame for a step whose result differs."""
    if described is None:
        return Blame(CODE, what)
    places = [(step.index, k) for k in range(len(step.arguments))]
    taps = session.execute(feeds, taps=places).taps
    arrays = {a.name: taps[step.index, k] for k, a in enumerate(step.arguments) if k not in step.results}
    wanted = described.kernel.reference(**arrays)
    right = all(
        step.arguments[k].dtype
        != str(wanted[step.arguments[k].name].dtype)  # levels, in the target's own form
        or np.array_equal(wanted[step.arguments[k].name], taps[step.index, k])
        for k in step.results
    )
    return _with_arguments(Blame(LOWERING if right else CODE, what), step, described, session, feeds)


def _with_arguments(
    found: Blame, step: StepInfo, described: Described, session: Session, feeds: Mapping[str, Array]
) -> Blame:
    from dataclasses import replace

    places = [(step.index, k) for k in range(len(step.arguments))]
    taps = session.execute(feeds, taps=places).taps
    given = {k: taps[step.index, k] for k in range(len(step.arguments))}
    arrays = {a.name: described.constants.get(a.name, given[k]) for k, a in enumerate(step.arguments)}
    inputs = {name: arrays[name] for k, name in enumerate(step.roles) if k not in step.results}
    result = step.results[-1]
    expected = described.kernel.reference(**inputs)[step.roles[result]]
    free = {f"argument{k}": given[k] for k, a in enumerate(step.arguments) if not a.constant}
    arguments = free | {"expected": expected, "step": np.array(step.index), "result": np.array(result)}
    return replace(found, arguments=arguments)

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

from bhpe_compile.check.verify.layers import SLACK
from bhpe_compile.kernels.int8_layout import stored
from bhpe_compile.runtime.session import Place, Session, StepInfo
from bhpe_compile.targets import Target

if TYPE_CHECKING:
    from bhpe_compile.kernels.kernel import Kernel

Array = NDArray[Any]

WEIGHTS, CODE, LOWERING = "weights.bin", "code generation", "lower"
"""Where a wrong step comes from."""

PASSING = frozenset({"Quantize", "PackBits", "TransposeChannels", "ConvertFloats", "MaxPool2d"})
"""Kernels that pass values on: where they are right, what they read was wrong already."""


FLOATS = frozenset({"DenseConv2d", "DenseConvTranspose2d", "DepthwiseConv2d"})
"""Kernels that add floats: their reference adds them in another order."""

FLIPS = 0.1
"""The part of a float kernel's signs or levels that may differ from its reference, where a rounding decides."""


@dataclass(frozen=True)
class Described:
    """What lowering says of one step: its kernel and its constants by role."""

    kernel: Kernel
    constants: Mapping[str, Array]


@dataclass(frozen=True)
class Blame:
    """A wrong step: where the fault lies, in what, and (where it is a kernel) the contents of step.npz (`repro`)."""

    origin: str
    step: StepInfo
    what: str
    arguments: Mapping[str, Array] | None = None


def lowered_again(artifact: Path, target: Target, session: Session) -> dict[int, Described]:
    """Step -> description, of the artefact's model.onnx lowered for `target`; no code is made."""
    from bhpe_compile.compiler.pipeline import Compilation
    from bhpe_compile.passes.lower import graph as g
    from bhpe_compile.passes.lower.describe import ARRAY_ROLES, describe

    found: dict[tuple[str, str], deque[Described]] = defaultdict(deque)
    for node in filter(g.is_kernel, Compilation.of_artifact(artifact, target).kernels.graph):
        kernel = describe(node)
        operands = g.operands_of(node)
        arrays = {r: a for r, v in operands.items() if r in ARRAY_ROLES and (a := g.array_of(v)) is not None}
        constants = kernel.constants(target.isa, arrays)
        found[g.text(node, "layer"), node.op_type].append(Described(kernel, constants))
    return {
        step.index: waiting.popleft()
        for step in session.steps
        if (waiting := found.get((step.layer, step.kind)))
    }


class Steps:
    """Every step of a program that ran once, with all that it read and wrote; `outputs` are the program's.

    forced: written over what steps wrote, at these places, before anything reads it.
    """

    def __init__(
        self,
        session: Session,
        feeds: Mapping[str, Array],
        target: Target | None,
        described: Mapping[int, Described],
        forced: Mapping[Place, Array],
    ) -> None:
        every = [(step.index, k) for step in session.steps for k in range(len(step.arguments))]
        run = session.execute(feeds, taps=every, forced=forced)
        self.steps, self.writers = session.steps, session.writers()
        self.outputs, self.contents = run.outputs, run.taps
        self.target, self.described = target, described

    def written(self, step: StepInfo, argument: int) -> Array:
        """An argument that a step reads, as it was written, before anything was forced."""
        place = self.writers.get(step.args[argument], (step.index, argument))
        return self.contents[place].reshape(step.arguments[argument].shape)

    def wrong_constant(self) -> Blame | None:
        """The first constant that is not what lowering packs."""
        for index, one in self.described.items():
            step = self.steps[index]
            for k, argument in enumerate(step.arguments):
                want = one.constants.get(argument.name) if argument.constant else None
                if want is not None and want.tobytes() != self.contents[index, k].tobytes():
                    return Blame(WEIGHTS, step, f"{argument.name} of {step.layer}", self._arguments(step))
        return None

    def blame(self, tensor: int, what: str) -> Blame:
        """Who is to blame for the contents of a tensor: its writer, or where that passes values on, an earlier one."""
        step = writer = self.steps[self.writers[tensor][0]]
        while (right := self._is_right(step)) and step.kind in PASSING:
            tensor = step.args[step.argument("x")]
            if tensor not in self.writers:  # all the way from an input
                step = writer
                break
            step = self.steps[self.writers[tensor][0]]
        return Blame(LOWERING if right else CODE, step, what, self._arguments(step))

    def _is_right(self, step: StepInfo) -> bool:
        """Whether a step wrote what its kernel makes of what it read; generated code, which has none, is not."""
        if step.index not in self.described:
            return False
        wanted = self._results(step, {})
        return all(_agrees(step, wanted[step.roles[k]], self.contents[step.index, k]) for k in step.results)

    def _results(self, step: StepInfo, constants: Mapping[str, Array]) -> dict[str, Array]:
        """What the kernel of a step makes of what it read, `constants` in the place of its own."""
        read = {r: self.contents[step.index, k] for k, r in enumerate(step.roles) if k not in step.results}
        found: dict[str, Array] = self.described[step.index].kernel.reference(**{**read, **constants})
        if step.kind == "Quantize" and self.target is not None:
            found = {"out": stored(found["out"], int(read["quantization"][1]), self.target.isa.int8)}
        elif "levels" in found and self.target is not None:
            zero = int({**read, **constants}["requantization"][1])
            found = {**found, "levels": stored(found["levels"], zero, self.target.isa.int8)}
        return found

    def _arguments(self, step: StepInfo) -> Mapping[str, Array] | None:
        if step.index not in self.described:
            return None
        constants = {r: a for r, a in self.described[step.index].constants.items() if r in step.roles}
        every = self._results(step, constants)
        wanted = {k: every[step.roles[k]] for k in step.results}
        result = next(
            (k for k, a in wanted.items() if not np.array_equal(a, self.contents[step.index, k])),
            step.results[-1],
        )
        free = {
            f"argument{k}": self.contents[step.index, k]
            for k, a in enumerate(step.arguments)
            if not a.constant
        }
        return free | {"expected": wanted[result], "step": np.array(step.index), "result": np.array(result)}


def _agrees(step: StepInfo, want: Array, got: Array) -> bool:
    """Whether a step wrote what its reference gives: to the bit, of a float kernel but for roundings."""
    if step.kind not in FLOATS:
        return np.array_equal(want, got)
    if got.dtype.kind == "f":
        return bool(np.abs(np.subtract(got, want, dtype=np.float64)).max() <= SLACK * np.abs(want).max())
    return float((got != want).mean()) <= FLIPS

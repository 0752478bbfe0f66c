"""A session: a compiled model that can be watched and changed step by step, wherever it runs.

Steps are numbered as the model executes them; `(step, argument)` names one tensor of one step. After every step, in
this order: taps are copied, probes are run, forced values are written. A probe runs the step once more on copies of its
arguments, some of them replaced, and returns one of the copies: it leaves no trace in the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError
from bhpe_compile.networks.interface import Interface

Array = NDArray[Any]
Place = tuple[int, int]
"""(step, argument)."""

RESULT_ROLES = ("out", "bits", "levels")
"""Roles a kernel of ours writes; generated code ("glue") writes its last argument."""


@dataclass(frozen=True)
class TensorInfo:
    """An input, an output, or an argument of a step (then `name` is its role).

    `offset` is in bytes from the start of the arena, or of the weights when `constant`. Equal `id`, same tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool
    offset: int
    id: int

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def conform(self, array: Array, what: str) -> Array:
        """`array` in row-major order; InputError unless it has this tensor's shape and dtype."""
        array = np.asarray(array)
        if array.shape != self.shape or array.dtype != np.dtype(self.dtype):
            raise InputError(
                f"{what} must be {self.dtype} {list(self.shape)}, not {array.dtype} {list(array.shape)}"
            )
        return np.asarray(array, order="C")


@dataclass(frozen=True)
class StepInfo:
    """One kernel call; `layer` is the path of the layer it computes, "" for generated code."""

    index: int
    symbol: str
    kind: str
    layer: str
    arguments: tuple[TensorInfo, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of every argument."""
        return tuple(a.name for a in self.arguments)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of every argument."""
        return tuple(a.shape for a in self.arguments)

    @property
    def args(self) -> tuple[int, ...]:
        """The tensor id of every argument."""
        return tuple(a.id for a in self.arguments)

    @property
    def relu(self) -> bool:
        """Whether the kernel ends in a ReLU; kernels spell their epilogue in their symbol."""
        return "relu" in self.symbol.split("_")

    @property
    def results(self) -> tuple[int, ...]:
        """Indices of the arguments that the step writes."""
        named = tuple(k for k, role in enumerate(self.roles) if role in RESULT_ROLES)
        return named or (len(self.arguments) - 1,)

    def argument(self, role: str) -> int:
        """The index of the argument with this role; KeyError when there is none."""
        if role not in self.roles:
            raise KeyError(f"step {self.index} {self.symbol} has no argument {role!r}, only {self.roles}")
        return self.roles.index(role)


@dataclass(frozen=True)
class Probe:
    """Run `step` again with `arrays` (by argument index) in place of its own, and return argument `result`."""

    step: int
    arrays: Mapping[int, Array]
    result: int
    key: str


@dataclass(frozen=True)
class Execution:
    """Outputs by name, taps by place, probes by key. All arrays are copies."""

    outputs: dict[str, Array]
    taps: dict[Place, Array]
    probes: dict[str, Array]


class Session(ABC):
    """A model open for execution.

    `executed` says where: "in this process", "qemu-aarch64", "pi@rpi4 (ssh)"; `interface` what inputs and outputs mean.
    """

    executed: str
    interface: Interface
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    steps: tuple[StepInfo, ...]

    def execute(
        self,
        inputs: Mapping[str, Array],
        *,
        taps: Iterable[Place] = (),
        probes: Iterable[Probe] = (),
        forced: Mapping[Place, Array] | None = None,
    ) -> Execution:
        """Run the model once. InputError for arrays of the wrong shape or dtype, IndexError for unknown places."""
        feeds = self._feeds(inputs)
        places = tuple(dict.fromkeys(taps))
        for place in places:
            self._tensor(place)
        runs = tuple(self._probe(probe) for probe in probes)
        if len({probe.key for probe in runs}) != len(runs):
            raise ValueError("two probes have the same key")
        written = {
            place: self._tensor(place).conform(array, f"forced argument {place}")
            for place, array in (forced or {}).items()
        }
        if any(self._tensor(place).constant for place in written):
            raise ValueError("a constant argument cannot be forced")
        return self._execute(feeds, places, runs, written)

    @abstractmethod
    def _execute(
        self,
        inputs: Sequence[Array],
        taps: Sequence[Place],
        probes: Sequence[Probe],
        forced: Mapping[Place, Array],
    ) -> Execution:
        """`execute` with everything checked; `inputs` in the order of the model."""

    def writers(self) -> dict[int, Place]:
        """Which step and argument produced the contents of a tensor, by tensor id.

        A tensor that no step names as its result is a reshaped view: its producer is the last step before its first
        reader that wrote at its offset. Inputs and constants have none.
        """
        found: dict[int, Place] = {}
        latest: dict[int, Place] = {}
        for step in self.steps:
            results = step.results
            for k, tensor in enumerate(step.arguments):
                if k not in results and not tensor.constant and tensor.offset in latest:
                    found.setdefault(tensor.id, latest[tensor.offset])
            for k in results:
                tensor = step.arguments[k]
                found[tensor.id] = latest[tensor.offset] = (step.index, k)
        return found

    @abstractmethod
    def close(self) -> None:
        """Release memory and files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _feeds(self, inputs: Mapping[str, Array]) -> tuple[Array, ...]:
        names = [tensor.name for tensor in self.inputs]
        if sorted(inputs) != sorted(names):
            raise InputError(
                f"the model's inputs are {', '.join(names)}, not {', '.join(inputs) or 'nothing'}"
            )
        return tuple(t.conform(inputs[t.name], f"input {t.name}") for t in self.inputs)

    def _tensor(self, place: Place) -> TensorInfo:
        step, argument = place
        if not 0 <= step < len(self.steps) or not 0 <= argument < len(self.steps[step].arguments):
            raise IndexError(f"the model has no argument {argument} of step {step}")
        return self.steps[step].arguments[argument]

    def _probe(self, probe: Probe) -> Probe:
        self._tensor((probe.step, probe.result))
        arrays = {
            k: self._tensor((probe.step, k)).conform(array, f"argument {k} of probe {probe.key}")
            for k, array in probe.arrays.items()
        }
        return Probe(probe.step, arrays, probe.result, probe.key)

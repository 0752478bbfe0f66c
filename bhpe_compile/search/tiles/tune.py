"""Measuring candidate tiles, interleaved, and keeping those that are faster for certain.

All candidates of a shape are compiled into one module and run on the same arrays; each must give what the heuristic's
tile gives: the same bytes for binary kernels, float sums within rounding. In each round every candidate is timed once
and counts with the smallest of its medians. The fastest is then timed against the heuristic's tile alone, in turn,
and kept if it is faster by both figures: the smallest medians, and the median of the ratios. So neither the luck
of one among ten counts, nor a disturbance that met only one of the two.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from bhpe_compile.errors import BhpeError
from bhpe_compile.kernels import PASS_CONFIG
from bhpe_compile.kernels.kernel import Kernel
from bhpe_compile.search.tiles.candidates import candidates
from bhpe_compile.search.tiles.shapes import Shape, with_tile
from bhpe_compile.search.tiles.workplace import Workplace
from bhpe_compile.targets import Target
from bhpe_compile.targets.tile import Tile, Tuned

GAIN = 0.98
"""A tile must take less than this part of the heuristic's time to be kept."""

REPEATS = 5
SECONDS = 2e-3
"""A round times a candidate `REPEATS` times for about so long each."""

RELATIVE, ABSOLUTE = 1e-5, 1e-3
"""Float sums of other kernels may be taken in another order; values are of the order of a hundred."""


@dataclass(frozen=True)
class Measured:
    """A shape with the heuristic's tile and the fastest one, in nanoseconds a call; `kept` if that goes into the
    table."""

    shape: Shape
    default: Tile
    default_ns: float
    best: Tile
    best_ns: float
    tried: int
    kept: bool


def tune(
    shapes: Sequence[Shape],
    target: Target,
    workplace: Workplace,
    rounds: int,
    tick: Callable[[str, int], None] = lambda key, index: None,
) -> list[Measured]:
    """Measure every shape; `tick` is called with its key and its number before each."""
    results = []
    for index, shape in enumerate(shapes):
        tick(shape.key, index)
        results.append(_measure(shape, target, workplace, rounds))
    return results


def winners(measured: Sequence[Measured]) -> Mapping[str, Tuned]:
    """The table: tiles that are faster than the heuristic's."""
    return {m.shape.key: Tuned(m.best, m.best_ns, m.default_ns) for m in measured if m.kept}


def _measure(shape: Shape, target: Target, workplace: Workplace, rounds: int) -> Measured:
    tiles = candidates(shape.kernel, target.isa)
    kernels = [with_tile(shape.kernel, tile) for tile in tiles]
    module = workplace.load(build(kernels, target))
    arguments = random_arguments(shape.kernel, target, workplace.device)
    compare(kernels, target, module, arguments)
    timer = _Timer(module, workplace.device, arguments)
    times = timer.interleaved(range(len(tiles)), rounds)
    best = min(times, key=lambda index: times[index])
    kept = False
    if best != 0:
        pairs = timer.pairs(best, 2 * rounds)
        times |= {0: min(first for first, _ in pairs), best: min(second for _, second in pairs)}
        usual = statistics.median(second / first for first, second in pairs)
        kept = max(usual, times[best] / times[0]) < GAIN
    return Measured(shape, tiles[0], 1e9 * times[0], tiles[best], 1e9 * times[best], len(tiles), kept)


def _name(index: int) -> str:
    return f"candidate{index}"


def build(kernels: Sequence[Kernel], target: Target) -> Any:
    """One executable with a function for each kernel."""
    functions = {
        _name(i): kernel.prim_func(target.isa).with_attr("global_symbol", _name(i))
        for i, kernel in enumerate(kernels)
    }
    with tvm.transform.PassContext(opt_level=3, config=PASS_CONFIG):
        return tvm.compile(tvm.IRModule(functions), target=tvm.target.Target(dict(target.llvm)))


def random_arguments(kernel: Kernel, target: Target, device: Any) -> list[Any]:
    """Random tensors on the device, and the share of the work for kernels that share it: all."""
    generator = np.random.default_rng(0)
    tensors = [
        tvm.runtime.tensor(_array(generator, p.shape, p.dtype), device) for p in kernel.parameters(target.isa)
    ]
    return [*tensors, 0, 1] if getattr(kernel, "parallel", False) else tensors


def _array(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return generator.standard_normal(shape).astype(kind)
    if kind.kind == "u":
        return generator.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)
    return generator.integers(-100, 100, shape).astype(kind)


def compare(kernels: Sequence[Any], target: Target, module: Any, arguments: Sequence[Any]) -> None:
    """BhpeError unless every kernel of the module writes what the first one writes."""
    outputs = [i for i, p in enumerate(kernels[0].parameters(target.isa)) if p.is_output]
    exact = kernels[0].symbol().startswith("binary")
    expected: list[NDArray[Any]] = []
    for index, kernel in enumerate(kernels):
        for i in outputs:
            arguments[i].copyfrom(np.zeros(arguments[i].shape, str(arguments[i].dtype)))
        module[_name(index)](*arguments)
        got = [arguments[i].numpy() for i in outputs]
        expected = expected or got
        for one, other in zip(got, expected, strict=True):
            same = one.dtype.kind != "f" or exact
            if not (np.array_equal(one, other) if same else np.allclose(one, other, RELATIVE, ABSOLUTE)):
                raise BhpeError(
                    f"{kernel.symbol()}: tile {kernel.tile} computes something else than the first"
                )


class _Timer:
    """Seconds a call, measured where the arguments are."""

    def __init__(self, module: Any, device: Any, arguments: Sequence[Any]) -> None:
        self._module, self._device, self._arguments = module, device, arguments
        once = self._time(0, 1)
        self._number = max(1, min(10_000, round(SECONDS / max(once, 1e-7))))

    def interleaved(self, indices: Sequence[int], rounds: int) -> dict[int, float]:
        """The smallest of the rounds' medians for each candidate."""
        times: dict[int, float] = dict.fromkeys(indices, float("inf"))
        for _ in range(rounds):
            for index in indices:
                times[index] = min(times[index], self._time(index, self._number))
        return times

    def pairs(self, other: int, rounds: int) -> list[tuple[float, float]]:
        """(the first candidate's time, the other's) of each round; who comes first alternates."""
        result = []
        for i in range(rounds):
            times = {index: self._time(index, self._number) for index in ((0, other), (other, 0))[i % 2]}
            result.append((times[0], times[other]))
        return result

    def _time(self, index: int, number: int) -> float:
        evaluator = self._module.time_evaluator(_name(index), self._device, number=number, repeat=REPEATS)
        return float(statistics.median(evaluator(*self._arguments).results))

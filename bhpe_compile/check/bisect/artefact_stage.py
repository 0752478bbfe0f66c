"""The compiled program against its model.onnx, step by step: the first step that is wrong, and in what.

Of every step, in order:

    constants     what lies in weights.bin for it is what lowering model.onnx again packs     equality
    accumulators  its integers, on the bits or levels it really read (see `probes`)           equality
    results       the signs, levels or floats that later layers read, ONNX Runtime's signs and levels being forced on
                  every layer, so that nothing travels                                        bounds

A step of which the constants are right and the results wrong is run by its NumPy reference on what it read: where
that agrees with the machine code the lowering chose wrongly, else code generation is wrong.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bhpe_compile.check.bisect.cut import Layer, layers_of, margins_of, run_onnx
from bhpe_compile.check.bisect.graph_stage import compare_output
from bhpe_compile.check.bisect.statistics import (
    ARTEFACT_BOUND,
    Difference,
    compare_floats,
    compare_signs,
)
from bhpe_compile.check.verify.integers import unpack_signs
from bhpe_compile.check.verify.levels import LevelMemory
from bhpe_compile.check.verify.oracle import OracleRun
from bhpe_compile.check.verify.probes import accumulator_probes, compare_accumulators
from bhpe_compile.runtime.session import Execution, Place, Session, StepInfo

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
class Wrong:
    """The first wrong step: where it comes from, which step, in what it differs."""

    origin: str
    step: StepInfo
    layer: str
    what: str
    difference: Difference | None
    expected: Array | None = None
    found: Array | None = None
    value: str = ""
    described: Described | None = None
    arguments: Mapping[str, Array] | None = None
    """What the step reads, and what its reference makes of it with the right constants; see `repro`."""


@dataclass(frozen=True)
class JudgedProgram:
    """What came of the program."""

    compared: int
    flips: int
    signs: int
    wrong: Wrong | None


def lowered_again(artifact: Path, target: Target) -> dict[tuple[str, str], deque[Described]]:
    """(layer, kind of kernel) -> descriptions in order, of its model.onnx lowered for `target`; no code is made."""
    from bhpe_compile.compiler.pipeline import Compilation
    from bhpe_compile.passes.lower import graph as g
    from bhpe_compile.passes.lower.describe import ARRAY_ROLES, describe

    found: dict[tuple[str, str], deque[Described]] = defaultdict(deque)
    for node in Compilation.of_artifact(artifact, target).kernels.graph:
        if not g.is_kernel(node):
            continue
        kernel = describe(node)
        arrays = {
            r: a
            for r, v in g.operands_of(node).items()
            if r in ARRAY_ROLES and (a := g.array_of(v)) is not None
        }
        found[g.text(node, "layer"), node.op_type].append(
            Described(kernel, kernel.constants(target.isa, arrays))
        )
    return found


def judge_program(
    session: Session,
    oracle: OracleRun,
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    described: Mapping[tuple[str, str], deque[Described]],
) -> JudgedProgram:
    """Find the first wrong step."""
    judged = _judge(session, oracle, model, feeds, described)
    if judged.wrong is None or judged.wrong.described is None:
        return judged
    arguments = _arguments(judged.wrong, judged.wrong.described, session, feeds)
    return replace(judged, wrong=replace(judged.wrong, arguments=arguments))


def _judge(
    session: Session,
    oracle: OracleRun,
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    described: Mapping[tuple[str, str], deque[Described]],
) -> JudgedProgram:
    known = {
        step.index: described[key].popleft() for step in session.steps if described.get(key := _key(step))
    }
    layers = {layer.name: layer for layer in layers_of(model)}
    reads = {name: oracle_read(model, layer) for name, layer in layers.items()}
    expected = run_onnx(model, feeds, [*reads.values()]) | dict(feeds)
    free = session.execute(
        feeds,
        taps=[*_constants(session, known), *((s.index, s.argument("x")) for s in _watched(session, oracle))],
        probes=[probe for step in _watched(session, oracle) for probe in accumulator_probes(step)],
    )
    forced, writers = _forced(session, oracle, free), session.writers()
    readers = _readers(session, layers, writers)
    outputs = {writers[t.id]: t.name for t in session.outputs if t.id in writers}
    run = session.execute(feeds, taps=[*readers, *outputs], forced=forced)
    compared = flips = signs = 0
    for step in session.steps:
        for problem in _exact(step, known.get(step.index), free, oracle):
            found = replace(problem, described=known.get(step.index))
            return JudgedProgram(compared, flips, signs, found)
        compared += 1
        for place in (p for p in readers if p[0] == step.index):
            for reader in readers[place]:
                gap, want, got = _result(
                    reader, layers[reader.layer], run.taps[place], oracle, expected, reads
                )
                if gap is None:
                    continue
                compared += 1
                if reader.layer in oracle.layers:
                    flips, signs = flips + gap.flips, signs + gap.elements
                if not gap.ok:
                    origin = _origin(step, known.get(step.index), session, feeds, forced)
                    name = reads[reader.layer]
                    wrong = Wrong(
                        *(origin, step, step.layer or step.symbol, gap.what, gap, want, got, name),
                        described=known.get(step.index),
                    )
                    return JudgedProgram(compared, flips, signs, wrong)
    for tensor in session.outputs:
        output = session.interface.output(tensor.name)
        gap = compare_output(output, run.outputs[tensor.name], oracle.outputs[tensor.name])
        if not gap.ok:
            index = writers[tensor.id][0] if tensor.id in writers else len(session.steps) - 1
            step = session.steps[index]
            origin = _origin(step, known.get(index), session, feeds, forced)
            want, got = oracle.outputs[tensor.name], run.outputs[tensor.name]
            wrong = Wrong(origin, step, step.layer or step.symbol, gap.what, gap, want, got, tensor.name)
            return JudgedProgram(compared, flips, signs, wrong)
    return JudgedProgram(compared, flips, signs, None)


def _key(step: StepInfo) -> tuple[str, str]:
    return step.layer, step.kind


def _watched(session: Session, oracle: OracleRun) -> list[StepInfo]:
    """Steps of which the accumulators can be shown."""
    return [
        step
        for step in session.steps
        if (step.layer in oracle.layers and step.kind.startswith("Binary"))
        or (step.layer in oracle.int8 and step.kind.startswith("Int8"))
    ]


def _constants(session: Session, known: Mapping[int, Described]) -> list[Place]:
    return [
        (step.index, k)
        for step in session.steps
        if step.index in known
        for k, argument in enumerate(step.arguments)
        if argument.constant and argument.name in known[step.index].constants
    ]


def _exact(
    step: StepInfo, described: Described | None, free: Execution, oracle: OracleRun
) -> Iterator[Wrong]:
    """What must be equal: constants, then accumulators."""
    for k, argument in enumerate(step.arguments if described is not None else ()):
        if described is None or not argument.constant or argument.name not in described.constants:
            continue
        want, got = described.constants[argument.name], free.taps[step.index, k]
        if want.tobytes() != got.tobytes():
            gap = compare_floats(f"{argument.name} of {step.layer}", got, want, 0.0)
            yield Wrong(WEIGHTS, step, step.layer or step.symbol, gap.what, gap, want, got)
    if step.layer in oracle.layers and step.kind.startswith("Binary"):
        layer = oracle.layers[step.layer]
        bits = free.taps[step.index, step.argument("x")]
        signs = oracle.signs[step.layer]
        dot = layer.accumulate(unpack_signs(bits, layer.channels, (bits.shape[1] - signs.shape[1]) // 2))
    elif step.layer in oracle.int8 and step.kind.startswith("Int8"):
        dot = _memory(step, oracle, free).accumulate()
    else:
        return
    problem = compare_accumulators(dot, step, free.probes)
    if problem is not None:
        yield Wrong(CODE, step, step.layer, f"accumulators of {step.layer}: {problem}", None)


def _memory(step: StepInfo, oracle: OracleRun, run: Execution) -> LevelMemory:
    levels = oracle.levels[step.layer]
    return LevelMemory.of(oracle.int8[step.layer], levels.shape, run.taps[step.index, step.argument("x")])


def _forced(session: Session, oracle: OracleRun, free: Execution) -> dict[Place, Array]:
    """ONNX Runtime's signs and levels, at the steps that write them."""
    writers = session.writers()
    forced: dict[Place, Array] = {}
    for step in _watched(session, oracle):
        place = step.argument("x")
        old = free.taps[step.index, place]
        if step.layer in oracle.int8:
            array = _memory(step, oracle, free).filled(
                _memory(step, oracle, free).pick(oracle.levels[step.layer])
            )
        else:
            signs = oracle.signs[step.layer]
            border = (old.shape[1] - signs.shape[1]) // 2
            rows = np.packbits(signs, axis=-1, bitorder="little")
            array = np.zeros(old.shape, np.uint8)
            array[:, border : border + signs.shape[1], border : border + signs.shape[2], : rows.shape[-1]] = (
                rows
            )
        forced[writers[step.args[place]]] = array
    return forced


def _readers(
    session: Session, layers: Mapping[str, Layer], writers: Mapping[int, Place]
) -> dict[Place, list[StepInfo]]:
    """Where a value that layers read is written -> the steps that read it there."""
    found: dict[Place, list[StepInfo]] = defaultdict(list)
    for step in session.steps:
        if step.layer in layers and step.kind.startswith(("Binary", "Int8", "Dense")):
            tensor = step.args[step.argument("x")]
            if tensor in writers:
                found[writers[tensor]].append(step)
    return dict(found)


def oracle_read(model: onnx.ModelProto, layer: Layer) -> str:
    """The value of model.onnx that a layer reads, in front of its quantization."""
    producers = {name: node for node in model.graph.node for name in node.output}
    name = layer.x
    while (node := producers.get(name)) is not None and node.op_type in (
        "DequantizeLinear",
        "QuantizeLinear",
    ):
        name = node.input[0]
    return name


def _result(
    reader: StepInfo,
    layer: Layer,
    tapped: Array,
    oracle: OracleRun,
    expected: Mapping[str, Array],
    reads: Mapping[str, str],
) -> tuple[Difference | None, Array | None, Array | None]:
    """What a layer reads in the program against model.onnx."""
    x = expected.get(reads[layer.name])
    if x is None:
        return None, None, None
    if layer.name in oracle.layers:
        signs = oracle.signs[layer.name]
        found = unpack_signs(tapped, signs.shape[-1], (tapped.shape[1] - signs.shape[1]) // 2) > 0
        margin = margins_of(layer, x)
        margin = np.moveaxis(margin, 1, -1) if margin.ndim == 4 else margin[:, None, None, :]
        what = f"signs in front of {layer.name}"
        return compare_signs(what, found, signs, margin, ARTEFACT_BOUND), signs, found
    if layer.name in oracle.int8:
        memory = LevelMemory.of(oracle.int8[layer.name], oracle.levels[layer.name].shape, tapped)
        want = memory.pick(oracle.levels[layer.name]).astype(np.int64)
        got = memory.values() + memory.layer.zero
        gap = compare_floats(
            f"levels in front of {layer.name}", got, want, 2 / max(int(np.abs(want).max()), 1)
        )
        return gap, want, got
    last = np.moveaxis(x, 1, -1) if x.ndim == 4 else x
    if last.size != tapped.size:
        return None, None, None
    got = tapped.reshape(last.shape).astype(np.float32)
    return compare_floats(f"in front of {layer.name}", got, last, ARTEFACT_BOUND), last, got


def _origin(
    step: StepInfo,
    described: Described | None,
    session: Session,
    feeds: Mapping[str, Array],
    forced: Mapping[Place, Array],
) -> str:
    """Lowering or code generation: the step's machine code against its NumPy reference on the same arguments."""
    if described is None:
        return CODE
    own = {place: array for place, array in forced.items() if place[0] != step.index}
    places = [(step.index, k) for k in range(len(step.arguments))]
    run = session.execute(feeds, taps=places, forced=own)
    arrays = {a.name: run.taps[step.index, k] for k, a in enumerate(step.arguments) if k not in step.results}
    wanted = described.kernel.reference(**arrays)
    for k in step.results:
        name, got = step.arguments[k].name, run.taps[step.index, k]
        want = wanted[name]
        exact = got.dtype == np.uint8
        equal = np.mean(got != want) < 1e-3 if exact else compare_floats(name, got, want, ARTEFACT_BOUND).ok
        if not equal:
            return CODE
    return LOWERING


def _arguments(
    wrong: Wrong, described: Described, session: Session, feeds: Mapping[str, Array]
) -> dict[str, Array]:
    step = wrong.step
    places = [(step.index, k) for k in range(len(step.arguments))]
    taps = session.execute(feeds, taps=places).taps
    given = {k: taps[step.index, k] for k in range(len(step.arguments))}
    arrays = {a.name: described.constants.get(a.name, given[k]) for k, a in enumerate(step.arguments)}
    inputs = {name: arrays[name] for k, name in enumerate(step.roles) if k not in step.results}
    result = step.results[-1]
    expected = described.kernel.reference(**inputs)[step.roles[result]]
    free = {f"argument{k}": given[k] for k, a in enumerate(step.arguments) if not a.constant}
    return free | {"expected": expected, "step": np.array(step.index), "result": np.array(result)}

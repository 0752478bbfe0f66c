"""One picture through torch, ONNX Runtime and the artefact; four questions, each answered on its own.

1. Are the integers right? Every binary and 8-bit step of the artefact is run again, on the bits or levels it really
   read, with scale 1, bias 0 and no activation: its output is the accumulator, which must equal, bit for bit, the sum
   computed from model.onnx in NumPy (see `probes` for steps that store float16 or bits).
2. How many signs and levels differ from ONNX Runtime's? Float sums in another order move a value across a threshold
   now and then; the rates are reported.
3. Are the floats right? The artefact runs with ONNX Runtime's signs forced on every binary layer and its levels on
   every 8-bit one, so no flip can travel; all outputs must agree within the tolerances of the network's
   description. The free run's differences are reported beside.
4. What do 8-bit layers and float16 residuals cost? ONNX Runtime runs the file with and without their rounding; how
   far the outputs move and how many signs flip is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.check.verify.compare import beyond, differences, unit_of
from bhpe_compile.check.verify.integers import unpack_signs
from bhpe_compile.check.verify.levels import LevelMemory
from bhpe_compile.check.verify.oracle import OracleRun, run_oracle, run_without_rounding
from bhpe_compile.check.verify.probes import accumulator_probes, compare_accumulators
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.board import Board
from bhpe_compile.runtime.open import open_session
from bhpe_compile.runtime.session import Session

Tick = Callable[[str], None]

Feeds = Mapping[str, NDArray[Any]]
"""Inputs by name."""

Network = Callable[[Mapping[str, Any], Feeds], Mapping[str, NDArray[np.float32]]]
"""(manifest, inputs) -> the outputs of the uncompiled network by name."""


@dataclass(frozen=True)
class VerificationResult:
    """What `verify` found. Differences are in each output's own unit, `tolerances` what is allowed of them."""

    artefact: str
    executed: str  # "in this process", "qemu-aarch64", "unicorn"
    ok: bool
    binary_exact: bool
    binary_layers: int
    int8_exact: bool
    int8_layers: int
    flip_rate: float
    flips: int
    signs: int
    level_flip_rate: float
    max_abs_error: float  # forced signs, against ONNX Runtime
    max_abs_error_free: float  # free run, against ONNX Runtime
    max_abs_error_torch: float | None  # free run, against torch
    outputs: dict[str, dict[str, float]]
    first_difference: str | None
    rounding: (
        dict[str, float] | None
    )  # what 8-bit and float16 cost: "flip_rate", and by output; None without any
    tolerances: dict[str, float] = field(default_factory=dict)
    largest_output: str = ""
    """The output that `max_abs_error` is of, "" where nothing differs."""
    largest_unit: str = ""
    """What that is counted in."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--format json`."""
        return asdict(self)


def verify(
    path: Path,
    *,
    picture: Path | None = None,
    network: Network | None = None,
    board: Board | None = None,
    tick: Tick = lambda _: None,
) -> VerificationResult:
    """Verify the artefact at `path` (hashes are checked first).

    picture: another picture than the one of compile time; torch's outputs are then not compared, since they
    were recorded for that one, unless `network` computes them again (`check.bisect.stages.run_torch`). board: where the
    artefact runs, if not here. Raises InputError for a damaged artefact, ToolchainError without an emulator or a
    connection.
    """
    from bhpe_compile.artifact import check_artifact, load_reference
    from bhpe_compile.runtime import load_picture, make_feeds

    tick("check hashes")
    manifest = check_artifact(path)
    reference = load_reference(path)
    interface = Interface.from_dict(manifest["network"])
    feeds = reference.inputs if picture is None else make_feeds(interface, load_picture(picture))
    tick("ONNX Runtime")
    oracle = run_oracle(path / "model.onnx", feeds)
    rounding = rounding_cost(interface, oracle, run_without_rounding(path / "model.onnx", feeds))
    torch_outputs: Mapping[str, NDArray[Any]] | None = None if picture else reference.outputs
    if network is not None:
        tick("torch")
        torch_outputs = network(manifest, feeds)
    tick("artefact")
    with open_session(path, board=board) as session:
        return _verify(path, session, oracle, feeds, torch_outputs, rounding, tick)


def rounding_cost(
    interface: Interface, rounded: OracleRun, full: OracleRun | None
) -> dict[str, float] | None:
    """How far outputs move (in their own units) and which part of all signs flips through 8-bit and float16 values."""
    if full is None:
        return None
    flips = sum(int((rounded.signs[name] != full.signs[name]).sum()) for name in rounded.signs)
    signs = sum(array.size for array in rounded.signs.values())
    return {
        "flip_rate": flips / signs if signs else 0.0,
        **differences(interface, rounded.outputs, full.outputs),
    }


def _verify(
    path: Path,
    session: Session,
    oracle: OracleRun,
    feeds: Feeds,
    torch_outputs: Mapping[str, NDArray[np.float32]] | None,
    rounding: dict[str, float] | None,
    tick: Tick,
) -> VerificationResult:
    steps = {s.layer: s for s in session.steps if s.layer in oracle.layers and s.kind.startswith("Binary")}
    int8 = {s.layer: s for s in session.steps if s.layer in oracle.int8 and s.kind.startswith("Int8")}
    watched = [*steps.values(), *int8.values()]
    run = session.execute(
        feeds,
        taps=[(s.index, s.argument("x")) for s in watched],
        probes=[p for s in watched for p in accumulator_probes(s)],
    )
    tick("integers")
    wrong = [
        f"{name}: no step of the artefact computes it" for name in sorted(set(oracle.layers) - set(steps))
    ]
    wrong8 = [f"{name}: no step of the artefact computes it" for name in sorted(set(oracle.int8) - set(int8))]
    forced: dict[tuple[int, int], NDArray[Any]] = {}
    writers = session.writers()
    level_flips = levels = 0
    for name, step in int8.items():
        place = step.argument("x")
        memory = LevelMemory.of(oracle.int8[name], oracle.levels[name].shape, run.taps[step.index, place])
        expected_levels = memory.pick(oracle.levels[name])
        level_flips += int((memory.values() != expected_levels.astype(np.int64) - memory.layer.zero).sum())
        levels += expected_levels.size
        forced[writers[step.args[place]]] = memory.filled(expected_levels)
        problem = compare_accumulators(memory.accumulate(), step, run.probes)
        if problem is not None:
            wrong8.append(f"{name}: {problem}")
    flips = signs = 0
    for name, step in steps.items():
        layer = oracle.layers[name]
        bits = run.taps[step.index, step.argument("x")]
        border = _border(bits, oracle.signs[name])
        found = unpack_signs(bits, layer.channels, border)
        expected = oracle.signs[name]
        flips += int(((found > 0) != expected).sum())
        signs += expected.size
        problem = compare_accumulators(layer.accumulate(found), step, run.probes)
        if problem is not None:
            wrong.append(f"{name}: {problem}")
        forced[writers[step.args[step.argument("x")]]] = _pack(expected, bits.shape, border)
    tick("forced signs")
    forced_run = session.execute(feeds, forced=forced)
    interface = session.interface
    gaps = differences(interface, forced_run.outputs, oracle.outputs)
    free = differences(interface, run.outputs, oracle.outputs)
    torch_gaps = differences(interface, run.outputs, torch_outputs) if torch_outputs is not None else None
    far = beyond(interface, gaps)
    worst = max(gaps, key=lambda name: gaps[name], default="")
    worst = worst if gaps.get(worst) else ""
    first = (
        (wrong + wrong8)[0]
        if wrong or wrong8
        else next((f"output {n}: off by {v:.3g}" for n, v in far.items()), None)
    )
    if first is None:  # a free run may flip signs, so only what is no number counts
        endless = [n for n, v in (torch_gaps or {}).items() if not math.isfinite(v)]
        first = f"output {endless[0]}: NaN or infinity in PyTorch or here" if endless else None
    return VerificationResult(
        artefact=str(path),
        executed=session.executed,
        ok=first is None,
        binary_exact=not wrong,
        binary_layers=len(oracle.layers),
        int8_exact=not wrong8,
        int8_layers=len(oracle.int8),
        flip_rate=flips / signs if signs else 0.0,
        flips=flips,
        signs=signs,
        level_flip_rate=level_flips / levels if levels else 0.0,
        max_abs_error=max(gaps.values(), default=0.0),
        max_abs_error_free=max(free.values(), default=0.0),
        max_abs_error_torch=max(torch_gaps.values(), default=0.0) if torch_gaps is not None else None,
        outputs={n: {"forced": gaps[n], "free": free[n]} for n in gaps},
        first_difference=first,
        rounding=rounding,
        tolerances={name: interface.output(name).bound for name in gaps},
        largest_output=worst,
        largest_unit=unit_of(interface.output(worst)) if worst else "",
    )


def _border(bits: NDArray[np.uint8], signs: NDArray[np.bool_]) -> int:
    return int(bits.shape[1] - signs.shape[1]) // 2


def _pack(signs: NDArray[np.bool_], shape: tuple[int, ...], border: int) -> NDArray[np.uint8]:
    packed = np.zeros(shape, np.uint8)
    rows = np.packbits(signs, axis=-1, bitorder="little")
    packed[:, border : border + signs.shape[1], border : border + signs.shape[2], : rows.shape[-1]] = rows
    return packed

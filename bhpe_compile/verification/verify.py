"""One picture through torch, ONNX Runtime and the artefact; three questions, each answered on its own.

1. Are the integers right? Every binary step of the artefact is run again, on the bits it really read, with
   scale 1, bias 0 and no activation: its output is the accumulator, which must equal, bit for bit, the sum
   computed from model.onnx in NumPy. A step that writes only bits is compared through thresholds put among its
   accumulators.
2. How many signs differ from ONNX Runtime's? Float sums in another order move a value across a threshold now
   and then; the rate is reported.
3. Are the floats right? The artefact runs with ONNX Runtime's signs forced on every binary layer, so no flip can
   travel; all outputs must agree within `compare.TOLERANCES`. The free run's differences are reported beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.runtime.session import Session, open_session
from bhpe_compile.verification.compare import TOLERANCES, beyond, differences
from bhpe_compile.verification.integers import unpack_signs
from bhpe_compile.verification.oracle import OracleRun, run_oracle
from bhpe_compile.verification.probes import accumulator_probe, compare_accumulators

Tick = Callable[[str], None]


@dataclass(frozen=True)
class VerificationResult:
    """What `verify` found. Differences are in each output's own unit (see compare.TOLERANCES)."""

    artefact: str
    executed: str  # "in this process", "qemu-aarch64", "unicorn"
    ok: bool
    binary_exact: bool
    binary_layers: int
    flip_rate: float
    flips: int
    signs: int
    max_abs_error: float  # forced signs, against ONNX Runtime
    max_abs_error_free: float  # free run, against ONNX Runtime
    max_abs_error_torch: float | None  # free run, against torch
    outputs: dict[str, dict[str, float]]
    first_difference: str | None
    tolerances: dict[str, float] = field(default_factory=lambda: dict(TOLERANCES))

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--format json`."""
        return asdict(self)


def verify(path: Path, *, picture: Path | None = None, tick: Tick = lambda _: None) -> VerificationResult:
    """Verify the artefact at `path` (hashes are checked first).

    picture: another picture than the one of compile time; torch's outputs are then not compared, since they
    were recorded for that one. Raises InputError for a damaged artefact, ToolchainError without an emulator.
    """
    from bhpe_compile.artifact import check_artifact, load_reference
    from bhpe_compile.runtime import load_picture

    tick("check hashes")
    manifest = check_artifact(path)
    reference = load_reference(path)
    image = reference.image if picture is None else load_picture(picture).network_input
    feeds = {manifest["inputs"][0]["name"]: image}
    tick("ONNX Runtime")
    oracle = run_oracle(path / "model.onnx", feeds)
    tick("artefact")
    with open_session(path) as session:
        return _verify(path, session, oracle, feeds, None if picture else reference.outputs, tick)


def _verify(
    path: Path,
    session: Session,
    oracle: OracleRun,
    feeds: Mapping[str, NDArray[np.float32]],
    torch_outputs: Mapping[str, NDArray[np.float32]] | None,
    tick: Tick,
) -> VerificationResult:
    steps = {s.layer: s for s in session.steps if s.layer in oracle.layers and s.kind.startswith("Binary")}
    missing = sorted(set(oracle.layers) - set(steps))
    run = session.execute(
        feeds,
        taps=[(s.index, s.argument("x")) for s in steps.values()],
        probes=[p for s in steps.values() for p in accumulator_probe(s)],
    )
    tick("integers")
    wrong: list[str] = [f"{name}: no step of the artefact computes it" for name in missing]
    flips = signs = 0
    forced: dict[tuple[int, int], NDArray[np.uint8]] = {}
    writers = session.writers()
    for name, step in steps.items():
        layer = oracle.layers[name]
        bits = run.taps[step.index, step.argument("x")]
        border = _border(bits, oracle.signs[name])
        found = unpack_signs(bits, layer.channels, border)
        expected = oracle.signs[name]
        flips += int(((found > 0) != expected).sum())
        signs += expected.size
        problem = compare_accumulators(layer, step, found, run.probes)
        if problem is not None:
            wrong.append(f"{name}: {problem}")
        forced[writers[step.args[step.argument("x")]]] = _pack(expected, bits.shape, border)
    tick("forced signs")
    forced_run = session.execute(feeds, forced=forced)
    gaps = differences(forced_run.outputs, oracle.outputs)
    free = differences(run.outputs, oracle.outputs)
    torch_gaps = differences(run.outputs, torch_outputs) if torch_outputs is not None else None
    far = beyond(gaps)
    first = wrong[0] if wrong else next((f"output {n}: off by {v:.3g}" for n, v in far.items()), None)
    return VerificationResult(
        artefact=str(path),
        executed=session.executed,
        ok=first is None,
        binary_exact=not wrong,
        binary_layers=len(oracle.layers),
        flip_rate=flips / signs if signs else 0.0,
        flips=flips,
        signs=signs,
        max_abs_error=max(gaps.values(), default=0.0),
        max_abs_error_free=max(free.values(), default=0.0),
        max_abs_error_torch=max(torch_gaps.values(), default=0.0) if torch_gaps is not None else None,
        outputs={n: {"forced": gaps[n], "free": free[n]} for n in gaps},
        first_difference=first,
    )


def _border(bits: NDArray[np.uint8], signs: NDArray[np.bool_]) -> int:
    return int(bits.shape[1] - signs.shape[1]) // 2


def _pack(signs: NDArray[np.bool_], shape: tuple[int, ...], border: int) -> NDArray[np.uint8]:
    packed = np.zeros(shape, np.uint8)
    rows = np.packbits(signs, axis=-1, bitorder="little")
    packed[:, border : border + signs.shape[1], border : border + signs.shape[2], : rows.shape[-1]] = rows
    return packed

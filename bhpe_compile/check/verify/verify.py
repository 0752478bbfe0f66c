"""Pictures through model.onnx in ONNX Runtime and through the compiled library: is every value the same?

Sums are sums of whole numbers and everything else is written out (docs/exactness.md), so all that feeds a sign, a level
or a box is equal, bit for bit, on every target. `verify` compares what every binary and 8-bit layer reads, and every
output. Boxes are equal; behind the last level a rounding may fall the other way, which `compare.allowed` bounds.

A network with float layers in front of a sign, a level or a box (`--scheme float`, `--dense fp32`) has no such
guarantee. Then the library runs once more with ONNX Runtime's signs, levels and boxes written over its own, so that
no flip travels, and the outputs of that run are held against the tolerances of the network's description; the flips
are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.artifact.load import load_onnx
from bhpe_compile.artifact.manifest import is_imported
from bhpe_compile.check.verify.compare import allowed, differences, shortfall, unit_of
from bhpe_compile.check.verify.oracle import Oracle, OracleRun
from bhpe_compile.exchange.float_parts import places
from bhpe_compile.exchange.runtime import relative_differences
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.board import Board
from bhpe_compile.runtime.open import open_session
from bhpe_compile.runtime.session import Place, Session, StepInfo

Tick = Callable[[str], None]

Array = NDArray[Any]

Feeds = Mapping[str, Array]
"""Inputs by name."""

Network = Callable[[Mapping[str, Any], Feeds], Mapping[str, NDArray[np.float32]]]
"""(manifest, inputs) -> the outputs of the network made again from its checkpoint, by name."""

Original = Callable[[Mapping[str, Any], Feeds], Mapping[str, NDArray[Any]] | None]
"""(manifest, inputs) -> what another program computes of the file that was compiled; None where none runs it."""

FLOAT_BOUND = 1e-3
"""Of an output's largest value: how far a model.onnx that computes in float32 may be from the file it was made of. Sums
are added in another order, and batch norms are folded."""


@dataclass(frozen=True)
class Choices:
    """The largest value of how many rows, on all inputs, stands at the same place in the library's own run and in ONNX
    Runtime's, and the float parts in front."""

    same: int
    rows: int
    float_parts: tuple[str, ...]


@dataclass(frozen=True)
class VerificationResult:
    """What `verify` found. `outputs` are largest differences, each in its own unit; `tolerances` what is allowed."""

    artefact: str
    executed: str  # "in this process", "qemu-aarch64", "unicorn"
    ok: bool
    equal: bool
    """Whether every sign, level and box is the same, on all pictures."""
    pictures: int
    binary_exact: bool
    binary_layers: int
    int8_exact: bool
    int8_layers: int
    boxes: int
    differing: int
    """Signs and levels that differ, of `values`."""
    values: int
    first_difference: str | None
    unsettled: int
    """Layers behind a float part: what they read may differ."""
    float_parts: tuple[str, ...]
    """Nodes in front of a sign, a level, a box or what a linear layer rounds that no two programs compute alike."""
    max_abs_error: float
    outputs: dict[str, float]
    tolerances: dict[str, float] = field(default_factory=dict)
    largest_output: str = ""
    """The output that `max_abs_error` is of, "" where nothing differs."""
    largest_unit: str = ""
    """What that is counted in."""
    remade: bool | None = None
    """Whether model.onnx is, byte for byte, what the checkpoint or file gives now; None: it was not made again."""
    argmax: dict[str, Choices] = field(default_factory=dict)
    """Of every output that an argmax is taken of behind float parts: how often it falls on the same place."""
    against_file: dict[str, float] = field(default_factory=dict)
    """How far model.onnx is from what ONNX Runtime computes of the ONNX file itself: the largest difference of every
    output, as a part of its largest value. Measured: with 8 bits no bound is known beforehand."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--format json`."""
        return asdict(self)


def verify(
    path: Path,
    *,
    pictures: Sequence[Path] = (),
    network: Network | None = None,
    same: Callable[[Mapping[str, Any]], bool] | None = None,
    original: Original | None = None,
    board: Board | None = None,
    tick: Tick = lambda _: None,
) -> VerificationResult:
    """Verify the artefact at `path` (hashes are checked first).

    pictures: what to compute on; none: the recorded input and an embedded picture, or seeded tensors. The outputs
    recorded when it was compiled are held against this machine's as well. network: computes the outputs of the
    checkpoint again, `same` says whether it gave the same model.onnx, and `original` what the file computes itself
    (the methods of `check.bisect.remake.Again`). board: where the artefact runs, if not here. Raises InputError
    for a damaged artefact, ToolchainError without an emulator or a connection.
    """
    from bhpe_compile.artifact import check_artifact
    from bhpe_compile.check.verify.examples import examples_for

    tick("check hashes")
    manifest = check_artifact(path)
    interface = Interface.from_dict(manifest["network"])
    tick("ONNX Runtime")
    oracle = Oracle(load_onnx(path / "model.onnx"), interface)
    found = _Findings(oracle, interface)
    if same is not None:
        tick("make model.onnx again")
        found.remade = same(manifest)
    source = "the ONNX file" if is_imported(manifest) else "the checkpoint"
    in_float = manifest.get("options", {}).get("dense") == "fp32"
    with open_session(path, board=board) as session:
        watched = watched_steps(session, oracle)
        found.missing(watched)
        for name, feeds, recorded in examples_for(path, manifest, interface, pictures):
            tick(name)
            wanted = oracle.run(feeds)
            found.compare(name, session, watched, feeds, wanted)
            if recorded is not None:
                found.against("what was recorded when it was compiled", wanted.outputs, recorded)
            if network is not None:
                outputs = network(manifest, feeds)
                found.against(source, wanted.outputs, outputs, in_one_program=is_imported(manifest))
            if original is not None and (own := original(manifest, feeds)) is not None:
                found.measure(wanted.outputs, own, FLOAT_BOUND if in_float else math.inf)
        return found.result(str(path), session.executed)


def watched_steps(session: Session, oracle: Oracle) -> list[StepInfo]:
    """The steps that compute the layers of the oracle, in the order of the program."""
    return [
        step
        for step in session.steps
        if step.layer in oracle.layers
        and step.kind.startswith("Binary" if oracle.layers[step.layer].kind == "binary" else "Int8")
    ]


def boxes_of_crops(session: Session, wanted: OracleRun) -> dict[Place, Array]:
    """The oracle's boxes, where the steps that cut crops find theirs: a box that is rounded to the next 1/16 pixel is
    another crop."""
    writers = session.writers()
    found: dict[Place, Array] = {}
    for step in session.steps:
        if step.kind != "Crop" or step.layer not in wanted.crops:
            continue
        argument = step.arguments[step.argument("boxes")]
        if argument.id in writers:
            found[writers[argument.id]] = wanted.crops[step.layer].reshape(argument.shape)
    return found


class _Findings:
    """Gathers what differs, picture by picture."""

    def __init__(self, oracle: Oracle, interface: Interface) -> None:
        self.oracle, self.interface = oracle, interface
        # where nothing is rounded to signs or levels, all is sums of floats, in the order of each program
        self.strict = bool(oracle.layers) and not oracle.float_parts
        self.first: str | None = None
        self.wrong: set[str] = set()
        self.differing = self.values = self.pictures = 0
        self.gaps: dict[str, float] = {}
        self.remade: bool | None = None
        self.against_file: dict[str, float] = {}
        self.choices = {name: Choices(0, 0, parts) for name, parts in oracle.chosen.items()}

    def blame(self, text: str) -> None:
        """Remember the first difference."""
        self.first = self.first or text

    def missing(self, watched: Sequence[StepInfo]) -> None:
        """Layers that no step computes."""
        for name in sorted(set(self.oracle.layers) - {step.layer for step in watched}):
            self.wrong.add(name)
            self.blame(f"{name}: no step of the artefact computes it")

    def compare(
        self, picture: str, session: Session, watched: Sequence[StepInfo], feeds: Feeds, wanted: OracleRun
    ) -> None:
        """Run the artefact on one picture."""
        self.pictures += 1
        taps = [(step.index, step.argument("x")) for step in watched]
        run = session.execute(feeds, taps=taps)
        forced: dict[Place, Array] = {}
        writers = session.writers()
        for step, place in zip(watched, taps, strict=True):
            layer, want = self.oracle.layers[step.layer], wanted.reads[step.layer]
            got = layer.of_memory(run.taps[place], want.shape)
            differ = int((got != want).sum())
            self.differing, self.values = self.differing + differ, self.values + want.size
            if differ:
                self.wrong.add(step.layer)
                if step.layer in self.oracle.settled:
                    what = "signs" if layer.kind == "binary" else "levels"
                    where = tuple(int(i) for i in np.argwhere(got != want)[0])
                    self.blame(
                        f"{picture}, {what} in front of {step.layer}: {differ} of {want.size} differ, first at {where}"
                    )
                tensor = step.args[place[1]]
                if tensor in writers:
                    forced[writers[tensor]] = layer.to_memory(want, run.taps[place])
        outputs = run.outputs
        self._count_choices(outputs, wanted.outputs)
        if not self.strict:
            forced |= boxes_of_crops(session, wanted)
            outputs = session.execute(feeds, forced=forced).outputs if forced else outputs
        gaps = differences(self.interface, outputs, wanted.outputs)
        for name, scores in wanted.scores.items():
            gaps[name] = shortfall(outputs[name], scores)
        for name, gap in gaps.items():
            self.gaps[name] = max(gap, self.gaps.get(name, 0.0))
        self._judge(picture, gaps)

    def _count_choices(self, got: Mapping[str, Array], want: Mapping[str, Array]) -> None:
        """How often the largest value stands at the same place; nothing is forced here."""
        for name, so_far in self.choices.items():
            ours, theirs = places(got[name]), places(want[name])
            same = so_far.same + int((ours == theirs).sum())
            self.choices[name] = replace(so_far, same=same, rows=so_far.rows + theirs.size)

    def against(
        self, what: str, got: Mapping[str, Array], want: Mapping[str, Array], *, in_one_program: bool = False
    ) -> None:
        """model.onnx here against outputs from elsewhere; float parts are alike where one program computed both."""
        gaps = differences(self.interface, got, want)
        if any(not math.isfinite(gap) for gap in gaps.values()):
            name = next(n for n, gap in gaps.items() if not math.isfinite(gap))
            self.blame(f"output {name}: NaN or infinity here or in {what}")
        elif self.strict or in_one_program:
            self._judge(what, gaps)

    def measure(self, got: Mapping[str, Array], want: Mapping[str, Array], bound: float) -> None:
        """How far model.onnx is from the file it was made of; farther than `bound` is wrong."""
        for name, gap in relative_differences(got, want).items():
            self.against_file[name] = max(gap, self.against_file.get(name, 0.0))
            if not gap <= bound:
                self.blame(f"output {name}: {gap:.3g} of its largest value from what the file computes")

    def _judge(self, picture: str, gaps: Mapping[str, float]) -> None:
        for name, gap in gaps.items():
            if gap <= self.tolerance(name):
                continue
            self.blame(
                f"{picture}, output {name}: off by {gap:.3g} {unit_of(self.interface.output(name))}".rstrip()
            )

    def tolerance(self, name: str) -> float:
        """What an output may be off by."""
        exact = bool(self.oracle.layers) and name in self.oracle.settled
        return allowed(self.interface.output(name), exact)

    def result(self, artefact: str, executed: str) -> VerificationResult:
        """What was found."""
        kinds = {name: layer.kind for name, layer in self.oracle.layers.items()}
        wrong = {kind: any(kinds[name] == kind for name in self.wrong) for kind in ("binary", "int8")}
        worst = max(self.gaps, key=lambda name: self.gaps[name], default="")
        worst = worst if self.gaps.get(worst) else ""
        boxes = self.oracle.boxes
        return VerificationResult(
            artefact=artefact,
            executed=executed,
            ok=self.first is None,
            equal=not self.oracle.float_parts
            and not self.wrong
            and all(self.gaps[name] == 0 for name in boxes),
            pictures=self.pictures,
            binary_exact=not wrong["binary"],
            binary_layers=sum(kind == "binary" for kind in kinds.values()),
            int8_exact=not wrong["int8"],
            int8_layers=sum(kind == "int8" for kind in kinds.values()),
            boxes=len(boxes),
            differing=self.differing,
            values=self.values,
            first_difference=self.first,
            unsettled=len(self.oracle.layers.keys() - self.oracle.settled),
            float_parts=self.oracle.float_parts,
            max_abs_error=max(self.gaps.values(), default=0.0),
            outputs=dict(self.gaps),
            tolerances={name: self.tolerance(name) for name in self.gaps},
            largest_output=worst,
            largest_unit=unit_of(self.interface.output(worst)) if worst else "",
            remade=self.remade,
            argmax=dict(self.choices),
            against_file=dict(self.against_file),
        )

"""The first pass, then the first node, whose result differs from the reference beyond its bound.

    torch -> exported ONNX -> after onnxsim -> after every fold pass -> model.onnx -> every step of the program

With the checkpoint all stages are made again, and torch is the reference up to model.onnx. From the artefact alone
model.onnx is the reference: whether it is right itself can then only be seen in its outputs, and flips travel through
those, so that they are told and not judged. The kernel graphs between the lower passes are not run: a wrong step is
traced to its constants, to the machine code or to the lowering as a whole (see `artefact_stage`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bhpe_compile.artifact.load import load_onnx
from bhpe_compile.check.bisect.artefact_stage import Wrong, judge_program, lowered_again
from bhpe_compile.check.bisect.graph_stage import Judged, judge, reference_margins, reference_signs
from bhpe_compile.check.bisect.reference import torch_reference
from bhpe_compile.check.bisect.repro import check_folder, extract, write_repro, write_step
from bhpe_compile.check.bisect.stages import Snapshot, options_of, remake
from bhpe_compile.check.bisect.statistics import Difference
from bhpe_compile.check.verify.oracle import run_oracle
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.networks.interface import Interface

Array = NDArray[Any]
Tick = Callable[[str], None]


@dataclass(frozen=True)
class StageResult:
    """One stage: how many places were compared, how many signs flipped, whether all is within the bounds."""

    stage: str
    name: str
    ok: bool
    compared: int
    flips: int
    signs: int


@dataclass(frozen=True)
class Culprit:
    """The first difference: behind which pass (or in what part of the artefact), at which node."""

    stage: str
    pass_name: str
    node: str
    what: str
    difference: Difference | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BisectResult:
    """What `bisect` found; `culprit` None: no difference."""

    artefact: str
    reference: str
    stages: tuple[StageResult, ...]
    culprit: Culprit | None
    repro: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing differs beyond its bound."""
        return self.culprit is None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"ok": self.ok}


def bisect(
    path: Path,
    *,
    checkpoint: Path | None = None,
    picture: Path | None = None,
    repro: Path | None = None,
    calibrate: tuple[Path, ...] = (),
    tick: Tick = lambda _: None,
) -> BisectResult:
    """Bisect the artefact at `path` on its recorded picture, or on another.

    checkpoint: what it was compiled from; without it the search begins at model.onnx. repro: a folder for the smallest
    graph that shows the difference. calibrate: the pictures it was calibrated on, where these were named. Raises as
    `verify` does.
    """
    from bhpe_compile.artifact import check_artifact, load_reference
    from bhpe_compile.runtime import load_picture, make_feeds

    if repro is not None:
        check_folder(repro)
    tick("check hashes")
    manifest = check_artifact(path)
    interface = Interface.from_dict(manifest["network"])
    given = load_reference(path).inputs if picture is None else make_feeds(interface, load_picture(picture))
    feeds = {port["name"]: given[port["name"]] for port in manifest["inputs"]}
    search = _Search(path, feeds, repro, tick)
    if checkpoint is not None:
        options = replace(options_of(manifest), calibrate=calibrate)
        search.from_checkpoint(checkpoint, options, interface)
    if search.culprit is None:
        search.through_program(manifest)
    return search.result("torch" if checkpoint is not None else "model.onnx")


@dataclass
class _Search:
    """Goes from stage to stage until something differs."""

    path: Path
    feeds: Mapping[str, Array]
    repro: Path | None
    tick: Tick
    stages: list[StageResult] = field(default_factory=list)
    culprit: Culprit | None = None
    files: tuple[Path, ...] = ()
    remarks: list[str] = field(default_factory=list)

    def result(self, reference: str) -> BisectResult:
        """What was found."""
        files = tuple(str(path) for path in self.files)
        return BisectResult(
            str(self.path), reference, tuple(self.stages), self.culprit, files, tuple(self.remarks)
        )

    def from_checkpoint(self, checkpoint: Path, options: CompileOptions, interface: Interface) -> None:
        """torch, the exported graph, every fold pass, and the artefact's own model.onnx."""
        self.tick("make the model again")
        remade = remake(checkpoint, options, self.feeds)
        reference = torch_reference(remade.graph, self.feeds, interface)
        load_onnx(self.path / "model.onnx")  # damage is told before its bytes are looked at
        own = (self.path / "model.onnx").read_bytes()
        snapshots = [*remade.snapshots]
        if own != snapshots[-1].content:
            self.remarks.append("model.onnx is not what the checkpoint and the recorded options give now")
        snapshots.append(Snapshot("artefact", "model.onnx", own, ()))
        first = snapshots[0].model
        signs, margins = reference_signs(first, reference), reference_margins(first, reference)
        changed: set[str] = set()
        for snapshot in snapshots:
            self.tick(f"after {snapshot.name}")
            changed |= {n.site for n in snapshot.notes if n.applied and n.pass_name == "fold-threshold"}
            judged = judge(snapshot.model, reference, signs, margins, self.feeds, frozenset(changed))
            ok = judged.finding is None
            self.stages.append(
                StageResult(snapshot.stage, snapshot.name, ok, judged.compared, judged.flips, judged.signs)
            )
            if not ok:
                self._blame(snapshot, judged)
                return

    def _blame(self, snapshot: Snapshot, judged: Judged) -> None:
        finding = judged.finding
        if finding is None:
            return
        notes = tuple(note.reason for note in snapshot.notes if note.site == finding.node)
        self.culprit = Culprit(
            snapshot.stage, snapshot.name, finding.node, finding.difference.what, finding.difference, notes
        )
        if self.repro is not None:
            part, inputs = extract(judged.values.model, finding.value, judged.good, judged.values.values)
            expected: dict[str, Array] = {"expected": finding.expected, "found": finding.found}
            expected["bound"] = np.array(
                finding.difference.bound if finding.expected.dtype != np.bool_ else 0.5
            )
            self.files = write_repro(self.repro, part, inputs, expected, self._text())

    def through_program(self, manifest: Mapping[str, Any]) -> None:
        """Every step of the compiled program against model.onnx."""
        from bhpe_compile.runtime import open_session
        from bhpe_compile.targets import PRESETS, restore_target

        self.tick("ONNX Runtime")
        oracle = run_oracle(self.path / "model.onnx", self.feeds)
        self.tick("lower again")
        target = restore_target(manifest["target"], PRESETS)
        if target is not None:
            described = lowered_again(self.path, target)
        else:
            described = {}
            self.remarks.append(
                f"target {manifest['target']['name']} is another one now: the constants are not compared"
            )
        self.tick("program")
        model = load_onnx(self.path / "model.onnx")
        with open_session(self.path) as session:
            judged = judge_program(session, oracle, model, self.feeds, described)
        self.stages.append(
            StageResult(
                "artefact", "program", judged.wrong is None, judged.compared, judged.flips, judged.signs
            )
        )
        if judged.wrong is not None:
            self._blame_step(judged.wrong, model)

    def _blame_step(self, wrong: Wrong, model: onnx.ModelProto) -> None:
        note = f"step {wrong.step.index}, kernel {wrong.step.symbol}"
        self.culprit = Culprit("artefact", wrong.origin, wrong.layer, wrong.what, wrong.difference, (note,))
        if self.repro is not None:
            self.files = write_step(self.repro, wrong, model, self.feeds, self._text())

    def _text(self) -> str:
        return describe(self.culprit, self.path) if self.culprit is not None else ""


def describe(culprit: Culprit, path: Path) -> str:
    """README.md of a reproduction."""
    lines = [
        "# First difference",
        "",
        f"`{path.name}`: after `{culprit.pass_name}` ({culprit.stage}), at `{culprit.node}`: {culprit.what}.",
        "",
    ]
    if culprit.difference is not None:
        gap = culprit.difference
        lines += [
            f"- {gap.beyond} of {gap.elements} elements beyond {gap.bound:.4g}, the first at {gap.first}",
            f"- largest difference {gap.largest:.6g}, root mean square {gap.rms:.6g}",
            f"- expected {gap.expected_range[0]:.6g} .. {gap.expected_range[1]:.6g}, "
            f"found {gap.found_range[0]:.6g} .. {gap.found_range[1]:.6g}",
            f"- {gap.flips} signs differ ({gap.flip_rate:.2e})",
        ]
    lines += [f"- {note}" for note in culprit.notes]
    lines += [
        "",
        "`python run.py` runs `model.onnx` on `inputs.npz` and compares with `expected.npz`.",
        "Where there is a `step.py`, `python step.py ARTEFACT` runs the step of the compiled program that is wrong;",
        "`model.onnx` then is the same layer as it should compute.",
        "",
    ]
    return "\n".join(lines)

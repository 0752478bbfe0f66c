"""The first step that differs: between a checkpoint made again and model.onnx, then between model.onnx and the program.

    checkpoint -> torch (the folded graph)         =   model.onnx in ONNX Runtime   =   the compiled program
    ONNX file  -> ONNX Runtime (the folded graph)  =   model.onnx in ONNX Runtime   =   the compiled program

All three compute the same signs and levels (docs/exactness.md), so the first layer that reads another one tells where
something is wrong: the step that wrote it. `blame` then says whether its constants, its machine code or its lowering.
A network with float layers in front of signs has no such guarantee and is refused. Where nothing is rounded to levels,
the outputs are held to the tolerances of their description, and constants are compared to the bit.

What ONNX Runtime computes of an ONNX file itself is only measured: 8 bits are not equal to float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bhpe_compile.artifact.load import load_onnx
from bhpe_compile.check.bisect.blame import Steps, lowered_again
from bhpe_compile.check.bisect.remake import remake
from bhpe_compile.check.bisect.repro import check_folder, write_layer
from bhpe_compile.check.verify.compare import allowed, differences
from bhpe_compile.check.verify.layers import layers_of
from bhpe_compile.check.verify.oracle import Oracle, OracleRun, run_values
from bhpe_compile.check.verify.verify import watched_steps
from bhpe_compile.errors import InputError
from bhpe_compile.exchange.runtime import relative_differences
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.session import Session

if TYPE_CHECKING:
    from bhpe_compile.compiler.pipeline import Compilation

Array = NDArray[Any]
Tick = Callable[[str], None]

CHECKPOINT, PROGRAM = "model.onnx", "program"
"""What is compared: the artefact's model.onnx with the one that is made again, the program with model.onnx."""


@dataclass(frozen=True)
class StageResult:
    """One comparison: how many signs and levels were compared, and how many differ."""

    name: str
    ok: bool
    compared: int
    differing: int


@dataclass(frozen=True)
class Culprit:
    """The first difference: of what kind, at which layer, in what."""

    origin: str
    """"model.onnx" (it is not what checkpoint or file give), "weights.bin", "code generation" or "lower"."""

    node: str
    what: str
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
    against_file: Mapping[str, float] = field(default_factory=dict)
    """How far model.onnx is from the ONNX file itself: the largest difference of every output, as a part of its largest
    value."""

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
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
    """Bisect the artefact at `path` on its recorded input, or on a picture.

    checkpoint: what it was compiled from, a checkpoint or an ONNX file; without it the search begins at model.onnx.
    repro: a folder for the layer that differs, its inputs and how to run it. calibrate: the pictures it was calibrated
    on, where these were named.
    Raises as `verify` does, and InputError for a network whose signs or levels come from float layers.
    """
    from bhpe_compile.artifact import check_artifact, load_reference
    from bhpe_compile.runtime import load_picture, make_feeds

    if repro is not None:
        check_folder(repro)
    tick("check hashes")
    manifest = check_artifact(path)
    interface = Interface.from_dict(manifest["network"])
    recorded = load_reference(path).inputs
    given = recorded if picture is None else make_feeds(interface, load_picture(picture))
    names = [port["name"] for port in manifest["inputs"]]
    search = _Search(path, interface, {name: given[name] for name in names}, repro, tick)
    if checkpoint is not None:
        tick("make model.onnx again")
        search.from_source(remake(checkpoint, manifest, calibrate, recorded, path))
    if search.culprit is None:
        search.through_program(manifest)
    reference = "model.onnx" if checkpoint is None else search.source
    files = tuple(str(file) for file in search.files)
    return BisectResult(
        str(path),
        reference,
        tuple(search.stages),
        search.culprit,
        files,
        tuple(search.remarks),
        search.against_file,
    )


@dataclass
class _Search:
    """Goes from stage to stage until something differs."""

    path: Path
    interface: Interface
    feeds: Mapping[str, Array]
    repro: Path | None
    tick: Tick
    stages: list[StageResult] = field(default_factory=list)
    culprit: Culprit | None = None
    files: tuple[Path, ...] = ()
    remarks: list[str] = field(default_factory=list)
    against_file: dict[str, float] = field(default_factory=dict)
    source: str = "the checkpoint"

    def __post_init__(self) -> None:
        self.tick("ONNX Runtime")
        self.model = load_onnx(self.path / "model.onnx")
        self.oracle = Oracle(self.model, self.interface)
        if self.oracle.float_parts:
            raise InputError(
                f"{self.path}: {self.oracle.float_parts[0]} is computed in float and feeds signs or levels: no two "
                "programs agree to the bit; --bisect needs a model whose layers are binary or 8-bit"
            )
        self.exact = bool(self.oracle.layers)
        self.expected: OracleRun = self.oracle.run(self.feeds)

    def from_source(self, made: Compilation) -> None:
        """The checkpoint or the ONNX file, made again, against the artefact's own model.onnx."""
        self.source = "the checkpoint" if made.uses_torch else "the ONNX file"
        content = made.onnx_bytes
        if content != (self.path / "model.onnx").read_bytes():
            self.remarks.append(f"model.onnx is not what {self.source} and the recorded options give now")
        arrays = self._values_of(made, content)
        original = made.original_outputs(self.feeds)
        if original is not None:
            self.against_file = relative_differences(self.expected.outputs, original)
        compared = differing = 0
        for name, layer in layers_of(onnx.load_from_string(content)).items():
            want, got = layer.of_value(arrays[layer.x]), self.expected.reads.get(name)
            fits = got is not None and got.shape == want.shape
            differ = int(np.count_nonzero(got != want)) if fits else want.size
            compared, differing = compared + want.size, differing + differ
            if differ and self.culprit is None:
                what = _told(name, differ, want.size)
                self.culprit = Culprit(CHECKPOINT, self._writer_of(layer.x, name), what)
                if name in self.oracle.layers:
                    self._write(self.oracle.layers[name].x, found=arrays)
        self._outputs(arrays)
        self.stages.append(StageResult(CHECKPOINT, self.culprit is None, compared, differing))

    def _values_of(self, made: Compilation, content: bytes) -> dict[str, Array]:
        """Every value of a folded graph, of a checkpoint in torch, of an ONNX file in ONNX Runtime."""
        if not made.uses_torch:
            self.tick("ONNX Runtime")
            model = onnx.load_from_string(content)
            return run_values(model, self.feeds, [name for node in model.graph.node for name in node.output])
        import torch

        from bhpe_compile.exchange.frozen import Frozen

        self.tick("torch")
        feeds = {name: torch.from_numpy(array) for name, array in self.feeds.items()}
        return {name: value.numpy() for name, value in Frozen(made.folded).run(feeds).items()}

    def _writer_of(self, value: str, reader: str) -> str:
        """The layer that wrote what `reader` reads; `reader` where no layer did."""
        producers = {name: node for node in self.model.graph.node for name in node.output}
        layers = self.oracle.layers
        while (node := producers.get(value)) is not None:
            if node.name in layers:
                return str(node.name)
            value = next((name for name in node.input if name in producers), "")
        return reader

    def _outputs(self, got: Mapping[str, Array]) -> None:
        for name, gap in differences(self.interface, got, self.expected.outputs).items():
            if self.culprit is None and gap > allowed(self.interface.output(name), self.exact):
                self.culprit = Culprit(CHECKPOINT, name, f"output {name}: off by {gap:.3g}")
                self._write(name, found=got)

    def through_program(self, manifest: Mapping[str, Any]) -> None:
        """Every step of the compiled program against model.onnx."""
        from bhpe_compile.runtime import open_session
        from bhpe_compile.targets import PRESETS, restore_target

        self.tick("lower again")
        target = restore_target(manifest["target"], PRESETS)
        if target is None:
            self.remarks.append(
                f"target {manifest['target']['name']} is another one now: the constants are not compared"
            )
        with open_session(self.path) as session:
            described = {} if target is None else lowered_again(self.path, target, session)
            self.tick("program")
            steps = Steps(session, self.feeds, target, described)
            first = self._first_difference(session, steps)
        found = steps.wrong_constant() or (steps.blame(*first) if first is not None else None)
        if found is None:
            return
        self.stages[-1] = replace(self.stages[-1], ok=False)
        step = found.step
        notes = (f"step {step.index}, kernel {step.symbol}",)
        self.culprit = Culprit(found.origin, step.layer or step.symbol, found.what, notes)
        if self.repro is not None:
            node = next((one for one in self.model.graph.node if one.name == step.layer), None)
            target_value = node.output[0] if node is not None else self.model.graph.output[0].name
            self._write(target_value, step=found.arguments)

    def _first_difference(self, session: Session, steps: Steps) -> tuple[int, str] | None:
        """The first tensor of which a sign, a level or an output differs, and what does; adds the stage."""
        compared = differing = 0
        first: tuple[int, str] | None = None
        for step in watched_steps(session, self.oracle):
            want, x = self.expected.reads[step.layer], step.argument("x")
            got = self.oracle.layers[step.layer].of_memory(steps.contents[step.index, x], want.shape)
            differ = int((got != want).sum())
            compared, differing = compared + want.size, differing + differ
            if differ and first is None:
                first = step.args[x], _told(step.layer, differ, want.size)
        for name, gap in differences(self.interface, steps.outputs, self.expected.outputs).items():
            if first is None and gap > allowed(self.interface.output(name), self.exact):
                tensor = next(one.id for one in session.outputs if one.name == name)
                first = tensor, f"output {name}: off by {gap:.3g}"
        self.stages.append(StageResult(PROGRAM, first is None, compared, differing))
        return first

    def _write(
        self,
        target: str,
        *,
        found: Mapping[str, Array] | None = None,
        step: Mapping[str, Array] | None = None,
    ) -> None:
        if self.repro is not None and self.culprit is not None:
            stops = [layer.x for layer in self.oracle.layers.values()]
            text = describe(self.culprit, self.path)
            self.files = write_layer(
                self.repro, self.model, self.feeds, stops, target, text, found=found, step=step
            )


def _told(layer: str, differ: int, size: int) -> str:
    return f"what {layer} reads: {differ} of {size} signs or levels differ"


def describe(culprit: Culprit, path: Path) -> str:
    """README.md of a reproduction."""
    lines = [
        "# First difference",
        "",
        f"`{path.name}`: {culprit.origin}, at `{culprit.node}`: {culprit.what}.",
        "",
        *(f"- {note}" for note in culprit.notes),
        "",
        "`python run.py` runs `model.onnx` on `inputs.npz` and compares with `expected.npz`.",
        "Where there is a `step.py`, `python step.py ARTEFACT` runs the step of the compiled program that is wrong;",
        "`model.onnx` then is the same layer as it should compute.",
        "",
    ]
    return "\n".join(lines)

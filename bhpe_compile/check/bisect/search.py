"""The first step that differs: between a checkpoint made again and model.onnx, then between model.onnx and the program.

    checkpoint -> torch (the folded graph)         =   model.onnx in ONNX Runtime   =   the compiled program
    ONNX file  -> ONNX Runtime (the folded graph)  =   model.onnx in ONNX Runtime   =   the compiled program

All three compute the same signs and levels (docs/exactness.md), so the first layer that reads another one tells where
something is wrong: the step that wrote it. `blame` then says whether its constants, its machine code or its lowering.
Float parts in front of signs and levels (a softmax, `--dense fp32`) have no such guarantee. The program then runs with
ONNX Runtime's signs and levels written over its own, so every layer begins with what it should read:

    no float part since the layers in front    equal, to the bit
    right behind a float part                  equal but where the float value is within a rounding of the next level
    behind a grid that a float part reached    counted, not judged

Constants are compared to the bit in any case. Where nothing is rounded to levels, the outputs are held to the
tolerances of their description.

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
from bhpe_compile.check.verify.oracle import FLOAT, ROUNDED, SAME, Oracle, OracleRun, run_values
from bhpe_compile.check.verify.verify import boxes_of_crops, watched_steps
from bhpe_compile.exchange.runtime import relative_differences
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.session import Place, Session

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
    float_parts: tuple[str, ...] = ()
    """Nodes behind which the search goes on from ONNX Runtime's signs and levels."""
    near: int = 0
    """Layers right behind one, which may differ where the float value is within a rounding of the next level."""
    unjudged: int = 0
    """Layers that were counted and not judged: a float part was rounded to a grid in front of them."""
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
    Raises as `verify` does.
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
    apart = [search.oracle.apart[name] for name in search.oracle.layers]
    return BisectResult(
        str(path),
        reference,
        tuple(search.stages),
        search.culprit,
        files,
        tuple(search.remarks),
        search.oracle.float_parts,
        apart.count(FLOAT),
        apart.count(ROUNDED),
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
            # torch computes float parts another way than ONNX Runtime, and a flip behind one travels
            comparable = not made.uses_torch or name in self.oracle.settled or name not in self.oracle.layers
            if differ and comparable and self.culprit is None:
                what = _told(name, differ, want.size)
                self.culprit = Culprit(CHECKPOINT, self._writer_of(layer.x, name), what)
                if name in self.oracle.layers:
                    self._write(self.oracle.layers[name].x, found=arrays)
        self._outputs(arrays, made.uses_torch)
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

    def _outputs(self, got: Mapping[str, Array], torch: bool) -> None:
        """Outputs of the network made again; where torch computes, not those behind a rounding of a float part."""
        for name, gap in differences(self.interface, got, self.expected.outputs).items():
            if torch and name not in self.oracle.settled:
                continue
            if self.culprit is None and gap > allowed(self.interface.output(name), bool(self.oracle.layers)):
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
            steps = Steps(session, self.feeds, target, described, self._forced(session))
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

    def _forced(self, session: Session) -> dict[Place, Array]:
        """Where there are float parts, ONNX Runtime's signs, levels and boxes by the place that writes them."""
        if not self.oracle.float_parts:
            return {}
        watched, writers = watched_steps(session, self.oracle), session.writers()
        places = {step.layer: (step.index, step.argument("x")) for step in watched}
        taps = session.execute(self.feeds, taps=places.values()).taps
        found = boxes_of_crops(session, self.expected)
        for step in watched:
            place, layer = places[step.layer], self.oracle.layers[step.layer]
            tensor = step.args[place[1]]
            if tensor in writers:
                found[writers[tensor]] = layer.to_memory(self.expected.reads[step.layer], taps[place])
        return found

    def _first_difference(self, session: Session, steps: Steps) -> tuple[int, str] | None:
        """The first tensor of which a sign, a level or an output differs, and what does; adds the stage."""
        compared = differing = 0
        first: tuple[int, str] | None = None
        for step in watched_steps(session, self.oracle):
            want, x = self.expected.reads[step.layer], step.argument("x")
            layer, apart = self.oracle.layers[step.layer], self.oracle.apart[step.layer]
            got = layer.of_memory(steps.written(step, x), want.shape)
            compared, differing = compared + want.size, differing + int((got != want).sum())
            if first is None and (wrong := self._wrong(step.layer, got, want, apart)):
                first = step.args[x], _told(step.layer, wrong, want.size)
        for name, gap in differences(self.interface, steps.outputs, self.expected.outputs).items():
            exact = bool(self.oracle.layers) and self.oracle.apart[name] == SAME
            if first is None and gap > allowed(self.interface.output(name), exact):
                tensor = next(one.id for one in session.outputs if one.name == name)
                first = tensor, f"output {name}: off by {gap:.3g}"
        self.stages.append(StageResult(PROGRAM, first is None, compared, differing))
        return first

    def _wrong(self, layer: str, got: Array, want: Array, apart: int) -> int:
        """How many signs or levels in front of a layer differ that must not."""
        differ = got != want
        if apart == ROUNDED:
            return 0
        if apart == FLOAT:
            far = np.abs(got.astype(np.int16) - want) > 1
            differ &= far | ~self.expected.doubtful[layer]
        return int(differ.sum())

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

"""The first step that differs: between a checkpoint made again and model.onnx, then between model.onnx and the program.

    checkpoint -> torch (the folded graph)   =   model.onnx in ONNX Runtime   =   the compiled program

All three compute the same signs and levels (docs/exactness.md), so the first layer that reads another one tells where
something is wrong: the step that wrote it. `blame` then says whether its constants, its machine code or its lowering.
A network with float layers in front of signs has no such guarantee and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from bhpe_compile.check.bisect.blame import Blame, blame, lowered_again, wrong_constant
from bhpe_compile.check.bisect.remake import options_of, remake
from bhpe_compile.check.bisect.repro import check_folder, write_layer
from bhpe_compile.check.verify.compare import allowed, differences
from bhpe_compile.check.verify.layers import layers_of
from bhpe_compile.check.verify.oracle import Oracle, OracleRun
from bhpe_compile.check.verify.verify import watched_steps
from bhpe_compile.errors import InputError
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.session import Session, StepInfo

Array = NDArray[Any]
Tick = Callable[[str], None]

CHECKPOINT, PROGRAM = "model.onnx", "program"
"""What is compared: the artefact's model.onnx with the checkpoint made again, the program with model.onnx."""


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
    """"model.onnx" (it is not what the checkpoint gives), "weights.bin", "code generation" or "lower"."""

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

    checkpoint: what it was compiled from; without it the search begins at model.onnx. repro: a folder for the layer
    that differs, its inputs and how to run it. calibrate: the pictures it was calibrated on, where these were named.
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
        options = replace(options_of(manifest), calibrate=calibrate)
        search.from_checkpoint(remake(checkpoint, options, {name: recorded[name] for name in names}).folded)
    if search.culprit is None:
        search.through_program(manifest)
    reference = "model.onnx" if checkpoint is None else "the checkpoint"
    files = tuple(str(file) for file in search.files)
    return BisectResult(
        str(path), reference, tuple(search.stages), search.culprit, files, tuple(search.remarks)
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

    def __post_init__(self) -> None:
        self.tick("ONNX Runtime")
        self.model = onnx.load(self.path / "model.onnx")
        self.oracle = Oracle(self.model, self.interface)
        if self.oracle.float_parts:
            raise InputError(
                f"{self.path}: {self.oracle.float_parts[0]} is computed in float and feeds signs or levels: no two "
                "programs agree to the bit; --bisect needs a model whose layers are binary or 8-bit"
            )
        self.expected: OracleRun = self.oracle.run(self.feeds)

    def from_checkpoint(self, folded: Any) -> None:
        """The checkpoint made again against the artefact's own model.onnx."""
        import onnx_ir as ir
        import torch

        from bhpe_compile.exchange.frozen import Frozen

        self.tick("torch")
        content = ir.to_proto(folded).SerializeToString(deterministic=True)
        if content != (self.path / "model.onnx").read_bytes():
            self.remarks.append("model.onnx is not what the checkpoint and the recorded options give now")
        feeds = {name: torch.from_numpy(array) for name, array in self.feeds.items()}
        values = Frozen(folded).run(feeds)
        compared = differing = 0
        first = ""
        for name, layer in layers_of(onnx.load_from_string(content)).items():
            want, got = layer.of_value(values[layer.x].numpy()), self.expected.reads.get(name)
            compared += want.size
            differ = want.size
            if got is not None and got.shape == want.shape:
                differ = int((got != want).sum())
            differing += differ
            if differ and not first:
                first = name
                self.culprit = Culprit(
                    CHECKPOINT, self._writer_of(layer.x, name), _told(name, differ, want.size)
                )
        outputs = {name: values[name].numpy() for name in self.expected.outputs}
        self._outputs(outputs, CHECKPOINT)
        self.stages.append(StageResult(CHECKPOINT, self.culprit is None, compared, differing))
        if self.culprit is not None and self.repro is not None:
            names = [layer.x for layer in self.oracle.layers.values()]
            wanted = {name: value.numpy() for name, value in values.items()}
            target = next((layer.x for layer in self.oracle.layers.values() if layer.name == first), "")
            self.files = write_layer(
                self.repro, self.model, self.feeds, names, target, self._text(), expected=wanted.get(target)
            )

    def _writer_of(self, value: str, reader: str) -> str:
        """The layer that wrote what `reader` reads; `reader` where no layer did."""
        producers = {name: node for node in self.model.graph.node for name in node.output}
        layers = self.oracle.layers
        while (node := producers.get(value)) is not None:
            if node.name in layers:
                return str(node.name)
            value = next((name for name in node.input if name in producers), "")
        return reader

    def _outputs(self, got: Mapping[str, Array], origin: str) -> None:
        if self.culprit is not None:
            return
        for name, gap in differences(self.interface, got, self.expected.outputs).items():
            if gap > allowed(self.interface.output(name), exact=True):
                self.culprit = Culprit(origin, name, f"output {name}: off by {gap:.3g}")
                return

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
            wrong = wrong_constant(session, described, self.feeds)
            found = self._first_wrong(session)
            if wrong is not None:
                step, why = wrong
            elif found is not None:
                step, what = found
                why = blame(step, described.get(step.index), session, self.feeds, what)
            else:
                return
        self.stages[-1] = replace(self.stages[-1], ok=False)
        self._blame_step(step, why)

    def _first_wrong(self, session: Session) -> tuple[StepInfo, str] | None:
        """The step that wrote the first sign, level or output that differs; adds the stage."""
        watched = watched_steps(session, self.oracle)
        taps = [(step.index, step.argument("x")) for step in watched]
        run = session.execute(self.feeds, taps=taps)
        writers = session.writers()
        compared = differing = 0
        first: tuple[StepInfo, str] | None = None
        for step, place in zip(watched, taps, strict=True):
            want = self.expected.reads[step.layer]
            got = self.oracle.layers[step.layer].of_memory(run.taps[place], want.shape)
            differ = int((got != want).sum())
            compared, differing = compared + want.size, differing + differ
            if differ and first is None:
                index = writers[step.args[place[1]]][0] if step.args[place[1]] in writers else step.index
                first = self._layer_step(session, index), _told(step.layer, differ, want.size)
        for tensor in session.outputs:
            gap = differences(
                self.interface,
                {tensor.name: run.outputs[tensor.name]},
                {tensor.name: self.expected.outputs[tensor.name]},
            )[tensor.name]
            if first is None and gap > allowed(self.interface.output(tensor.name), exact=True):
                index = writers[tensor.id][0] if tensor.id in writers else len(session.steps) - 1
                first = session.steps[index], f"output {tensor.name}: off by {gap:.3g}"
        self.stages.append(StageResult(PROGRAM, first is None, compared, differing))
        return first

    @staticmethod
    def _layer_step(session: Session, index: int) -> StepInfo:
        """The step itself, or the layer in front of a Quantize or a conversion, which only passes values on."""
        writers = session.writers()
        step = session.steps[index]
        while step.kind in ("Quantize", "PackBits", "TransposeChannels", "ConvertFloats", "MaxPool2d"):
            tensor = step.args[step.argument("x")]
            if tensor not in writers:
                return step
            step = session.steps[writers[tensor][0]]
        return step

    def _blame_step(self, step: StepInfo, why: Blame) -> None:
        notes = (f"step {step.index}, kernel {step.symbol}",)
        self.culprit = Culprit(why.origin, step.layer or step.symbol, why.what, notes)
        if self.repro is None:
            return
        names = [layer.x for layer in self.oracle.layers.values()]
        node = next((one for one in self.model.graph.node if one.name == step.layer), None)
        target = node.output[0] if node is not None else self.model.graph.output[0].name
        self.files = write_layer(
            self.repro, self.model, self.feeds, names, target, self._text(), step=why.arguments
        )

    def _text(self) -> str:
        return describe(self.culprit, self.path) if self.culprit is not None else ""


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

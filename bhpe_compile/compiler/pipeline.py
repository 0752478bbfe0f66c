"""The whole compiler, top to bottom.

    checkpoint -> torch.fx graph --binarize--> trainable graph -> ONNX --fold--> integers made explicit
               --lower--> kernels for one target -> library, weights, manifest

A `Compilation` is one model on that way. The passes of a stage are listed in the stage's own package
(`passes/<stage>/__init__.py`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bhpe_compile.compiler.inputs import drawn_inputs, picture_inputs
from bhpe_compile.compiler.options import STATIC, WEB, WHEEL, CompileOptions
from bhpe_compile.compiler.progress import Progress
from bhpe_compile.compiler.record import describe, passes_run, versions
from bhpe_compile.compiler.result import CompileResult
from bhpe_compile.compiler.rounding import Rounding, choose_rounding
from bhpe_compile.compiler.tools import Tools, one_thread
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.interface import Input, Interface
from bhpe_compile.passes.base import Note, PassRecord

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray
    from torch import fx

    from bhpe_compile.compiler.agreement import Movement
    from bhpe_compile.compiler.code_cache import CodeCache
    from bhpe_compile.exchange.export import Run
    from bhpe_compile.exchange.frozen import Frozen
    from bhpe_compile.exchange.runtime import Runner
    from bhpe_compile.frontends.imported import Imported
    from bhpe_compile.networks.layers.rounding import Ranges
    from bhpe_compile.passes.base import Pass
    from bhpe_compile.passes.lower import Lowered
    from bhpe_compile.report.places import Places
    from bhpe_compile.targets import Target

    Inputs = Mapping[str, NDArray[np.float32]]


ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "load": ("loaded",),
    "binarize": ("graph",),
    "reference": ("run", "rounding", "agreement"),
    "export": ("exported",),
    "fold": ("folded",),
    "lower": ("kernels",),
    "generate": ("lowered",),
}
"""What each stage makes, as attributes of a `Compilation`."""


SLOW_EXPORT = "torch's exporter writes the model instead, which takes about ten seconds longer"


class Compilation:
    """One model on its way to an artefact.

    Every stage is an attribute that holds what the stage made. Asking for an attribute runs its stage, and those
    before it, once; nothing behind it runs.

        attribute  stage      what it holds
        loaded     load       the checkpoint
        graph      binarize   the network as a torch.fx graph, layers binary as asked, weights as they will be stored
        run        reference  what it computes from `inputs`, and the record of how
        rounding   reference  the ranges of its 8-bit layers, and whether residuals are float16
        agreement  reference  how far all this is from the network in full precision
        exported   export     ONNX with `bhpe` operators, simplified
        folded     fold       model.onnx
        kernels    lower      the graph of kernels for the target
        fitted     generate   the target, with the fastest 8-bit instruction that their weights allow
        lowered    generate   code, weights and memory plan

    `write` is the last stage. `of_loaded`, `of_graph` and `of_artifact` begin further down. `notes` and `records` tell
    what the passes decided and which ones ran, so far.
    """

    uses_torch: ClassVar[bool] = True
    imported: ClassVar[bool] = False
    """Whether the network is a file of anybody's, which nobody trained to be rounded."""
    attributes: ClassVar[Mapping[str, tuple[str, ...]]] = ATTRIBUTES

    def __init__(
        self,
        options: CompileOptions,
        source: Path | None = None,
        *,
        progress: Progress | None = None,
        tools: Tools | None = None,
    ) -> None:
        self.options = options
        self.source = source
        self.progress = progress or Progress(None)
        self.tools = tools
        self.notes: list[Note] = []
        self.records: list[tuple[str, PassRecord]] = []
        """(stage, what the pass manager remembers), in the order in which passes ran."""
        self.teacher: Imported | None = None
        """What a student was distilled from: the agreement is with it."""
        self.watched: tuple[Path, ...] = ()
        """Pictures of the agreement, where the options name none to calibrate on."""
        self.code = (0, 0)
        """Parts of the machine code that were kept from before, and all parts."""
        self._trained: Ranges | None = None
        self._ensured: set[str] = set()

    @classmethod
    def of_loaded(
        cls,
        loaded: Imported,
        options: CompileOptions,
        progress: Progress | None = None,
        *,
        watched: tuple[Path, ...] = (),
    ) -> Compilation:
        """From a checkpoint in memory. watched: pictures of the agreement, where the options name none."""
        compilation = cls(options, progress=progress)
        compilation.loaded = loaded
        compilation.watched = watched
        return compilation

    @classmethod
    def of_graph(
        cls,
        graph: fx.GraphModule,
        inputs: Inputs,
        options: CompileOptions,
        *,
        interface: Interface | None = None,
        ranges: Ranges | None = None,
        progress: Progress | None = None,
        tools: Tools | None = None,
    ) -> Compilation:
        """From a frozen graph of any network: it takes the tensors of `inputs` in their order, returns a dict of
        tensors. interface: what they mean; None: plain tensors. ranges: those it was trained with."""
        compilation = cls(options, progress=progress, tools=tools)
        compilation.graph = graph
        compilation.inputs = dict(inputs)
        if interface is not None:
            compilation.interface = interface
        compilation._trained = ranges
        return compilation

    @classmethod
    def of_artifact(cls, folder: Path, target: Target, progress: Progress | None = None) -> Compilation:
        """From the model.onnx of an artefact, whose hashes are checked, for any target."""
        import onnx_ir

        from bhpe_compile.artifact.load import check_artifact, load_onnx
        from bhpe_compile.passes.base import ensured_by
        from bhpe_compile.passes.fold import fold_passes

        check_artifact(folder)
        compilation = cls(CompileOptions(target.name), progress=progress)
        compilation.folded = onnx_ir.from_proto(load_onnx(folder / "model.onnx"))
        compilation.target = target
        compilation._ensured = ensured_by(fold_passes())
        return compilation

    def until(self, stage: str) -> Compilation:
        """Run everything up to the end of `stage`; returns this compilation."""
        for attribute in self.attributes[stage]:
            getattr(self, attribute)
        return self

    # ---- what it starts from ------------------------------------------------------------------------------

    @cached_property
    def target(self) -> Target:
        """The CPU, with the table of tiles that the options name. UsageError for one that is unknown."""
        from bhpe_compile.targets import get_target

        target = get_target(self.options.target)
        return target if self.options.tiles is None else replace(target, tiles=self.options.tiles)

    @cached_property
    def inputs(self) -> dict[str, NDArray[np.float32]]:
        """What the network is run on, by name and in the order in which it takes them: a picture, or numbers that are
        drawn where no picture tells an input."""
        ports = self.interface.inputs
        checkpoint = self._checkpoint
        if (
            checkpoint is not None
            and checkpoint.network.carried
            and any(one.kind == "tensor" for one in ports)
        ):
            return drawn_inputs({port.name: (port.shape, "float32") for port in ports})
        return picture_inputs(self.interface, self.options.picture)

    @cached_property
    def interface(self) -> Interface:
        """What inputs and outputs mean: of the checkpoint's network; of a bare graph, their names and shapes."""
        checkpoint = self._checkpoint
        if checkpoint is not None:
            return checkpoint.interface
        inputs = (Input(name, array.shape) for name, array in self.inputs.items())
        return Interface(inputs=tuple(inputs))

    # ---- the stages ---------------------------------------------------------------------------------------

    @cached_property
    def loaded(self) -> Imported:
        """The checkpoint, or an ONNX file as torch modules. UsageError or InputError where it cannot be read."""
        from bhpe_compile.frontends.load import load_network

        if self.source is None:
            raise TypeError("this compilation did not begin with a checkpoint")
        with self.progress.stage("load"):
            return load_network(self.source, self.options.network, dict(self.options.shapes))

    @cached_property
    def graph(self) -> fx.GraphModule:
        """The network as the options, or its training, made it binary; weights as they will be stored.

        A checkpoint that is binary already keeps its scheme: from here on the options say that one.
        """
        from bhpe_compile.frontends.state import load_state
        from bhpe_compile.passes.binarize import BinarizeOptions, binarize, freeze, trace

        loaded = self.loaded
        trained = loaded.binarization
        if trained is not None:
            self.options = self.options.for_trained(loaded.source, trained)
        with self.progress.stage("binarize"):
            graph = trace(loaded.model, roles=loaded.network.roles)
            self.progress.show("trace", graph)
            if trained is not None:
                graph, _ = binarize(graph, BinarizeOptions.from_dict(trained), self._passed)
                load_state(graph, loaded.state_dict, loaded.source)
            elif self.options.is_binary:
                graph, _ = binarize(graph, self.options.binarize_options(), self._passed)
            self.progress.step("freeze")
            graph = freeze(graph)
            self.progress.show("freeze", graph)
        return graph

    @cached_property
    def run(self) -> Run:
        """One run in torch: the reference, and the record that is exported.

        InputError where the network does not take the inputs of its description, returns other outputs, or computes
        what is not finite.
        """
        import torch

        from bhpe_compile.compiler.described import check_finite_inputs, check_outputs, refused_inputs
        from bhpe_compile.exchange.export import run
        from bhpe_compile.passes.binarize.round_storage import kept_maps

        graph, interface = self.graph, self.interface
        check_finite_inputs(self.inputs)
        inputs = {name: torch.from_numpy(array) for name, array in self.inputs.items()}
        with self.progress.stage("reference"), one_thread():
            try:
                done = run(graph, inputs, kept_maps(graph) if self.options.keeps_half else ())
            except (RuntimeError, TypeError) as error:
                refused = refused_inputs(interface, graph, inputs, error) if interface.network else None
                if refused is None:
                    raise
                raise refused from error
            check_outputs(interface, done.outputs)
            if done.broken is not None:
                raise InputError(
                    f"{done.broken}: NaN or infinity, computed from finite inputs; its weights or variances are broken"
                )
        return done

    @cached_property
    def rounding(self) -> Rounding:
        """What is rounded beyond the binary layers; 8-bit layers are calibrated where training left no ranges."""
        graph, inputs = self.run.graph, self.inputs  # a network that does not run is refused there
        trained = self._trained if self._checkpoint is None else self._checkpoint.ranges
        with self.progress.stage("reference"), one_thread():
            largest = self.run.largest
            return choose_rounding(
                graph, self.interface, self.options, inputs, self.progress, trained, largest
            )

    @cached_property
    def agreement(self) -> dict[str, Movement]:
        """How far the frozen graph, rounded as the compiled one, is from the checkpoint's full-precision network.

        Measured on the first pictures of the calibration. Empty where the two cannot differ (nothing is binary or has
        8 bits) or there is nothing to compare with (a bare graph, a checkpoint that is binary already, without its
        teacher).
        """
        from bhpe_compile.compiler.agreement import measure_agreement
        from bhpe_compile.compiler.rounding import examples_for
        from bhpe_compile.passes.binarize import RoundStorage

        checkpoint, options = self._checkpoint, self.options
        reference = self.teacher or checkpoint
        if reference is None or reference.binarization is not None:
            return {}
        graph, rounding = self.graph, self.rounding
        if not options.is_binary and rounding.ranges is None:
            return {}
        with self.progress.stage("reference"), one_thread():
            storage = RoundStorage(
                rounding.ranges, dense=rounding.ranges is not None, half=rounding.half, wide=rounding.wide
            )
            rounded = storage(copy.deepcopy(graph)).graph
            shown = options if options.calibrate else replace(options, calibrate=self.watched)
            examples = examples_for(self.interface, shown, self.inputs)
            return measure_agreement(reference.model, rounded, self.interface, examples, self.progress.step)

    @cached_property
    def exported(self) -> ir.Model:
        """What ran as ONNX with `bhpe` operators, simplified."""
        from bhpe_compile.exchange.export import to_onnx
        from bhpe_compile.exchange.simplify import simplify

        run, progress = self.run, self.progress
        with progress.stage("export"):
            if run.refusal is None:
                progress.step("ONNX")
            else:
                progress.step("ONNX, by torch's exporter")
                self.notes.append(Note("onnx", "", False, f"{run.refusal}: {SLOW_EXPORT}"))
            model = to_onnx(run)
            progress.show("onnx", model)
            progress.step("onnxsim")
            model, notes = simplify(model, self.tools.simplifier if self.tools is not None else None)
            self.notes += notes
            progress.show("onnxsim", model)
        return model

    @cached_property
    def folded(self) -> ir.Model:
        """The graph whose file is model.onnx: the algebra done, weights packed, 8-bit layers and float16 residuals."""
        from bhpe_compile.passes.fold import fold_passes

        rounding, model = self.rounding, self.exported.clone()
        with self.progress.stage("fold"):
            half, wide = self._half_maps(model)
            passes = fold_passes(
                rounding.ranges, half, wide, rounding.steps, self.imported, self.options.pair_safe
            )
            self._rewrite(passes, model)
        return model

    def _half_maps(self, model: ir.Model) -> tuple[bool, dict[str, float]]:
        """Whether residuals of `model` are float16, and the values that stay float32, with their magnitudes."""
        rounding = self.rounding
        if not rounding.half or not rounding.wide:
            return rounding.half, {}
        wide = {self.run.values.get(node, ""): size for node, size in rounding.wide.items()}
        known = wide.keys() <= {value.name for node in model.graph for value in node.outputs}
        # torch's exporter gives other names: then it cannot be told which values they are
        which = f"{len(wide)} feature maps" if known else "residuals"
        node, size = max(rounding.wide.items(), key=lambda item: abs(math.log2(item[1])))
        reason = f"{which} stay float32: {node} reaches {size:.3g}, beyond float16"
        self.notes.append(Note("half-residuals", "", False, reason))
        return known, wide if known else {}

    @cached_property
    def frozen(self) -> Frozen | None:
        """model.onnx in torch: the network as it ships. None where torch has no form of one of its operations."""
        from bhpe_compile.exchange.frozen import Frozen, UnsupportedNodeError

        try:
            return Frozen(self.folded)
        except UnsupportedNodeError:
            return None

    def frozen_outputs(self, feeds: Inputs) -> dict[str, NDArray[np.float32]]:
        """What model.onnx computes from inputs by name, of one picture or of several, [N, ...]; in ONNX Runtime where
        it is not `frozen`."""
        import torch

        if self.frozen is None:
            return self._runner.pictures(feeds)
        inputs = [torch.from_numpy(feeds[name]) for name in self.frozen.inputs]
        if len(inputs[0]) > 1:
            outputs = self.frozen.pictures(*inputs)
        else:
            with one_thread():
                outputs = self.frozen(*inputs)
        return {name: value.numpy() for name, value in outputs.items()}

    @cached_property
    def _runner(self) -> Runner:
        """model.onnx in ONNX Runtime."""
        from bhpe_compile.exchange.runtime import Runner

        return Runner(self.onnx_bytes)

    def original_outputs(self, feeds: Inputs) -> dict[str, NDArray[Any]] | None:
        """What the file itself computes, in a program that is not ours; None where no other runs it."""
        return None

    @property
    def onnx_bytes(self) -> bytes:
        """model.onnx; the same model gives the same bytes."""
        import onnx_ir

        return bytes(onnx_ir.to_proto(self.folded).SerializeToString(deterministic=True))

    @cached_property
    def kernels(self) -> ir.Model:
        """The graph of kernels for the target; no code is made."""
        from bhpe_compile.passes.lower import lower_passes

        target, model = self.target, self.folded.clone()
        with self.progress.stage("lower"):
            self._rewrite(lower_passes(target.measured_tiles(), target.isa), model)
        return model

    @cached_property
    def fitted(self) -> Target:
        """The target with the fastest 8-bit instruction that the weights of `kernels` allow."""
        from bhpe_compile.passes.lower.byte_pairs import fitted_target

        target, note = fitted_target(self.kernels, self.target)
        if note is not None and (note.applied or self.options.pair_safe):
            self.notes.append(note)
        return target

    @cached_property
    def lowered(self) -> Lowered:
        """The program: machine code, weights, calls and memory."""
        from bhpe_compile.compiler.code_cache import KeptCode
        from bhpe_compile.compiler.workers import Workers
        from bhpe_compile.passes.lower import generate

        kernels, target, progress = self.kernels, self.fitted, self.progress
        with progress.stage("generate"):
            if self.tools is not None:
                kept = self.tools.workers
                lowered = generate(kernels, target, kept, progress.step)
            else:
                with Workers() as workers:
                    kept = KeptCode(workers, self.cache)
                    lowered = generate(kernels, target, kept, progress.step)
            self.code = (kept.found, kept.asked)
            self.notes += lowered.notes
            lowered = replace(lowered, program=replace(lowered.program, interface=self.interface))
            progress.show("program", lowered.program)
        return lowered

    @cached_property
    def cache(self) -> CodeCache:
        """Where machine code is kept."""
        from bhpe_compile.compiler.code_cache import CodeCache

        return CodeCache.of_user(self.options.cache)

    def check(self, output: Path, force: bool = False) -> None:
        """Refuse, before any work, what `write` or the options would make fail (UsageError)."""
        from bhpe_compile.artifact import check_output
        from bhpe_compile.artifact.web import check_web_family
        from bhpe_compile.artifact.wheel import check_family

        self.target.measured_tiles()  # an unknown target, a damaged table
        if WHEEL in self.options.forms:
            check_family(self.target.family)
        if WEB in self.options.forms:
            check_web_family(self.target.family)
        if self.source is not None and not self.source.exists():
            raise UsageError(f"{self.source}: no such file")
        check_output(output, force)

    def rehearse(self, output: Path, force: bool = False) -> None:
        """Refuse what `write` would, as far as that shows before code is made; nothing is written.

        The checkpoint is read, its layers are chosen, and the pictures of the calibration are opened.
        """
        self.check(output, force)
        self.until("binarize")
        for picture in self.options.calibrate:
            picture_inputs(self.interface, picture)

    def write(self, output: Path, force: bool = False) -> CompileResult:
        """Write the artefact. UsageError for a place that is not ours or cannot be written; nothing is left then."""
        from bhpe_compile.artifact import write_artifact
        from bhpe_compile.compiler.agreement import moved_much
        from bhpe_compile.report.compiled import compile_report

        agreement, lowered, options = self.agreement, self.lowered, self.options
        with self.progress.stage("write"):
            facts = self.facts()
            places = self.places()
            report = compile_report(self.folded, lowered.program, self.notes, facts, lowered.tiles, places)
            write_artifact(
                output,
                lowered.program,
                self.fitted,
                self.onnx_bytes,
                report,
                {**self.inputs, **self.frozen_outputs(self.inputs)},
                {
                    **facts,
                    "float_parts": self._float_parts(),
                    "passes": passes_run(self.records),
                    "versions": versions(),
                },
                force,
                static=STATIC in options.forms,
                embed=options.embed_weights,
                web=WEB in options.forms,
            )
        much = {} if options.is_binary else moved_much(agreement, self.interface)
        seconds = self.progress.seconds
        return CompileResult(output, report, tuple(self.notes), seconds, agreement, much, self.code)

    def facts(self) -> dict[str, Any]:
        """What manifest and report tell of model and options."""
        return describe(self._checkpoint, self.options, self.rounding.source, self.agreement)

    def _float_parts(self) -> dict[str, Any]:
        """What no two programs compute to the bit in front of levels and of an argmax, by name."""
        import onnx_ir

        from bhpe_compile.exchange import float_parts

        return float_parts.told(onnx_ir.to_proto(self.folded), self.interface)

    def places(self) -> Places:
        """Where the layers belong."""
        from bhpe_compile.report.places import Places

        return Places.of(self.graph, self._checkpoint.network if self._checkpoint else None)

    # ---- shared by the stages -----------------------------------------------------------------------------

    @property
    def _checkpoint(self) -> Imported | None:
        """`loaded`, or None where the compilation began behind it."""
        return self.loaded if self.source is not None or "loaded" in self.__dict__ else None

    def _rewrite(self, passes: list[Pass[ir.Model]], model: ir.Model) -> None:
        """Run `passes` on `model`, in place."""
        from bhpe_compile.passes.base import PassManager

        PassManager(passes, self._ensured).run(model, self._passed)

    def _passed(self, record: PassRecord, graph: object) -> None:
        """What a pass manager tells after every pass."""
        self.records.append((self.progress.current, record))
        self.notes += record.notes
        self.progress.passed(record, graph)

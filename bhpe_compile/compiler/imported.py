"""A compilation that begins with an ONNX file: no torch, and ONNX Runtime on the file itself is the reference.

file -> frontends.onnx -> onnxsim -> passes.imported -> as any other graph: fold, lower, generate
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bhpe_compile.compiler.inputs import drawn_inputs, picture_inputs
from bhpe_compile.compiler.options import ARRAYS, BINARY_SCHEMES, FLOAT, INT8
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.compiler.record import describe_imported
from bhpe_compile.compiler.rounding import Rounding
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.interface import Interface
from bhpe_compile.passes.base import Note

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray
    from onnx import ModelProto

    from bhpe_compile.compiler.agreement import Movement
    from bhpe_compile.frontends.onnx import OnnxNetwork
    from bhpe_compile.report.places import Places

SCHEMES = (INT8, FLOAT, BINARY_SCHEMES[0])
"""What can be made of an ONNX file."""

TRAVELS = 2
"""Last levels may differ by so many times what ONNX Runtime differs from itself before it is a warning."""


class OnnxCompilation(Compilation):
    """An ONNX file on its way to an artefact; its stages are those of `Compilation`, but for `graph` and `run`.

    network    load       the file, sizes fixed and names clean
    computed   reference  what ONNX Runtime computes of it from `inputs`
    """

    uses_torch: ClassVar[bool] = False
    imported: ClassVar[bool] = True
    attributes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "load": ("network",),
        "binarize": ("network",),
        "reference": ("computed", "rounding"),
        "export": ("exported",),
        "fold": ("folded",),
        "lower": ("kernels",),
        "generate": ("lowered",),
    }

    @cached_property
    def network(self) -> OnnxNetwork:
        """The file. Raises as `load_onnx`."""
        from bhpe_compile.frontends.onnx import load_onnx

        assert self.source is not None  # this class begins with a file
        with self.progress.stage("load"):
            network = load_onnx(self.source, dict(self.options.shapes))
        self.notes += network.notes
        return network

    @cached_property
    def interface(self) -> Interface:
        """What the description says (`--network FILE.toml`, or the file's own metadata); else plain tensors."""
        from bhpe_compile.networks.described import describe_ports

        network = self.network
        shapes = {name: shape for name, (shape, _) in network.initial.items()}
        outputs = {value.name: _shape(value) for value in network.model.graph.output}
        return describe_ports(network.source, shapes, outputs, self.options.network, network.metadata)

    @cached_property
    def model(self) -> ModelProto:
        """The file's graph, outputs in the shapes that the description gives them; InputError where one cannot be."""
        from bhpe_compile.frontends.onnx_sizes import with_output_shapes

        described = {one.name: one.shape for one in self.interface.outputs if one.shape}
        return with_output_shapes(self.network.source, self.network.model, described)

    @cached_property
    def inputs(self) -> dict[str, NDArray[Any]]:
        """The picture that the options name, the first sample of the calibration, or numbers that are drawn."""
        if self._takes_pictures:
            return dict(picture_inputs(self.interface, self.options.picture))
        if self.options.picture is not None:
            raise UsageError(
                f"{self.network.source}: nothing says how a picture becomes its input; say it with --network FILE.toml"
            )
        example = next(self.examples(), None) if self.options.calibrate else None
        return drawn_inputs(self.network.initial) if example is None else example

    @cached_property
    def computed(self) -> dict[str, NDArray[Any]]:
        """What ONNX Runtime computes of the file, by the clean names of the outputs.

        InputError where ONNX Runtime does not run it, or computes what is not finite.
        """
        import numpy as np

        from bhpe_compile.exchange.runtime import run_model

        network, model, inputs = self.network, self.model, self.inputs
        with self.progress.stage("reference"):
            self.progress.step("ONNX Runtime")
            try:
                outputs = run_model(model.SerializeToString(), inputs)
            except Exception as error:  # ONNX Runtime has a dozen kinds, not all of them its own
                line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
                raise InputError(
                    f"{network.source}: ONNX Runtime does not run it: {line.strip()[:300]}"
                ) from None
        for name, array in outputs.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(
                    f"{network.source}: output {name}: NaN or infinity, computed from finite inputs"
                )
        return outputs

    @cached_property
    def rounding(self) -> Rounding:
        """The ranges of 8-bit layers: the file's own, or measured by ONNX Runtime. UsageError where nothing says what
        they will read."""
        if not self.options.computes_int8:
            return Rounding()
        self._require_examples()
        if self.has_scales:
            from bhpe_compile.exchange.scales import ranges_and_steps

            ranges, steps = ranges_and_steps(self.exported)
            return Rounding(ranges, False, {"source": "file"}, steps=steps)
        from bhpe_compile.exchange.calibrate_onnx import calibrate_onnx

        exported = self.exported
        with self.progress.stage("reference"):
            samples = calibrate_onnx(exported, self.examples(), self.progress.step)
        return Rounding(samples.ranges(), False, {"source": "user", "pictures": samples.pictures})

    def examples(self) -> Iterator[dict[str, NDArray[Any]]]:
        """The inputs of the calibration, one example after another: pictures, and arrays of .npz files.

        UsageError for a picture where nothing says how it becomes an input, InputError for arrays that do not fit.
        """
        for path in self.options.calibrate:
            if path.suffix == ARRAYS:
                yield from examples_of(path, self.network.initial, self.network.names)
            elif not self._takes_pictures:
                raise UsageError(
                    f"--calibrate {path}: nothing says how a picture becomes an input of {self.network.source}; say it "
                    "with --network FILE.toml, or name an .npz of its inputs"
                )
            else:
                yield dict(picture_inputs(self.interface, path))

    @property
    def _takes_pictures(self) -> bool:
        ports = self.interface.inputs
        return self.interface.picture is not None and all(one.kind != "tensor" for one in ports)

    @property
    def has_scales(self) -> bool:
        """Whether the file says 8 bits itself, by QuantizeLinear and DequantizeLinear."""
        return any(node.op_type == "DequantizeLinear" for node in self.network.model.graph.node)

    def _require_examples(self) -> None:
        if self.options.pair_safe and self.has_scales:
            raise UsageError(f"{self.source}: has scales of its own, which are kept: leave --pair-safe out")
        if self.options.computes_int8 and self.options.calibrate and self.has_scales:
            raise UsageError(f"{self.source}: has scales of its own, which are kept: leave --calibrate out")
        if self.options.computes_int8 and not self.options.calibrate and not self.has_scales:
            raise UsageError(
                f"{self.source}: 8 bits need to know what its layers will read: --calibrate FILE.npz with its inputs, "
                "--calibrate PICTURES with a description (--network FILE.toml), or else --scheme float"
            )

    @cached_property
    def agreement(self) -> Mapping[str, Movement]:  # type: ignore[override]
        """How far model.onnx is from the file, both in ONNX Runtime, on the first examples of the calibration, or on
        `inputs`. Empty where everything stays float."""
        from bhpe_compile.compiler.agreement import AT_MOST, measure_movement
        from bhpe_compile.exchange.runtime import Runner

        if not self.options.computes_int8 and not self.options.is_binary:
            return {}
        file, ours = Runner(self.model.SerializeToString()), Runner(self.onnx_bytes)
        examples = self.examples() if self.options.calibrate else iter([self.inputs])
        with self.progress.stage("fold"):
            return measure_movement(
                file.run, ours.run, self.interface, islice(examples, AT_MOST), self.progress.step
            )

    @cached_property
    def exported(self) -> ir.Model:
        """The graph simplified, its layers entered and named."""
        from bhpe_compile.exchange.nodes import is_binary
        from bhpe_compile.frontends.simplified import simplified
        from bhpe_compile.passes.imported import imported_passes

        progress = self.progress
        _ = self.computed  # a file that does not run is refused there
        with progress.stage("export"):
            simplifier = self.tools.simplifier if self.tools is not None else None
            model, notes = simplified(self.model, simplifier, self._before_onnxsim)
            self.notes += notes
            options = self.options
            binary = options.is_binary
            passes = imported_passes(options.computes_int8, binary, options.keep_float, self.has_scales)
            self._rewrite(passes, model)
            if binary and not any(map(is_binary, model.graph)):
                raise InputError(
                    f"{self.network.source}: no convolution here can be binary: {_told(self.notes)}"
                )
            progress.show("onnxsim", model)
        return model

    def _before_onnxsim(self, model: ir.Model) -> None:
        """The graph as the file has it, for who looks at every graph."""
        self.progress.show("onnx", model)
        self.progress.step("onnxsim")

    def check(self, output: Path, force: bool = False) -> None:
        """Refuse, before any work, what the options or `write` would make fail (UsageError)."""
        super().check(output, force)
        scheme = self.options.scheme
        if scheme not in SCHEMES:
            raise UsageError(
                f"{self.source}: --scheme {scheme} is for checkpoints; an ONNX file compiles with --scheme "
                f"{', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}"
            )
        if self.options.is_binary and self.has_scales:
            raise UsageError(f"{self.source}: has scales of its own, for 8 bits: say --scheme {INT8}")
        self._require_examples()

    def rehearse(self, output: Path, force: bool = False) -> None:
        """Refuse what `write` would, as far as that shows without running anything."""
        self.check(output, force)
        _ = self.model
        for _ in self.examples():
            pass

    def facts(self) -> dict[str, Any]:
        """What manifest and report tell of the file and the options."""
        from bhpe_compile.exchange.runtime import relative_differences

        facts = describe_imported(
            self.network, self.options, self.rounding.source, self.rounding.ranges, self.agreement
        )
        if self.options.is_binary:
            facts["trained_binary"] = False
        outputs = self.frozen_outputs(self.inputs)
        facts["against_file"] = relative_differences(outputs, self.computed)
        steps = output_steps(self.model)
        if steps:
            facts["last_levels"] = self._last_levels(steps, outputs)
        return facts

    def _last_levels(
        self, steps: Mapping[str, float], outputs: Mapping[str, NDArray[Any]]
    ) -> dict[str, dict[str, Any]]:
        """How many levels of the outputs that the file rounds differ from ONNX Runtime on the file, and a note of it.

        A rounding that falls the other way travels, farther in deeper networks. `itself` is how far ONNX Runtime is
        from itself, its optimizations off: it rounds at other places then.
        """
        from bhpe_compile.exchange.runtime import Runner

        plain = Runner(self.model.SerializeToString(), optimized=False).run(self.inputs)
        counted: dict[str, dict[str, Any]] = {
            name: {
                **count_levels(outputs[name], self.computed[name], step),
                "itself": count_levels(plain[name], self.computed[name], step),
            }
            for name, step in steps.items()
        }
        told = ", ".join(f"{one['differ']} of {one['of']} of {name}" for name, one in counted.items())
        most = max(one["most"] for one in counted.values())
        itself = max(one["itself"]["most"] for one in counted.values())
        said = f"last levels: {told} differ from ONNX Runtime on the file, by {most} at most"
        if most > 1:
            said += f"; ONNX Runtime differs from itself by {itself}, its optimizations off"
        self.notes.append(Note("own-scales", "", most <= max(1, TRAVELS * itself), said))
        return counted

    def places(self) -> Places:
        """Nothing tells the parts of a network that is a file."""
        from bhpe_compile.report.places import NOWHERE

        return NOWHERE

    def frozen_outputs(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What ONNX Runtime computes of model.onnx, by output."""
        from bhpe_compile.exchange.runtime import run_model

        return run_model(self.onnx_bytes, feeds)

    def original_outputs(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What ONNX Runtime computes of the file itself, by the clean names of the outputs."""
        from bhpe_compile.exchange.runtime import run_model

        return run_model(self.model.SerializeToString(), feeds)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _told(notes: Sequence[Note]) -> str:
    """Why layers did not become binary, the most frequent reason first."""
    from bhpe_compile.passes.imported.binary_layers import BinaryLayers

    reasons = Counter(note.reason for note in notes if note.pass_name == BinaryLayers.name)
    return "; ".join(f"{count} times: {reason}" for reason, count in reasons.most_common()) or "there is none"


def output_steps(model: ModelProto) -> dict[str, float]:
    """The steps of the outputs that a file rounds to levels, by name."""
    from onnx import numpy_helper

    producers = {name: node for node in model.graph.node for name in node.output}
    constants = {one.name: one for one in model.graph.initializer}
    found: dict[str, float] = {}
    for value in model.graph.output:
        node = producers.get(value.name)
        while node is not None and node.op_type == "Reshape":
            node = producers.get(node.input[0])
        if node is None or node.op_type != "DequantizeLinear" or node.input[1] not in constants:
            continue
        step = numpy_helper.to_array(constants[node.input[1]])
        if step.size == 1 and float(step.reshape(-1)[0]) > 0:
            found[value.name] = float(step.reshape(-1)[0])
    return found


def count_levels(got: NDArray[Any], want: NDArray[Any], step: float) -> dict[str, int]:
    """How many elements are another level, of how many, and how many levels apart they are at most."""
    import numpy as np

    apart = np.abs(np.rint(np.subtract(got, want, dtype=np.float64) / step)).astype(np.int64)
    return {"differ": int(np.count_nonzero(apart)), "of": apart.size, "most": int(apart.max(initial=0))}


def examples_of(
    path: Path, ports: Mapping[str, tuple[tuple[int, ...], str]], names: Mapping[str, str]
) -> Iterator[dict[str, NDArray[Any]]]:
    """The examples in an .npz file: arrays by the names of inputs, each of one example or, where the batch is 1, with
    the examples along its first axis.

    names: of inputs in the file that is compiled, by their clean names. UsageError for a file that cannot be read,
    InputError for one that is damaged or does not fit.
    """
    from bhpe_compile.reading_arrays import open_npz

    arrays = open_npz(path)
    found: dict[str, Sequence[NDArray[Any]]] = {}
    for name, (shape, dtype) in ports.items():
        own = names.get(name, name)
        array = arrays.get(own, arrays.get(name))
        if array is None:
            raise InputError(f"{path}: has no array {own!r}; it holds {', '.join(arrays) or 'none'}")
        many = len(shape) > 0 and shape[0] == 1 and array.shape[1:] == shape[1:] and array.shape[:1] != (0,)
        if str(array.dtype) != dtype or (array.shape != shape and not many):
            raise InputError(
                f"{path}: {own} must be {dtype} {list(shape)}, or more of them along the first axis, "
                f"not {array.dtype} {list(array.shape)}"
            )
        found[name] = [array[i : i + 1] for i in range(len(array))] if many else [array]
    counts = {name: len(parts) for name, parts in found.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"{path}: its arrays hold different numbers of examples: {counts}")
    for index in range(min(counts.values(), default=0)):
        yield {name: parts[index] for name, parts in found.items()}

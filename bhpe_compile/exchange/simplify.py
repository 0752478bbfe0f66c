"""onnxsim on the exported model: constants folded, shapes known everywhere.

It runs in a process of its own, because crashes are on its record; when it fails, the model goes on as it is. The
layers' weights stay here and travel as graph inputs of the same name: a file of 3 MB instead of 300, and nothing can
be fused into them. Batch norms are kept, for the folds.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN, attach_bodies
from bhpe_compile.exchange.nodes import layer_of, set_layer, weight_of
from bhpe_compile.passes.base import Note
from bhpe_compile.processes import child_environment, python_command

SECONDS = 300

# onnxsim imports torch for calibration, which is not used here and costs more than the rest. Its proofs
# (certify) would depend on whether a solver happens to be installed.
_SCRIPT = """
import sys
sys.modules["torch"] = None
import onnx, onnxruntime, onnxsim
onnxruntime.disable_telemetry_events()
source, target = sys.stdin.read().split("\\0")
model, ok = onnxsim.simplify(onnx.load(source), skip_fuse_bn=True, certify=False)
if not ok:
    sys.exit("the simplified model computes something else")
onnx.save(model, target)
"""

Weights = dict[str, ir.TensorProtocol]


class Simplifier:
    """The process, as a context manager: begun early, its imports cost no time. Good for one model."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(
            prefix="bhpe-onnxsim-"
        )  # ONNX Runtime leaves a file there
        self._process = subprocess.Popen(
            python_command("-c", _SCRIPT),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment(TMPDIR=self._temporary.name),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._temporary.cleanup()

    def run(self, source: Path, target: Path) -> str | None:
        """Simplify the file `source` into `target`; the reason when that fails."""
        try:
            _, errors = self._process.communicate(f"{source}\0{target}", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return f"no answer in {SECONDS} s"
        if self._process.returncode == 0 and target.exists():
            return None
        return str((errors.strip().splitlines() or [f"exit code {self._process.returncode}"])[-1])


def simplify(model: ir.Model, simplifier: Simplifier | None = None) -> tuple[ir.Model, tuple[Note, ...]]:
    """The simplified model and a note; the model itself, with the reason, where onnxsim fails.

    The simplified model shares the weights' arrays with `model`.
    """
    if simplifier is None:
        with Simplifier() as own:
            return simplify(model, own)
    before = _binary_nodes(model)
    layers = {node.name: path for node in model.graph if (path := layer_of(node)) is not None}
    with tempfile.TemporaryDirectory(prefix="bhpe-onnxsim-") as folder:
        source, target = Path(folder) / "in.onnx", Path(folder) / "out.onnx"
        with _weights_as_inputs(model.graph) as weights:
            ir.save(model, source)
        problem = simplifier.run(source, target)
        if problem is not None:
            return model, (_note(False, f"{problem}; the model goes on unsimplified"),)
        import onnx

        # read into memory: ir.load would keep pointing into the folder
        simplified = ir.from_proto(onnx.load(target))
    if _binary_nodes(simplified) != before:
        return model, (_note(False, "binary layers were lost; the model goes on unsimplified"),)
    _inputs_to_weights(simplified.graph, weights)
    for node in simplified.graph:  # files carry the nodes' names, not their layers
        if node.name in layers:
            set_layer(node, layers[node.name])
    attach_bodies(simplified, anew=True)
    count = f"{len(model.graph)} nodes became {len(simplified.graph)}"
    return simplified, (_note(True, count),)


@contextmanager
def _weights_as_inputs(graph: ir.Graph) -> Iterator[Weights]:
    """Inside, the layers' constant weights are graph inputs; their tensors are handed out by name."""
    order = list(graph.initializers.values())
    layers = {id(weight) for node in graph if (weight := weight_of(node)) is not None}
    held = {value: value.const_value for value in order if id(value) in layers}
    for value in held:
        del graph.initializers[value.name or ""]
        value.const_value = None
        graph.inputs.append(value)
    try:
        yield {value.name or "": tensor for value, tensor in held.items() if tensor is not None}
    finally:
        graph.initializers.clear()
        for value, tensor in held.items():
            graph.inputs.remove(value)
            value.const_value = tensor
        for value in order:
            graph.register_initializer(value)


def _inputs_to_weights(graph: ir.Graph, weights: Weights) -> None:
    for value in [value for value in graph.inputs if value.name in weights]:
        graph.inputs.remove(value)
        if value.uses():
            value.const_value = weights[value.name or ""]
            graph.register_initializer(value)


def _binary_nodes(model: ir.Model) -> list[tuple[str, str]]:
    return sorted((n.op_type, n.name or "") for n in model.graph if n.domain == DOMAIN)


def _note(applied: bool, reason: str) -> Note:
    return Note("onnxsim", "", applied, reason)

"""Making a model again, with everything that lies between the checkpoint and model.onnx kept.

A `Snapshots` inspector keeps the ONNX graph after the export and after every fold pass; nothing is lowered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.check.bisect.reference import torch_reference
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.progress import Progress
from bhpe_compile.errors import InputError, UsageError

if TYPE_CHECKING:
    import onnx
    from torch import fx

    from bhpe_compile.passes.base import Note, PassRecord


@dataclass(frozen=True)
class Snapshot:
    """The ONNX graph after one pass, and what the pass said."""

    stage: str
    name: str
    content: bytes
    notes: tuple[Note, ...]

    @property
    def model(self) -> onnx.ModelProto:
        """The graph."""
        import onnx

        return onnx.load_from_string(self.content)


class Snapshots:
    """An inspector that keeps every ONNX graph until the lowering."""

    def __init__(self) -> None:
        self.taken: list[Snapshot] = []

    def look(self, stage: str, point: str, subject: object, record: PassRecord | None) -> None:
        """Keep `subject` when it is an ONNX graph."""
        import onnx_ir as ir

        if isinstance(subject, ir.Model):
            notes = record.notes if record is not None else ()
            self.taken.append(
                Snapshot(stage, point, ir.to_proto(subject).SerializeToString(deterministic=True), notes)
            )


@dataclass(frozen=True)
class Remade:
    """A checkpoint brought to model.onnx again: the frozen torch graph, and the ONNX graph after every pass."""

    graph: fx.GraphModule
    snapshots: tuple[Snapshot, ...]


def options_of(manifest: Mapping[str, Any]) -> CompileOptions:
    """The options an artefact was compiled with. InputError for one that was compiled from a graph, not a file."""
    try:
        said, model = manifest["options"], manifest["model"]
        return CompileOptions(
            target=said["target"],
            scheme=said["scheme"],
            keep_float=tuple(said["keep_float"]),
            binarize=tuple(said["binarize"]),
            residual_tap=said["residual_tap"],
            dense=said["dense"],
            residual=said["residual"],
            network=f"{model['network']}:{model['preset']}",
        )
    except (KeyError, TypeError, UsageError):
        raise InputError(
            "the manifest does not tell the options the model was compiled with: it was not made from a checkpoint"
        ) from None


def torch_graph(checkpoint: Path, options: CompileOptions) -> fx.GraphModule:
    """The frozen graph of a checkpoint, made binary as `options` say."""
    from bhpe_compile.compiler.pipeline import Compilation

    return Compilation(options, checkpoint).graph


def remake(checkpoint: Path, options: CompileOptions, feeds: Mapping[str, NDArray[Any]]) -> Remade:
    """Bring `checkpoint` to model.onnx for the inputs `feeds`; 8-bit layers are calibrated on them where neither
    training nor the options name something else."""
    from bhpe_compile.compiler.pipeline import Compilation

    snapshots = Snapshots()
    compilation = Compilation(options, checkpoint, progress=Progress(None, snapshots))
    compilation.inputs = dict(feeds)
    compilation.until("fold")
    return Remade(compilation.graph, tuple(snapshots.taken))


def run_torch(
    checkpoint: Path, manifest: Mapping[str, Any], feeds: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """What the network of a checkpoint computes from inputs by name, made binary with the options of an artefact."""
    ordered = {port["name"]: feeds[port["name"]] for port in manifest["inputs"]}
    return torch_reference(torch_graph(checkpoint, options_of(manifest)), ordered).outputs

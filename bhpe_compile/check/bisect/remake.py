"""Making model.onnx again from the checkpoint, with the options that the artefact's manifest records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.errors import InputError, UsageError

if TYPE_CHECKING:
    from bhpe_compile.compiler.pipeline import Compilation

Feeds = Mapping[str, NDArray[Any]]


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


def remake(checkpoint: Path, options: CompileOptions, recorded: Feeds) -> Compilation:
    """The compilation of `checkpoint`, run until model.onnx. Where neither training nor the options say another
    thing, 8-bit layers are calibrated on the recorded inputs."""
    from bhpe_compile.compiler.pipeline import Compilation

    compilation = Compilation(options, checkpoint)
    compilation.inputs = dict(recorded)
    return compilation.until("fold")


class Again:
    """What the network of a checkpoint computes in torch, made as an artefact was; made at the first call."""

    def __init__(self, checkpoint: Path, artefact: Path, calibrate: tuple[Path, ...] = ()) -> None:
        self.checkpoint, self.artefact, self.calibrate = checkpoint, artefact, calibrate
        self._made: Compilation | None = None

    def __call__(self, manifest: Mapping[str, Any], feeds: Feeds) -> dict[str, NDArray[np.float32]]:
        from dataclasses import replace

        from bhpe_compile.artifact import load_reference

        if self._made is None:
            options = replace(options_of(manifest), calibrate=self.calibrate)
            recorded = load_reference(self.artefact).inputs
            ordered = {port["name"]: recorded[port["name"]] for port in manifest["inputs"]}
            self._made = remake(self.checkpoint, options, ordered)
        return self._made.frozen_outputs({port["name"]: feeds[port["name"]] for port in manifest["inputs"]})

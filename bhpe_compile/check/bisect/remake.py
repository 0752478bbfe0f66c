"""Making model.onnx again from the checkpoint, with the options that the artefact's manifest records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.interface import Interface

if TYPE_CHECKING:
    from bhpe_compile.compiler.pipeline import Compilation

Feeds = Mapping[str, NDArray[Any]]


def options_of(manifest: Mapping[str, Any], calibrate: tuple[Path, ...] = ()) -> CompileOptions:
    """The options an artefact was compiled with; `calibrate`: the pictures, which no manifest records.

    InputError for an artefact that was compiled from a graph, not a file; UsageError where pictures have to be named.
    """
    if not calibrate and (manifest.get("calibration") or {}).get("source") == "user":
        raise UsageError(
            "the 8-bit layers were calibrated on pictures that the artefact does not hold: name them with --calibrate, "
            "or leave --model out"
        )
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
            calibrate=calibrate,
            network=f"{model['network']}:{model['preset']}",
        )
    except (KeyError, TypeError, UsageError):
        raise InputError(
            "the manifest does not tell the options the model was compiled with: it was not made from a checkpoint"
        ) from None


def remake(
    checkpoint: Path, manifest: Mapping[str, Any], calibrate: tuple[Path, ...], recorded: Feeds
) -> Compilation:
    """The compilation of `checkpoint`, run until model.onnx, with the manifest's options and description. Where neither
    training nor `calibrate` says another thing, 8-bit layers are calibrated on the recorded inputs."""
    from bhpe_compile.compiler.pipeline import Compilation

    compilation = Compilation(options_of(manifest, calibrate), checkpoint)
    compilation.interface = Interface.from_dict(
        manifest["network"]
    )  # a file may have changed the checkpoint's
    compilation.inputs = {port["name"]: recorded[port["name"]] for port in manifest["inputs"]}
    return compilation.until("fold")


class Again:
    """What the network of a checkpoint computes in torch, made as an artefact was; made at the first call."""

    def __init__(self, checkpoint: Path, artefact: Path, calibrate: tuple[Path, ...] = ()) -> None:
        self.checkpoint, self.artefact, self.calibrate = checkpoint, artefact, calibrate
        self._made: Compilation | None = None

    def __call__(self, manifest: Mapping[str, Any], feeds: Feeds) -> dict[str, NDArray[np.float32]]:
        from bhpe_compile.artifact import load_reference

        if self._made is None:
            recorded = load_reference(self.artefact).inputs
            self._made = remake(self.checkpoint, manifest, self.calibrate, recorded)
        return self._made.frozen_outputs({port["name"]: feeds[port["name"]] for port in manifest["inputs"]})

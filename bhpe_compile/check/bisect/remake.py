"""Making model.onnx again from the checkpoint or the ONNX file, with the options that the artefact's manifest records.

The 8-bit ranges of an ONNX file are those in the manifest, where the examples of the calibration are not named.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.artifact.manifest import is_imported
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.rounding import Rounding
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.interface import Interface
from bhpe_compile.networks.structure import NETWORK

if TYPE_CHECKING:
    from bhpe_compile.compiler.pipeline import Compilation

Feeds = Mapping[str, NDArray[Any]]


def options_of(manifest: Mapping[str, Any], calibrate: tuple[Path, ...] = ()) -> CompileOptions:
    """The options an artefact was compiled with; `calibrate`: the pictures, which no manifest records.

    InputError for an artefact that was compiled from a graph, not a file; UsageError where pictures have to be named.
    """
    asked = (manifest.get("calibration") or {}).get("source") == "user" and not is_imported(manifest)
    if asked and not calibrate:
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
            pair_safe=bool(said.get("pair_safe", False)),  # artefacts of earlier versions do not say
            calibrate=calibrate,
            network=None
            if is_imported(manifest) or model["network"] == NETWORK
            else f"{model['network']}:{model['preset']}",
            shapes=tuple((name, tuple(shape)) for name, shape in said.get("shapes", {}).items()),
        )
    except (KeyError, TypeError, AttributeError, UsageError):
        raise InputError(
            "the manifest does not tell the options the model was compiled with: it was not made from a checkpoint"
        ) from None


def remake(
    source: Path, manifest: Mapping[str, Any], calibrate: tuple[Path, ...], recorded: Feeds, artefact: Path
) -> Compilation:
    """The compilation of `source`, run until model.onnx, with the manifest's options and description.

    Of a checkpoint, 8-bit layers are calibrated on the recorded inputs where neither training nor `calibrate` says
    another thing; of an ONNX file they have the ranges of the manifest. UsageError for a file of the other kind.
    """
    from bhpe_compile.compiler.doors import kind_of_compilation

    kind, imported = kind_of_compilation(source), is_imported(manifest)
    if kind.uses_torch is imported:
        made, given = ("an ONNX file", "a checkpoint") if imported else ("a checkpoint", "an ONNX file")
        raise UsageError(
            f"{source}: is {given}, and {artefact} was made of {made}: name that one with --model"
        )
    compilation = kind(options_of(manifest, calibrate), source)
    compilation.interface = Interface.from_dict(
        manifest["network"]
    )  # a file may have changed the checkpoint's
    compilation.inputs = {port["name"]: recorded[port["name"]] for port in manifest["inputs"]}
    measured = (manifest.get("calibration") or {}).get("source") == "user"
    if imported and measured and not calibrate:
        compilation.rounding = Rounding(ranges_of(manifest), False, {"source": "the artefact"})
    return compilation.until("fold")


def ranges_of(manifest: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The ranges that an ONNX file's 8-bit layers were calibrated to. InputError where they are damaged."""
    try:
        return {name: (float(low), float(high)) for name, (low, high) in manifest["ranges"].items()}
    except (KeyError, AttributeError, TypeError, ValueError):
        raise InputError(
            "the manifest does not tell the ranges of its 8-bit layers: compile the model again"
        ) from None


class Again:
    """The network of a checkpoint or an ONNX file, made as an artefact was; made when it is first asked."""

    def __init__(self, source: Path, artefact: Path, calibrate: tuple[Path, ...] = ()) -> None:
        self.source, self.artefact, self.calibrate = source, artefact, calibrate
        self._made: Compilation | None = None

    def made(self, manifest: Mapping[str, Any]) -> Compilation:
        """The compilation, until model.onnx. Raises as `remake`."""
        from bhpe_compile.artifact import load_reference

        if self._made is None:
            recorded = load_reference(self.artefact).inputs
            self._made = remake(self.source, manifest, self.calibrate, recorded, self.artefact)
        return self._made

    def __call__(self, manifest: Mapping[str, Any], feeds: Feeds) -> dict[str, NDArray[np.float32]]:
        """What the model.onnx that is made now computes: in torch, of an ONNX file in ONNX Runtime."""
        return self.made(manifest).frozen_outputs(
            {port["name"]: feeds[port["name"]] for port in manifest["inputs"]}
        )

    def same(self, manifest: Mapping[str, Any]) -> bool:
        """Whether that model.onnx is the artefact's, byte for byte."""
        return self.made(manifest).onnx_bytes == (self.artefact / "model.onnx").read_bytes()

    def original(self, manifest: Mapping[str, Any], feeds: Feeds) -> dict[str, NDArray[Any]] | None:
        """What ONNX Runtime computes of an ONNX file itself; None of a checkpoint."""
        return self.made(manifest).original_outputs(
            {port["name"]: feeds[port["name"]] for port in manifest["inputs"]}
        )

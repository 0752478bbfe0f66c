"""A network as torch modules, from a checkpoint or from an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bhpe_compile.errors import UsageError
from bhpe_compile.frontends.imported import Imported
from bhpe_compile.frontends.kinds import ONNX, kind_of


def load_network(
    path: Path, network: str | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> Imported:
    """The network in `path`, whose content tells which of the two it is. network: `--network`; shapes: of inputs that
    an ONNX file leaves open.

    Raises as `load_model` and `load_trainable`, and UsageError for shapes beside a checkpoint.
    """
    if path.is_file() and kind_of(path).door == ONNX:
        from bhpe_compile.frontends.trainable import load_trainable

        return load_trainable(path, network, shapes)
    from bhpe_compile.frontends.checkpoint import load_model

    if shapes:
        raise UsageError("--shape is for ONNX files: leave it out")
    return load_model(path, network)

"""Which door a model file goes through, and what compiles it behind that."""

from __future__ import annotations

from pathlib import Path

from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.frontends.kinds import CHECKPOINT, ONNX, require_door


def door_of(source: Path) -> str:
    """The door of the file `source`, told by its content. UsageError, InputError where it has none."""
    return require_door(source, CHECKPOINT, ONNX)


def kind_of_compilation(source: Path) -> type[Compilation]:
    """What compiles the file `source`; raises as `door_of`."""
    if door_of(source) == ONNX:
        from bhpe_compile.compiler.imported import OnnxCompilation

        return OnnxCompilation
    return Compilation

"""ONNX Runtime, imported so that it tells nobody anything and leaves nothing behind.

Its packages have telemetry, which keeps a file `.ses` in the folder for temporary files from the import on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

VARIABLE = "TMPDIR"


@cache
def runtime() -> Any:
    """The module `onnxruntime`, its telemetry off."""
    before = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="bhpe-onnxruntime-") as folder:
        os.environ[VARIABLE] = folder
        try:
            import onnxruntime
        finally:
            del os.environ[VARIABLE]
            if before is not None:
                os.environ[VARIABLE] = before
    onnxruntime.disable_telemetry_events()
    return onnxruntime


class Runner:
    """A serialised model in ONNX Runtime, on `threads` threads. Raises what ONNX Runtime raises."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        options = runtime().SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = runtime().InferenceSession(model, options, ["CPUExecutionProvider"])
        self._names = [one.name for one in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs by name."""
        return dict(zip(self._names, self._session.run(None, dict(inputs)), strict=True))


def run_onnx(model: bytes, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What a serialised model computes from `inputs`: its outputs by name."""
    return Runner(model).run(inputs)

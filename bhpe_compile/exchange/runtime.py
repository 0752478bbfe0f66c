"""ONNX Runtime, imported so that it tells nobody anything and leaves nothing behind.

Its packages have telemetry, which keeps a file `.ses` in the folder for temporary files from the import on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from functools import cache
from typing import Any

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


def run_model(content: bytes, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The outputs of a model, by name, from its inputs by name."""
    options = runtime().SessionOptions()
    options.log_severity_level = 3
    session = runtime().InferenceSession(content, options, ["CPUExecutionProvider"])
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, dict(feeds)), strict=True))

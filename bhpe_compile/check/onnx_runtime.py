"""ONNX Runtime, imported so that it tells nobody anything and leaves nothing behind.

Its packages have telemetry, which keeps a file `.ses` in the folder for temporary files from the import on.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from typing import Any

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

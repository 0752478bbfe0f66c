"""Loading and running a model once in a fresh process: milliseconds to load it, resident memory it adds.

    python benchmarks/footprint.py bhpe ARTEFACT
    python benchmarks/footprint.py onnxruntime MODEL.onnx
    python benchmarks/footprint.py openvino MODEL.onnx|MODEL.xml

Prints one JSON object. `added_mb` is the resident memory after two runs less that after importing NumPy and the
runtime; our runtime imports neither torch nor TVM, and its load checks the hash of every file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from process import status_kb

Loaded = tuple[Callable[[np.ndarray], object], tuple[int, ...]]
"""A function from the input to anything, and the input's shape."""


def bhpe(path: Path) -> Callable[[], Loaded]:
    """Our runtime."""
    from bhpe_compile.runtime import Model

    def load() -> Loaded:
        model = Model(path)
        return model.run, model.inputs[0].shape

    return load


def onnxruntime(path: Path) -> Callable[[], Loaded]:
    """ONNX Runtime on one thread."""
    import onnxruntime  # noqa: F401 (memory is counted from here)
    from peers import ort_session

    def load() -> Loaded:
        session = ort_session(path)
        (port,) = session.get_inputs()
        return lambda x: session.run(None, {port.name: x}), tuple(port.shape)

    return load


def openvino(path: Path) -> Callable[[], Loaded]:
    """OpenVINO on one thread."""
    import openvino
    from peers import openvino_run

    def load() -> Loaded:
        (port,) = openvino.Core().read_model(str(path)).inputs
        return openvino_run(path), tuple(port.shape)

    return load


KINDS = {"bhpe": bhpe, "onnxruntime": onnxruntime, "openvino": openvino}


def main() -> None:
    """Print one JSON object."""
    kind, path = sys.argv[1:]
    load = KINDS[kind](Path(path))
    before = status_kb("self", "VmRSS:")
    start = time.perf_counter()
    run, shape = load()
    loaded = time.perf_counter() - start
    for _ in range(2):
        run(np.zeros(shape, np.float32))
    after, peak = status_kb("self", "VmRSS:"), status_kb("self", "VmHWM:")
    figures = {
        "load_ms": loaded * 1e3,
        "added_mb": (after - before) / 1024,
        "resident_mb": after / 1024,
        "peak_mb": peak / 1024,
    }
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))


if __name__ == "__main__":
    main()

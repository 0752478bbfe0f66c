"""ONNX Runtime, imported so that it tells nobody anything and leaves nothing behind.

Its packages have telemetry, which keeps a file `.ses` in the folder for temporary files from the import on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

VARIABLE = "TMPDIR"

EXACT_SUMS = ("session.x64quantprecision", "1")
"""Of files that are quantized already: on x86 without VNNI, ONNX Runtime adds products of bytes in 16 bits otherwise,
saturating, and is off by twenty levels and more. Elsewhere it changes nothing."""


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
    """A serialised model in ONNX Runtime, to be run again and again; `threads`: None, as ONNX Runtime has it.

    optimized: whether ONNX Runtime may join and reorder operators.
    """

    def __init__(self, content: bytes, threads: int | None = None, optimized: bool = True) -> None:
        options = runtime().SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry(*EXACT_SUMS)
        if not optimized:
            options.graph_optimization_level = runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = runtime().InferenceSession(content, options, ["CPUExecutionProvider"])
        self._names = [one.name for one in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs by name."""
        return dict(zip(self._names, self._session.run(None, dict(feeds)), strict=True))

    def pictures(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The same for inputs of several pictures, [N, ...] in place of [1, ...]."""
        count = len(next(iter(feeds.values())))
        runs = [self.run({name: array[i : i + 1] for name, array in feeds.items()}) for i in range(count)]
        return {name: np.concatenate([run[name] for run in runs]) for name in self._names}


def run_model(content: bytes, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The outputs of a model, by name, from its inputs by name."""
    return Runner(content).run(feeds)


def relative_differences(
    got: Mapping[str, NDArray[Any]], want: Mapping[str, NDArray[Any]]
) -> dict[str, float]:
    """Largest difference of every output of `want`, as a part of its largest value."""
    return {
        name: float(np.abs(np.subtract(got[name], array, dtype=np.float64)).max(initial=0))
        / max(float(np.abs(array.astype(np.float64)).max(initial=0)), 1e-30)
        for name, array in want.items()
    }

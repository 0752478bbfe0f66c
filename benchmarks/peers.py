"""The programs a user would pick instead, each on one thread: ONNX Runtime FP32 and INT8, OpenVINO INT8.

INT8 is what ONNX Runtime's own documentation asks for on x86 with VNNI: a QDQ model, U8 activations, S8 weights
with a scale per channel. OpenVINO runs what its own tool NNCF made of the FP32 model, and ONNX Runtime's QDQ model.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.exchange.runtime import EXACT_SUMS

Array = NDArray[Any]

ACROSS_PARTS = ("Conv", "Gemm", "MatMul", "Add", "MaxPool", "Relu", "GlobalAveragePool")
"""Operators quantized in a whole network: those that ONNX Runtime runs in INT8. Its transposed convolution is not one
of them, and the arithmetic on coordinates behind the networks would gain nothing."""


def ort_session(model: bytes | Path, profile: Path | None = None, threads: int = 1) -> Any:
    """An ONNX Runtime session on `threads` threads; `profile`: prefix of the file its profiler writes.

    8-bit sums are exact: without VNNI it saturates otherwise, and what it computes is not the network.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry(*EXACT_SUMS)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    content = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])


def node_times(session: Any, operator: str) -> tuple[str, list[float]]:
    """End profiling: the name of the one node whose operator contains `operator`, and its microseconds in every run.

    The profiler counts in whole microseconds. SystemExit when not exactly one node matches.
    """
    path = Path(session.end_profiling())
    found: dict[str, list[float]] = {}
    for event in json.loads(path.read_text()):
        name = event.get("args", {}).get("op_name", "")
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time") and operator in name:
            found.setdefault(name, []).append(float(event["dur"]))
    path.unlink()
    if len(found) != 1:
        raise SystemExit(f"ONNX Runtime ran {sorted(found) or 'no node'} where one *{operator}* was expected")
    return found.popitem()


def quantize(
    source: Path,
    target: Path,
    name: str,
    pictures: Sequence[Array | Mapping[str, Array]],
    operators: Sequence[str] | None = None,
) -> None:
    """Write the QDQ model of an FP32 one; `name` is the input that `pictures` are calibration data for, those that are
    not all inputs by name."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(pictures)

        def get_next(self) -> dict[str, Array] | None:
            picture = next(self._left, None)
            if picture is None or isinstance(picture, Mapping):
                return None if picture is None else dict(picture)
            return {name: picture}

    prepared = target.with_suffix(".prepared.onnx")
    logging.disable(logging.WARNING)
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators) if operators else None,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
        prepared.unlink(missing_ok=True)


def missing(*modules: str) -> list[str]:
    """Those of `modules` that are not installed."""
    return [name for name in modules if find_spec(name) is None]


def nncf_quantize(source: Path, target: Path, pictures: Sequence[Array]) -> None:
    """Write OpenVINO's INT8 model of an FP32 ONNX file, quantized by NNCF for speed."""
    os.environ["NNCF_CI"] = "1"  # or it would report its use to its makers
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(sys.stderr):  # a progress bar
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        model = nncf.quantize(
            openvino.Core().read_model(str(source)),
            nncf.Dataset(list(pictures)),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(pictures),
        )
        openvino.save_model(model, str(target), compress_to_fp16=False)


def openvino_run(model: Path, threads: int = 1) -> Callable[[Array], Array]:
    """A function from the picture to the first output, run by OpenVINO; floats stay FP32."""
    import openvino

    settings: Mapping[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(str(model)), "CPU", settings).create_infer_request()

    def run(picture: Array) -> Array:
        request.infer({0: picture})
        return np.asarray(request.get_output_tensor(0).data)

    return run

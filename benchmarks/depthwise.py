"""8-bit depthwise convolutions alone: our kernels, called from C, against ONNX Runtime's node times.

    python benchmarks/depthwise.py [--rounds 25] [-o results.json]

Nine shapes of MobileNetV2 and RTMPose-m. Both sides read levels and write levels; ONNX Runtime's time is that of its
QLinearConv by its own profiler, ours a call in a C loop. Ours is compared with its NumPy reference before it is timed.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import disturbed, facts, geometric_mean, parser, report
from convolutions import CALLS, PeerConvolution
from numpy.typing import NDArray
from peers import node_times, ort_session
from timed_kernel import TimedKernels

from bhpe_compile.kernels import Epilogue, Int8DepthwiseConv2d, Levels
from bhpe_compile.kernels.int8_layout import stored
from bhpe_compile.targets import Target, get_target, host_runs

Array = NDArray[Any]

SHAPES = (
    *(
        (112, 112, 32, 3, 1),
        (112, 112, 64, 3, 2),
        (56, 56, 96, 3, 2),
        (28, 28, 192, 3, 1),
        (14, 14, 384, 3, 1),
    ),
    *((64, 48, 96, 5, 1), (32, 24, 192, 5, 2), (16, 12, 384, 5, 1), (8, 6, 768, 5, 1)),
)
"""Rows, columns, channels, kernel, stride."""

ZERO, STEP_ZERO = 117, 103
"""Zero points of what is read and of what is written."""

RATIOS = {"depthwise_vs_ort_int8": "native", "depthwise_avx2_vs_ort_int8": "x86"}
"""Names of the ratios, and our target."""


class PeerDepthwise(PeerConvolution):
    """ONNX Runtime's INT8 convolution of one shape, a group for each channel."""

    def __init__(self, shape: tuple[int, ...], folder: Path) -> None:
        height, width, channels, kernel, stride = shape
        generator = np.random.default_rng(0)
        self._x = generator.standard_normal((1, channels, height, width)).astype(np.float32)
        weight = generator.standard_normal((channels, 1, kernel, kernel)).astype(np.float32) / kernel
        bias = generator.standard_normal(channels).astype(np.float32)
        pad = kernel // 2
        tensors = (torch.from_numpy(a) for a in (self._x, weight, bias))
        self._y = torch.nn.functional.conv2d(*tensors, stride=stride, padding=pad, groups=channels).numpy()
        self._attributes = {
            **{"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4},
            "group": channels,  # type: ignore[dict-item]
        }
        self.sessions = {"ort_int8": ort_session(self._int8_model(weight, bias), folder / "int8")}


def kernel_of(shape: tuple[int, ...]) -> Int8DepthwiseConv2d:
    """Levels to levels."""
    height, width, channels, kernel, stride = shape
    pad = kernel // 2
    columns = (width + 2 * pad - kernel) // stride + 1
    epilogue = Epilogue(store=False, levels=Levels(0, columns, divides=False, fits=True))
    return Int8DepthwiseConv2d(
        1, height, width, channels, channels, kernel, stride, pad, pad, width + 2 * pad, epilogue
    )


def arguments(kernel: Int8DepthwiseConv2d, target: Target) -> dict[str, Array]:
    """Random levels and weights, and scales that spread the sums over the levels."""
    generator = np.random.default_rng(0)
    channels, window = kernel.in_channels, kernel.rows.taps
    b = kernel.in_border
    x = np.full((1, kernel.height + 2 * b, kernel.stored_width, channels), ZERO)
    x[:, b : b + kernel.height, b : b + kernel.width] = generator.integers(
        0, 256, (1, kernel.height, kernel.width, channels)
    )
    given = {
        "weight": generator.integers(-127, 128, (channels, 1, window, window)).astype(np.int8),
        "zero": np.array(ZERO),
        "scale": generator.uniform(0.5, 1.5, channels) * 60 / (127 * 74 * window),
        "bias": generator.uniform(-20, 20, channels),
        "requantization": np.array([1.0, STEP_ZERO]),
    }
    return kernel.constants(target.isa, given) | {"x": stored(x, ZERO, target.isa.int8)}


def measure(rounds: int) -> dict[str, Any]:
    """Microseconds of every shape and side, ratios, geometric means."""
    targets = {name: get_target(name) for name in ("native", "x86") if host_runs(get_target(name))}
    kernels = {shape: kernel_of(shape) for shape in SHAPES}
    libraries = {name: TimedKernels(list(kernels.values()), target) for name, target in targets.items()}
    shapes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as folder:
        for shape, kernel in kernels.items():
            peer = PeerDepthwise(shape, Path(folder))
            calls = {}
            for name, library in libraries.items():
                arrays = arguments(kernel, targets[name])
                calls[name] = library.prepare(kernel, arrays)
                want = stored(kernel.reference(**arrays)["levels"], STEP_ZERO, targets[name].isa.int8)
                if not np.array_equal(calls[name].run()["levels"], want):
                    raise SystemExit(f"{kernel.symbol()} computes something else than NumPy: not timed")
            for _ in range(2):
                peer.run("ort_int8")
            times: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(rounds):
                for name, call in calls.items():
                    times[name] += [one / 1e3 for one in call.time(CALLS)]
                for _ in range(CALLS):
                    peer.run("ort_int8")
            _, listed = node_times(peer.sessions["ort_int8"], "Conv")
            times["ort_int8"] = listed[2:]
            middle = {name: statistics.median(values) for name, values in times.items()}
            height, width, channels, window, stride = shape
            word = f"{height}x{width}x{channels} {window}x{window}" + (f" s{stride}" if stride > 1 else "")
            shapes[word] = {
                "median_us": {name: round(value, 1) for name, value in middle.items()},
                "disturbed": disturbed(times),
                "ratios": {
                    ratio: round(middle["ort_int8"] / middle[name], 2)
                    for ratio, name in RATIOS.items()
                    if name in middle
                },
            }
    ratios = {
        ratio: round(geometric_mean(one["ratios"][ratio] for one in shapes.values()), 2)
        for ratio, name in RATIOS.items()
        if name in targets
    }
    return {**facts(), "ratios": ratios, "shapes": shapes}


def main() -> None:
    """Measure, print, write."""
    args = parser(__doc__, rounds=25).parse_args()
    report(measure(args.rounds), args.output)


if __name__ == "__main__":
    main()

"""The convolutions of a ResNet-50 one by one: our binary kernels against ONNX Runtime FP32 and INT8, one thread.

    python benchmarks/convolutions.py [--rounds 25] [--shapes 3] [-o results.json]

18 shapes of the body branch (3 x 256 x 192), each run in turn, in one process, by

    bits        our kernel, thresholds fused, packed bits out: the layer inside a chain
    fused       our kernel with everything a BiDRN layer has: scale, bias, float16 residual, RPReLU, store of
                float16, packed bits
    avx2_bits   `bits` compiled for the x86 target (AVX2)
    ort_fp32    ONNX Runtime, Conv with a bias
    ort_int8    ONNX Runtime, QLinearConv: U8 activations, S8 weights with a scale per channel

Time is that of the convolution alone on both sides: our calls are timed one by one in a C loop, ONNX Runtime's by
its own profiler, so that its conversion of inputs and outputs, its graph and its Python interface cost it nothing.
Every turn calls each of them CALLS times in a row; a figure is the median of all calls. Before anything is timed,
float outputs are compared with torch (INT8 within 5 %), our integers and floats with sums computed by torch.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from common import disturbed, facts, geometric_mean, parser, report, require_close, table
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from peers import node_times, ort_session
from timed_kernel import KernelCall, TimedKernels

from bhpe_compile.kernels import BinaryConv2d, Epilogue, Residual
from bhpe_compile.kernels.kernel import pack_bits
from bhpe_compile.networks.layers.residual import residual_kind
from bhpe_compile.targets import Target, get_target, host_runs
from bhpe_compile.targets.isa import VectorIsa

Array = NDArray[Any]
Shape = tuple[int, int, int, int, int, int]

SHAPES: tuple[Shape, ...] = (
    *((64, 64, 3, 1, 64, 48), (128, 128, 3, 1, 32, 24), (256, 256, 3, 1, 16, 12), (512, 512, 3, 1, 8, 6)),
    *((256, 64, 1, 1, 64, 48), (64, 256, 1, 1, 64, 48), (128, 512, 1, 1, 32, 24), (512, 128, 1, 1, 32, 24)),
    *((1024, 256, 1, 1, 16, 12), (256, 1024, 1, 1, 16, 12), (2048, 512, 1, 1, 8, 6), (512, 2048, 1, 1, 8, 6)),
    *((128, 128, 3, 2, 64, 48), (256, 256, 3, 2, 32, 24), (512, 512, 3, 2, 16, 12)),
    *((256, 512, 1, 2, 64, 48), (512, 1024, 1, 2, 32, 24), (1024, 2048, 1, 2, 16, 12)),
)
"""Input channels, output channels, kernel, stride, height and width of the input."""

CALLS = 4
"""Calls in a row in one turn: the caches are as warm for every side."""

INT8_TOLERANCE = 0.05
FP32_TOLERANCE = 1e-5
"""Relative errors of ONNX Runtime's outputs against torch."""

KERNEL_TOLERANCE = 1e-6
"""Of our floats, relative to the largest term: float32 sums of a handful of terms."""

RATIOS = {
    "conv_bits_vs_ort_fp32": ("ort_fp32", "bits"),
    "conv_bits_vs_ort_int8": ("ort_int8", "bits"),
    "conv_fused_vs_ort_fp32": ("ort_fp32", "fused"),
    "conv_fused_vs_ort_int8": ("ort_int8", "fused"),
    "avx2_conv_vs_ort_fp32": ("ort_fp32", "avx2_bits"),
    "avx2_conv_vs_ort_int8": ("ort_int8", "avx2_bits"),
}


def name_of(shape: Shape) -> str:
    """A shape as the tables call it."""
    inputs, outputs, kernel, stride, height, width = shape
    channels = f"{inputs}" if inputs == outputs else f"{inputs}->{outputs}"
    return f"{kernel}x{kernel} {channels} @{height}x{width}" + (" stride 2" if stride == 2 else "")


def binary_conv(shape: Shape, epilogue: Epilogue) -> BinaryConv2d:
    """Our kernel of a shape."""
    inputs, outputs, kernel, stride, height, width = shape
    pad = kernel // 2
    return BinaryConv2d(1, height, width, inputs, outputs, kernel, stride, pad, pad, epilogue)


def bits_epilogue(shape: Shape) -> Epilogue:
    """Thresholds and packed bits, with the border that the next layer of a bottleneck asks for."""
    inputs, outputs, kernel, stride, *_ = shape
    reduces = kernel == 1 and stride == 1 and outputs < inputs  # a 3x3 convolution comes next
    return Epilogue(store=False, bits=True, bits_border=1 if reduces else 0)


def fused_epilogue(shape: Shape) -> Epilogue:
    """What a BiDRN layer does before its result leaves the registers."""
    inputs, outputs, _, stride, *_ = shape
    kind = residual_kind(inputs, outputs)
    if kind is None:
        raise ValueError(f"no residual leads from {inputs} to {outputs} channels")
    residual = Residual(kind, inputs, pool=stride == 2, dtype="float16")
    fused = {"residual": residual, "activation": "rprelu", "store": True, "out_dtype": "float16"}
    return replace(bits_epilogue(shape), **fused)


class OurConvolution:
    """Random signs for one shape, and the sums that torch makes of them."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        inputs, outputs, kernel, stride, height, width = shape
        self._generator = np.random.default_rng(seed)
        self._x = self._generator.random((1, height, width, inputs)) < 0.5
        weight = self._generator.random((outputs, inputs, kernel, kernel)) < 0.5
        words = np.packbits(np.moveaxis(weight, 1, -1), axis=-1, bitorder="little").view(np.uint32)
        self._weight = np.ascontiguousarray(np.moveaxis(words, -1, 1))  # [Cout, words, k, k]
        signs = torch.from_numpy(np.where(self._x, 1, -1).astype(np.float32)).permute(0, 3, 1, 2)
        taps = torch.from_numpy(np.where(weight, 1, -1).astype(np.float32))
        sums = torch.nn.functional.conv2d(signs, taps, stride=stride, padding=kernel // 2)
        self._dot = sums.permute(0, 2, 3, 1).numpy().astype(np.int32)

    def arguments(self, kernel: BinaryConv2d, isa: VectorIsa) -> dict[str, Array]:
        """Every input of `kernel` by role."""
        arrays = kernel.pack(isa, self._weight)
        for p in kernel.parameters(isa):
            if p.role == "x":
                arrays["x"] = pack_bits(self._x, kernel.in_border)
            elif not p.is_output and p.role not in arrays:
                arrays[p.role] = self._generator.standard_normal(p.shape).astype(p.dtype)
        return arrays

    def check(self, call: KernelCall, kernel: BinaryConv2d, arrays: dict[str, Array]) -> None:
        """SystemExit unless floats are close, and bits equal wherever a value is not next to its threshold."""
        both = replace(kernel.epilogue, store=True, bits=True, out_dtype="float32")
        value = both.reference(self._dot, arrays)["out"]
        largest = np.abs(self._dot).max() * np.abs(arrays["scale"]).max() + np.abs(value).max() + 1
        got, border = call.run(), kernel.epilogue.bits_border
        wrong = np.zeros(1, np.bool_)
        if "out" in got:
            slack = KERNEL_TOLERANCE if got["out"].dtype == np.float32 else 1e-3
            wrong = np.abs(got["out"] - value) > slack * largest
        near = pack_bits(np.abs(value - arrays["threshold"]) <= KERNEL_TOLERANCE * largest, border)
        differs = (got["bits"] ^ pack_bits(value >= arrays["threshold"], border)) & ~near
        if wrong.any() or differs.any():
            raise SystemExit(f"{kernel.symbol()} computes something else than torch: not timed")


class PeerConvolution:
    """ONNX Runtime's convolution of one shape, in FP32 and in INT8."""

    def __init__(self, shape: Shape, folder: Path, seed: int = 0) -> None:
        inputs, outputs, kernel, stride, height, width = shape
        generator = np.random.default_rng(seed)
        self._x = generator.standard_normal((1, inputs, height, width)).astype(np.float32)
        weight = generator.standard_normal((outputs, inputs, kernel, kernel)).astype(np.float32)
        weight /= np.sqrt(weight[0].size)
        bias = generator.standard_normal(outputs).astype(np.float32)
        pad = kernel // 2
        tensors = (torch.from_numpy(a) for a in (self._x, weight, bias))
        self._y = torch.nn.functional.conv2d(*tensors, stride=stride, padding=pad).numpy()
        self._attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        self.sessions = {
            "ort_fp32": ort_session(self._float_model(weight, bias), folder / "fp32"),
            "ort_int8": ort_session(self._int8_model(weight, bias), folder / "int8"),
        }

    def _model(self, nodes: list[Any], constants: dict[str, Array]) -> bytes:
        graph = helper.make_graph(
            nodes,
            "convolution",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self._x.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, self._y.shape)],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    def _float_model(self, weight: Array, bias: Array) -> bytes:
        node = helper.make_node("Conv", ["x", "weight", "bias"], ["y"], **self._attributes)
        return self._model([node], {"weight": weight, "bias": bias})

    def _int8_model(self, weight: Array, bias: Array) -> bytes:
        def activation(name: str, values: Array) -> dict[str, Array]:
            scale = np.float32((values.max() - values.min()) / 255)
            return {f"{name}_scale": scale, f"{name}_zero": np.uint8(np.round(-values.min() / scale))}

        scale = np.abs(weight).max((1, 2, 3)) / np.float32(127)
        steps = np.round(weight / scale[:, None, None, None]).astype(np.int8)
        constants = activation("x", self._x) | activation("y", self._y)
        bias_scale = scale * constants["x_scale"]
        constants |= {
            "weight": steps,
            "weight_scale": scale,
            "weight_zero": np.zeros(len(scale), np.int8),
            "bias": np.round(bias / bias_scale).astype(np.int32),
            "bias_scale": bias_scale,
            "bias_zero": np.zeros(len(scale), np.int32),
        }

        def node(kind: str, source: str, which: str, target: str, **attributes: int) -> Any:
            names = [source, f"{which}_scale", f"{which}_zero"]
            return helper.make_node(kind, names, [target], **attributes)

        q, d = "QuantizeLinear", "DequantizeLinear"
        nodes = [
            *(node(q, "x", "x", "xq"), node(d, "xq", "x", "xf")),
            *(node(d, "weight", "weight", "wf", axis=0), node(d, "bias", "bias", "bf", axis=0)),
            helper.make_node("Conv", ["xf", "wf", "bf"], ["yf"], **self._attributes),
            *(node(q, "yf", "y", "yq"), node(d, "yq", "y", "y")),
        ]
        return self._model(nodes, constants)

    def run(self, name: str) -> Array:
        """The output of one session."""
        return np.asarray(self.sessions[name].run(None, {"x": self._x})[0])

    def check(self) -> dict[str, float]:
        """Relative errors against torch; SystemExit above the tolerance."""
        allowed = {"ort_fp32": FP32_TOLERANCE, "ort_int8": INT8_TOLERANCE}
        return {name: require_close(name, self.run(name), self._y, allowed[name]) for name in allowed}


def compile_kernels(shapes: tuple[Shape, ...], target: Target, *epilogues: Any) -> TimedKernels:
    """All kernels of a target in one library."""
    kernels = {k.symbol(): k for s in shapes for k in (binary_conv(s, make(s)) for make in epilogues)}
    return TimedKernels(list(kernels.values()), target)


def measure_shape(
    shape: Shape, libraries: dict[str, tuple[TimedKernels, Target, Any]], rounds: int, folder: Path
) -> dict[str, Any]:
    """Microseconds of every side for one shape."""
    ours, peer = OurConvolution(shape), PeerConvolution(shape, folder)
    calls: dict[str, KernelCall] = {}
    for name, (library, target, make) in libraries.items():
        kernel = binary_conv(shape, make(shape))
        arrays = ours.arguments(kernel, target.isa)
        calls[name] = library.prepare(kernel, arrays)
        ours.check(calls[name], kernel, arrays)
    errors = peer.check()
    for name in peer.sessions:  # with the check, two warm-ups of everybody
        peer.run(name)
    warm_ups = 2
    for call in calls.values():
        call.time(warm_ups)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name] += [nanoseconds / 1e3 for nanoseconds in call.time(CALLS)]
        for name in peer.sessions:
            for _ in range(CALLS):
                peer.run(name)
    operators = {}
    for name, session in peer.sessions.items():
        operators[name], listed = node_times(session, "Conv")
        times[name] = listed[warm_ups:]
    microseconds = {name: statistics.median(values) for name, values in times.items()}
    inputs, outputs, kernel_size, stride, height, width = shape
    macs = inputs * outputs * kernel_size**2 * (height // stride) * (width // stride)
    return {
        "mmac": round(macs / 1e6, 1),
        "disturbed": disturbed(times),
        "median_us": {name: round(value, 1) for name, value in microseconds.items()},
        "ratios": {
            name: round(microseconds[peer] / microseconds[own], 2)
            for name, (peer, own) in RATIOS.items()
            if own in microseconds
        },
        "relative_error": errors,
        "operators": operators,
    }


def measure(shapes: tuple[Shape, ...], rounds: int) -> dict[str, Any]:
    """All figures, with geometric means over the shapes."""
    torch.set_num_threads(1)
    native, x86 = get_target("native"), get_target("x86")
    native_library = compile_kernels(shapes, native, bits_epilogue, fused_epilogue)
    libraries = {
        "bits": (native_library, native, bits_epilogue),
        "fused": (native_library, native, fused_epilogue),
    }
    if host_runs(x86):
        libraries["avx2_bits"] = (compile_kernels(shapes, x86, bits_epilogue), x86, bits_epilogue)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as folder:
        for shape in shapes:
            results[name_of(shape)] = measure_shape(shape, libraries, rounds, Path(folder))
    listed = list(results.values())
    ratios = {
        name: round(geometric_mean(one["ratios"][name] for one in listed), 2)
        for name in RATIOS
        if all(name in one["ratios"] for one in listed)
    }
    return {
        **facts(),
        "ratios": ratios,
        "shapes": results,
        "disturbed": [name for name, one in results.items() if one["disturbed"]],
        "target": {"native": native.isa.name, "x86": x86.isa.name},
        "missing": [] if "avx2_bits" in libraries else ["avx2 (this machine does not run the x86 target)"],
    }


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__, rounds=25)
    arguments.add_argument("--shapes", type=int, default=len(SHAPES), help="only the first N shapes")
    args = arguments.parse_args()
    figures = measure(SHAPES[: args.shapes], args.rounds)
    report(figures, args.output)
    names = list(RATIOS)
    rows = [(shape, *(one["ratios"].get(n, "-") for n in names)) for shape, one in figures["shapes"].items()]
    rows.append(("geometric mean", *(figures["ratios"].get(n, "-") for n in names)))
    print(table(("shape", *names), rows))


if __name__ == "__main__":
    main()

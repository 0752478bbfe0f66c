"""Windows of any extents, strides, dilations and paddings, on this machine, against references and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from bhpe_compile.kernels import DenseConv2d, DepthwiseConv2d, Epilogue, Int8DepthwiseConv2d, MaxPool2d
from bhpe_compile.kernels.int8_layout import stored
from bhpe_compile.kernels.window import Extents, Sides, both, four
from bhpe_compile.targets.isa import VectorIsa
from tests.kernels.native import NATIVE, NATIVE_INT8, Array, arguments, run

WINDOWS: list[tuple[Extents, Extents, Sides, Extents]] = [
    (3, 1, 1, 1),
    (3, 2, (0, 0, 1, 1), 1),
    (5, 2, (1, 2, 2, 1), 1),
    (7, 1, 3, 1),
    ((1, 5), 1, (0, 2, 0, 2), 1),
    ((5, 1), (2, 1), (0, 0, 4, 0), 1),
    ((2, 3), (1, 2), (1, 0, 0, 1), 1),
    (3, 1, 2, 2),
    (3, (1, 2), (0, 3, 6, 3), (3, 2)),
    (2, 2, 0, 1),
]
"""Kernel, stride, padding, dilation."""


def onnx_output(op: str, x: Array, weight: Array | None, **attributes: Any) -> Array:
    """One node in ONNX Runtime: x channels last in, channels last out."""
    constants = [] if weight is None else [onnx.numpy_helper.from_array(weight, "w")]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"][: 1 + len(constants)], ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.moveaxis(session.run(None, {"x": np.ascontiguousarray(np.moveaxis(x, -1, 1))})[0], 1, -1)


def whole_numbers(shape: tuple[int, ...], seed: int) -> Array:
    """Small ones: their sums have no rounding, so any wrong tap or lane shows."""
    return np.random.default_rng(seed).integers(-8, 9, shape).astype(np.float32)


def attributes_of(kernel: Any) -> dict[str, Any]:
    return {
        "kernel_shape": both(kernel.kernel),
        "strides": both(kernel.stride),
        "pads": four(kernel.padding),
        "dilations": both(kernel.dilation),
    }


@pytest.mark.parametrize("isa", NATIVE)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_dense(isa: VectorIsa, window: tuple[Extents, Extents, Sides, Extents]) -> None:
    size, stride, padding, dilation = window
    kernel = DenseConv2d(2, 9, 11, 5, 24, size, stride, padding, Epilogue(), "float32", dilation=dilation)
    weight = whole_numbers((24, 5, *both(size)), 1)
    arrays = arguments(kernel, isa, 2, plain=True) | kernel.pack(isa, weight)
    arrays["x"] = whole_numbers(arrays["x"].shape, 3)
    expected = onnx_output("Conv", arrays["x"], weight, **attributes_of(kernel))
    np.testing.assert_array_equal(kernel.reference(**arrays)["out"], expected)
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], expected)


@pytest.mark.parametrize("isa", NATIVE)
@pytest.mark.parametrize("channels", [3, 16, 45])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_depthwise(isa: VectorIsa, window: tuple[Extents, Extents, Sides, Extents], channels: int) -> None:
    size, stride, padding, dilation = window
    kernel = DepthwiseConv2d(2, 9, 14, channels, channels, size, stride, padding, Epilogue(), dilation)
    weight = whole_numbers((channels, 1, *both(size)), 1)
    arrays = arguments(kernel, isa, 2, plain=True) | kernel.pack(isa, weight)
    arrays["x"] = whole_numbers(arrays["x"].shape, 3)
    expected = onnx_output("Conv", arrays["x"], weight, group=channels, **attributes_of(kernel))
    np.testing.assert_array_equal(kernel.reference(**arrays)["out"], expected)
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], expected)


@pytest.mark.parametrize("isa", NATIVE)
def test_depthwise_epilogue(isa: VectorIsa) -> None:
    kernel = DepthwiseConv2d(1, 7, 6, 40, 40, 3, 1, 1, Epilogue(activation="leaky", shortcut=True))
    weight = np.random.default_rng(1).standard_normal((40, 1, 3, 3)).astype(np.float32)
    arrays = arguments(kernel, isa, 2) | kernel.pack(isa, weight)
    expected = kernel.reference(**arrays)["out"]
    np.testing.assert_allclose(run(kernel, isa, arrays)["out"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("isa", NATIVE_INT8)
@pytest.mark.parametrize("channels", [3, 16, 45])
@pytest.mark.parametrize("window", [w for w in WINDOWS if w[3] == 1], ids=str)
def test_8_bit_depthwise(
    isa: VectorIsa, window: tuple[Extents, Extents, Sides, Extents], channels: int
) -> None:
    """The integers of levels with a zero point: equal to ConvInteger's."""
    size, stride, padding, _ = window
    border, zero = max(four(padding)), 77
    epilogue = Epilogue()
    kernel = Int8DepthwiseConv2d(
        2, 9, 14, channels, channels, size, stride, padding, border, 15 + 2 * border, epilogue
    )
    generator = np.random.default_rng(3)
    weight = generator.integers(-127, 128, (channels, 1, *both(size))).astype(np.int8)
    levels = generator.integers(0, 256, (2, 9, 14, channels)).astype(np.uint8)
    arrays = arguments(kernel, isa, 2, plain=True) | kernel.constants(
        isa, {"weight": weight, "zero": np.array(zero)}
    )
    frame = np.full(kernel.parameters(isa)[0].shape, zero, np.uint8)
    frame[:, border : border + 9, border : border + 14] = levels
    arrays["x"] = stored(frame, zero, isa.int8)
    signed = levels.astype(np.float32) - zero
    expected = onnx_output("Conv", signed, weight.astype(np.float32), group=channels, **attributes_of(kernel))
    np.testing.assert_array_equal(kernel.reference(**arrays)["out"], expected)
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], expected)
    # with random floats a fused multiply-add would give other bits
    scale, bias = generator.uniform(1e-4, 1e-3, channels), generator.standard_normal(channels)
    arrays |= {"scale": scale.astype(np.float32), "bias": bias.astype(np.float32)}
    written = expected * arrays["scale"] + arrays["bias"]
    np.testing.assert_array_equal(kernel.reference(**arrays)["out"], written)
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], written)


@pytest.mark.parametrize("isa", NATIVE)
@pytest.mark.parametrize("window", [w for w in WINDOWS if w[3] == 1 and w[2] != (0, 0, 4, 0)], ids=str)
def test_max_pool(isa: VectorIsa, window: tuple[Extents, Extents, Sides, Extents]) -> None:
    size, stride, padding, _ = window
    kernel = MaxPool2d(2, 9, 11, 21, size, stride, padding)
    arrays = arguments(kernel, isa, 4)
    facts = {name: value for name, value in attributes_of(kernel).items() if name != "dilations"}
    expected = onnx_output("MaxPool", arrays["x"], None, **facts)
    np.testing.assert_array_equal(kernel.reference(**arrays)["out"], expected)
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], expected)


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        DepthwiseConv2d(1, 2, 9, 8, 8, 3, 1, (0, 1, 0, 1), Epilogue())
    with pytest.raises(ValueError, match="keeps its 8 channels"):
        DepthwiseConv2d(1, 9, 9, 8, 16, 3, 1, 1, Epilogue())
    with pytest.raises(ValueError, match="below kernel"):
        MaxPool2d(1, 9, 9, 8, 3, 1, (0, 0, 3, 0))

"""Float kernels on this machine, against their references and against ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bhpe_compile.kernels import DenseConv2d, DenseConvTranspose2d, Epilogue, Residual
from bhpe_compile.kernels.kernel import pack_bits
from bhpe_compile.targets.isa import AVX2, VectorIsa
from tests.kernels import strategies
from tests.kernels.native import NATIVE, Array, arguments, run

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=12, derandomize=True)

TOLERANCE = 2e-6
"""Relative to sum |x * w|: float32 sums of a few thousand terms in vector lanes err by some 1e-6 of it."""


def onnx_weight(kernel: Any, seed: int) -> Array:
    """Random float weights in the ONNX layout, exact in float16."""
    generator = np.random.default_rng(seed + 1)
    if isinstance(kernel, DenseConv2d):
        shape = (kernel.out_channels, kernel.in_channels, kernel.kernel, kernel.kernel)
    else:
        shape = (kernel.in_channels, kernel.out_channels, 4, 4)
    return generator.standard_normal(shape).astype(np.float16).astype(np.float32)


def check(kernel: Any, isa: VectorIsa, seed: int) -> None:
    """Floats within the tolerance of the largest sum of magnitudes, bits equal away from the threshold."""
    weight = onnx_weight(kernel, seed)
    arrays = arguments(kernel, isa, seed) | kernel.pack(isa, weight)
    both = replace(kernel, epilogue=replace(kernel.epilogue, store=True))
    value = both.reference(**{"threshold": np.zeros(kernel.out_channels, np.float32), **arrays})["out"]
    terms = np.abs(weight).sum() / kernel.out_channels * np.abs(arrays["x"]).max()
    error = TOLERANCE * (10 + terms * np.abs(arrays["scale"]).max() + np.abs(value).max())
    got = run(kernel, isa, arrays)
    if "out" in got:
        np.testing.assert_allclose(got["out"], value, rtol=0, atol=error)
    if "bits" in got:
        threshold = arrays.get("threshold", np.float32(0))  # no argument where bits are taken at zero
        near = np.abs(value - threshold) <= error
        expected = pack_bits(value >= threshold, kernel.epilogue.bits_border)
        assert not ((got["bits"] ^ expected) & ~pack_bits(near, kernel.epilogue.bits_border)).any()


@pytest.mark.parametrize("isa", NATIVE)
@FEW
@given(kernel=strategies.dense_convs(), seed=SEEDS)
def test_convolution(isa: VectorIsa, kernel: DenseConv2d, seed: int) -> None:
    check(kernel, isa, seed)


NETWORK = {
    "stem": DenseConv2d(1, 64, 48, 3, 64, 7, 2, 3, Epilogue(activation="relu")),
    "shortcut": DenseConv2d(1, 16, 12, 64, 128, 1, 2, 0, Epilogue()),
    "heat map head": DenseConv2d(1, 8, 6, 256, 200, 1, 1, 0, Epilogue()),
    "centres": DenseConv2d(1, 16, 12, 256, 3, 1, 1, 0, Epilogue()),
    "pose": DenseConv2d(1, 1, 1, 1699, 126, 1, 1, 0, Epilogue()),
    "shape": DenseConv2d(1, 1, 1, 2048, 10, 1, 1, 0, Epilogue()),
    "3x3": DenseConv2d(
        2, 6, 6, 40, 48, 3, 1, 1, Epilogue(Residual("same", 48), "rprelu", True, True, True, 1)
    ),
}


@pytest.mark.parametrize("isa", NATIVE)
@pytest.mark.parametrize("name", NETWORK)
def test_shapes_of_the_network(isa: VectorIsa, name: str) -> None:
    check(NETWORK[name], isa, 5)


@pytest.mark.parametrize("isa", NATIVE)
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (8, 6)])
def test_transposed_convolution(isa: VectorIsa, size: tuple[int, int]) -> None:
    epilogue = Epilogue(activation="relu", bits=True, bits_border=1)
    check(DenseConvTranspose2d(1, *size, 21, 40, epilogue), isa, 6)


@pytest.mark.parametrize("isa", NATIVE)
def test_small_integers_are_exact(isa: VectorIsa) -> None:
    """Sums of small whole numbers have no rounding: any wrong tap or lane shows."""
    kernel = DenseConv2d(1, 9, 13, 5, 24, 3, 2, 1, Epilogue())
    generator = np.random.default_rng(2)
    weight = generator.integers(-8, 9, (24, 5, 3, 3)).astype(np.float32)
    arrays = arguments(kernel, isa, 2, plain=True) | kernel.pack(isa, weight)
    arrays["x"] = generator.integers(-8, 9, arrays["x"].shape).astype(np.float32)
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], kernel.reference(**arrays)["out"])


@pytest.mark.parametrize("isa", NATIVE)
@pytest.mark.parametrize("outputs", [3, 16, 90])
def test_eight_bit_weights(isa: VectorIsa, outputs: int) -> None:
    """A linear layer: whole numbers below 2**24, so any wrong value shows."""
    kernel = DenseConv2d(1, 1, 1, 333, outputs, 1, 1, 0, Epilogue(), "int8")
    generator = np.random.default_rng(outputs)
    weight = generator.integers(-127, 128, (outputs, 333)).astype(np.int8)
    arrays = arguments(kernel, isa, 2, plain=True) | kernel.pack(isa, weight)
    assert arrays["weight"].dtype == np.int8
    arrays["x"] = generator.integers(-8, 9, arrays["x"].shape).astype(np.float32)
    expected = arrays["x"].reshape(1, -1).astype(np.int64) @ weight.T.astype(np.int64)
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"].reshape(1, -1), expected)
    np.testing.assert_array_equal(kernel.reference(**arrays)["out"].reshape(1, -1), expected)


def onnx_output(op: str, x: Array, weight: Array, **attributes: Any) -> Array:
    """One ONNX node in ONNX Runtime: x NHWC in, NHWC out."""
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.moveaxis(session.run(None, {"x": np.ascontiguousarray(np.moveaxis(x, -1, 1))})[0], 1, -1)


def test_reference_agrees_with_onnxruntime() -> None:
    kernel = DenseConv2d(2, 9, 12, 5, 11, 7, 2, 3, Epilogue())
    weight = onnx_weight(kernel, 1)
    arrays = arguments(kernel, AVX2, 1, plain=True) | kernel.pack(AVX2, weight)
    expected = onnx_output("Conv", arrays["x"], weight, strides=[2, 2], pads=[3] * 4)
    np.testing.assert_allclose(kernel.reference(**arrays)["out"], expected, rtol=0, atol=1e-4)


def test_transposed_reference_agrees_with_onnxruntime() -> None:
    kernel = DenseConvTranspose2d(2, 5, 3, 7, 11, Epilogue())
    weight = onnx_weight(kernel, 1)
    arrays = arguments(kernel, AVX2, 1, plain=True) | kernel.pack(AVX2, weight)
    expected = onnx_output("ConvTranspose", arrays["x"], weight, strides=[2, 2], pads=[1] * 4)
    np.testing.assert_allclose(kernel.reference(**arrays)["out"], expected, rtol=0, atol=1e-4)


def test_a_weight_beyond_float16_is_refused() -> None:
    kernel = DenseConv2d(1, 1, 1, 8, 8, 1, 1, 0, Epilogue())
    with pytest.raises(ValueError, match="does not fit float16"):
        kernel.pack(AVX2, np.full((8, 8), 70000, np.float32))


def test_bits_of_odd_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        DenseConv2d(1, 4, 4, 3, 10, 3, 1, 1, Epilogue(bits=True))

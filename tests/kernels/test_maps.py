"""Pooling, packing and transposing kernels on this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bhpe_compile.kernels import MaxPool2d, PackBits, TransposeChannels
from bhpe_compile.targets.isa import VectorIsa
from tests.kernels.native import NATIVE, Array, arguments, run

FEW = settings(max_examples=6, derandomize=True)


def onnxruntime_outputs(op: str, inputs: dict[str, Array], **attributes: Any) -> Array:
    """The output of one ONNX node."""
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
    graph = helper.make_graph(
        [helper.make_node(op, list(inputs), ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info(k, kinds[v.dtype], v.shape) for k, v in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def nchw(x: Array) -> Array:
    """NHWC -> NCHW."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


@st.composite
def pools(draw: st.DrawFn) -> MaxPool2d:
    """Max pools; at least one output."""
    kernel = draw(st.integers(1, 4))
    padding = draw(st.integers(0, kernel // 2))
    least = max(1, kernel - 2 * padding)
    channels = draw(st.sampled_from([8, 16, 24, 40]))
    bits = draw(st.booleans())
    return MaxPool2d(
        batch=draw(st.integers(1, 2)),
        height=draw(st.integers(least, least + 6)),
        width=draw(st.integers(least, least + 6)),
        channels=channels if bits else channels + draw(st.integers(0, 7)),
        kernel=kernel,
        stride=draw(st.integers(1, 3)),
        padding=padding,
        store=not bits or draw(st.booleans()),
        bits=bits,
        bits_border=draw(st.integers(0, 1)) if bits else 0,
        dtype=draw(st.sampled_from(["float32", "float16"])),
        out_dtype=draw(st.sampled_from(["float32", "float16"])),
    )


@pytest.mark.parametrize("isa", NATIVE)
@FEW
@given(kernel=pools(), seed=st.integers(0, 999))
def test_max_pool_is_exact(isa: VectorIsa, kernel: MaxPool2d, seed: int) -> None:
    arrays = arguments(kernel, isa, seed)
    expected = kernel.reference(**arrays)
    for role, array in run(kernel, isa, arrays).items():
        np.testing.assert_array_equal(array, expected[role], err_msg=role)


@pytest.mark.parametrize("isa", NATIVE)
def test_halves_are_pooled_in_the_order_of_their_values(isa: VectorIsa) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    numbers = np.random.default_rng(0).permutation(bits[np.isfinite(bits.view(np.float16))]).view(np.float16)
    for size in (2, 6):  # windows, and columns before rows
        kernel = MaxPool2d(1, 31, 64, 32, size, 1, 0, dtype="float16", out_dtype="float16")
        assert kernel.by_lines == (size == 6)
        arrays = {"x": numbers[: 31 * 64 * 32].reshape(1, 31, 64, 32)}
        expected = kernel.reference(**arrays)["out"]
        np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], expected)


def test_max_pool_reference_agrees_with_onnxruntime() -> None:
    kernel = MaxPool2d(2, 9, 12, 5, 3, 2, 1)
    x = -np.abs(np.random.default_rng(0).standard_normal((2, 9, 12, 5))).astype(np.float32)
    expected = onnxruntime_outputs(
        "MaxPool", {"x": nchw(x)}, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
    )
    np.testing.assert_array_equal(nchw(kernel.reference(x=x)["out"]), expected)


@pytest.mark.parametrize("isa", NATIVE)
@FEW
@given(
    channels=st.one_of(st.integers(1, 80), st.sampled_from([256, 330])),
    border=st.integers(0, 2),
    seed=st.integers(0, 999),
)
def test_pack_bits_is_exact(isa: VectorIsa, channels: int, border: int, seed: int) -> None:
    kernel = PackBits(2, 3, 4, channels, border)
    arrays = arguments(kernel, isa, seed)
    arrays["x"].flat[::5] = np.broadcast_to(arrays["threshold"], arrays["x"].shape).flat[::5]  # ties are 1
    np.testing.assert_array_equal(run(kernel, isa, arrays)["bits"], kernel.reference(**arrays)["bits"])


@pytest.mark.parametrize("isa", NATIVE)
@FEW
@given(
    batch=st.integers(1, 2),
    channels=st.integers(1, 40),
    size=st.tuples(st.integers(1, 7), st.integers(1, 9)),
    to_last=st.booleans(),
)
def test_transpose(isa: VectorIsa, batch: int, channels: int, size: tuple[int, int], to_last: bool) -> None:
    kernel = TransposeChannels(batch, channels, *size, to_last)
    arrays = arguments(kernel, isa, channels)
    expected = kernel.reference(**arrays)["out"]
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], expected)

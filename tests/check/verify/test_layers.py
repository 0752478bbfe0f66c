"""What layers read, from a value of model.onnx and from the memory of a step: the same arrays."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.check.verify.layers import Layer, layers_of
from bhpe_compile.kernels.int8_layout import stored
from bhpe_compile.kernels.kernel import pack_bits
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.targets.int8_instructions import INT8_INSTRUCTIONS, Int8Instruction
from tests.check.artefacts import SHORTCUT, STEM, exact_network
from tests.passes.lower.graphs import Builder, small_network

SIGNS = Layer("one", "binary", "x", np.array([0.5, -1.0, 0.0], np.float32))
LEVELS = Layer("one", "int8", "x", None, 0.25, 7)


def test_layers_are_read_from_the_file_alone() -> None:
    layers = layers_of(ir.to_proto(exact_network()))
    assert {name: layer.kind for name, layer in layers.items()} == {
        STEM: "int8",
        SHORTCUT: "int8",
        "block.conv1": "binary",
        "block.conv2": "binary",
        "down.conv1": "binary",
        "down.conv2": "binary",
    }
    assert layers[STEM].step == pytest.approx(4 / 255, rel=1e-6)
    assert layers[STEM].zero == 127
    assert layers["block.conv1"].threshold is not None
    assert layers["block.conv1"].threshold.shape == (16,)


def test_float_layers_read_no_levels() -> None:
    layers = layers_of(ir.to_proto(small_network()))
    assert {layer.kind for layer in layers.values()} == {"binary"}


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "every"), [(1, 2, 0, 2), (1, 1, 0, 1), (1, 2, 1, 1), (3, 2, 1, 1)]
)
def test_a_strided_1x1_layer_reads_some_pixels(kernel: int, stride: int, padding: int, every: int) -> None:
    b = Builder(1)
    y = b.dense_conv(b.input("image", (1, 4, 6, 5)), "one", 4, 8, kernel, stride, padding)
    model = b.build(y)
    QuantizeDense({"one": (-1.0, 1.0)})(model)
    layer = layers_of(ir.to_proto(model))["one"]
    assert layer.every == every
    x = np.random.default_rng(1).standard_normal((1, 4, 6, 5)).astype(np.float32)
    read = layer.of_value(x)
    assert read.shape == (1, *(-(-size // every) for size in (6, 5)), 4)
    np.testing.assert_array_equal(
        read, Layer("one", "int8", "x", None, layer.step, layer.zero).of_value(x)[:, ::every, ::every]
    )


def test_signs_of_a_value() -> None:
    """At the threshold, and at 0 from either side, a sign is +1."""
    x = np.array([[0.5, -1.0, -0.0], [0.49999997, -1.0000001, -1e-45], [2, 2, 2]], np.float32)
    found = SIGNS.of_value(x)
    assert found.shape == (3, 1, 1, 3)
    assert found.reshape(3, 3).tolist() == [[True] * 3, [False] * 3, [True] * 3]
    maps = np.moveaxis(np.broadcast_to(x.reshape(1, 1, 3, 3), (2, 1, 3, 3)), -1, 1)
    np.testing.assert_array_equal(
        SIGNS.of_value(maps), np.broadcast_to(found.reshape(1, 1, 3, 3), (2, 1, 3, 3))
    )


def test_levels_of_a_value() -> None:
    """Ties go to the even level, ends are clipped."""
    x = np.array([0, 0.125, 0.375, -0.125, 1000, -1000, 62, -1.75], np.float32).reshape(1, 1, 2, 4)
    assert LEVELS.of_value(x).ravel().tolist() == [7, 7, 9, 7, 255, 0, 255, 0]


@settings(max_examples=40)
@given(
    channels=st.integers(1, 40),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    border=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_signs_in_memory(channels: int, size: tuple[int, int], border: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    read, other = (rng.random((2, *size, channels)) < 0.5 for _ in range(2))
    layer = Layer("one", "binary", "x", np.zeros(channels, np.float32))
    memory = pack_bits(read, border)
    np.testing.assert_array_equal(layer.of_memory(memory, read.shape), read)
    before = memory.copy()
    written = layer.to_memory(other, memory)
    np.testing.assert_array_equal(layer.of_memory(written, read.shape), other)
    np.testing.assert_array_equal(written, pack_bits(other, border))
    np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize("use", INT8_INSTRUCTIONS, ids=lambda use: use.name)
@settings(max_examples=15)
@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    border=st.integers(0, 2),
    spare=st.integers(0, 2),
    zero=st.sampled_from([0, 7, 128, 255]),
    seed=st.integers(0, 99),
)
def test_levels_in_memory(
    use: Int8Instruction, size: tuple[int, int], border: int, spare: int, zero: int, seed: int
) -> None:
    """Whatever the target's form of a level, the border and the spare pixels."""
    rng = np.random.default_rng(seed)
    read, other = (rng.integers(0, 256, (1, *size, 3)).astype(np.int16) for _ in range(2))
    layer = Layer("one", "int8", "x", None, 0.25, zero)
    frame = ((0, 0), (border, border), (border, border + spare), (0, 0))
    memory = stored(np.pad(read, frame, constant_values=zero), zero, use)
    np.testing.assert_array_equal(layer.of_memory(memory, read.shape), read)
    written = layer.to_memory(other, memory)
    assert written.dtype == memory.dtype
    np.testing.assert_array_equal(written, stored(np.pad(other, frame, constant_values=zero), zero, use))


def test_where_a_rounding_decides() -> None:
    """Signs near their threshold, and levels near the middle between two: all others do not move by a rounding."""
    x = np.array([0.5, -1.0, 0.0, 0.5001, -0.9, 0.1, 0.3, 0.2, 4.0], np.float32).reshape(
        1, 3, 1, 3, order="F"
    )
    signs = SIGNS.doubtful(x)
    np.testing.assert_array_equal(signs[0, 0], [[True] * 3, [True, False, False], [False] * 3])
    levels = LEVELS.doubtful(0.25 * np.array([[0.0, 0.49, 0.5, 0.51, 0.7, 40.5]], np.float32))
    np.testing.assert_array_equal(levels[0, 0, 0], [False, False, True, False, False, True])
    assert LEVELS.doubtful(np.float32(0.125) * np.ones((1, 2, 3, 4), np.float32)).shape == (1, 3, 4, 2)

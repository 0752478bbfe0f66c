"""8-bit layers in `verify`: their accumulators against torch, and what memory holds of their levels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from bhpe_compile.check.verify.integers import Int8Layer, int8_layers
from bhpe_compile.check.verify.levels import LevelMemory
from bhpe_compile.check.verify.oracle import remove_rounding


def layer(weight: np.ndarray, stride: int = 1, padding: int = 0, *, transposed: bool = False) -> Int8Layer:
    pads = (padding,) * 4
    return Int8Layer("l", weight.astype(np.float64), 7, (stride, stride), pads, 1, transposed, "levels")


@settings(max_examples=30, deadline=None)
@given(
    channels=st.integers(1, 9),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    transposed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_accumulate_equals_torch(
    channels: int, kernel: int, stride: int, padding: int, transposed: bool, seed: int
) -> None:
    padding = min(padding, kernel - 1)
    rng = np.random.default_rng(seed)
    weight = rng.integers(-127, 128, (5, channels, kernel, kernel))
    values = rng.integers(-255, 256, (2, 6, 7, channels))
    x, w = (torch.from_numpy(a.astype(np.float64)) for a in (values.transpose(0, 3, 1, 2), weight))
    if transposed:
        want = functional.conv_transpose2d(x, w.transpose(0, 1), None, stride, padding)
    else:
        want = functional.conv2d(x, w, None, stride, padding)
    got = layer(weight, stride, padding, transposed=transposed).accumulate(values)
    np.testing.assert_array_equal(got, want.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize(("dtype", "shift"), [("uint8", 0), ("int8", 128), ("int16", 7)])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 2, 0), (3, 2, 1), (3, 1, 0)])
def test_memory(dtype: str, shift: int, kernel: int, stride: int, padding: int) -> None:
    """Levels go in and come out, whatever the type, the border and the spare pixels."""
    rng = np.random.default_rng(1)
    one = layer(rng.integers(-127, 128, (4, 3, kernel, kernel)), stride, padding)
    levels = rng.integers(0, 256, (1, 5, 8, 3)).astype(np.uint8)
    kept = levels[:, ::2, ::2] if kernel == 1 else levels
    rows, columns = kept.shape[1:3]
    raw = np.full((1, rows + 2 * padding, columns + 2 * padding + 1, 3), 7 - shift, dtype)
    memory = LevelMemory.of(one, levels.shape, raw)
    np.testing.assert_array_equal(memory.pick(levels), kept)
    filled = memory.filled(memory.pick(levels))
    assert filled.dtype == raw.dtype
    assert (filled == raw).all(
        axis=(0, 2, 3)
    ).sum() == 2 * padding  # the border above and below is left alone
    again = LevelMemory.of(one, levels.shape, filled)
    np.testing.assert_array_equal(again.values(), kept.astype(int) - 7)
    np.testing.assert_array_equal(again.accumulate(), one.accumulate(levels.astype(int) - 7))


def rounded_model() -> onnx.ModelProto:
    """y = Conv(DQ(Q(half(x))), DQ(Q(w)))."""
    rng = np.random.default_rng(2)
    weight = rng.integers(-127, 128, (2, 3, 1, 1)).astype(np.float32) * np.float32(0.5)
    constants = {
        "w": weight,
        "s": np.float32(0.25),
        "z": np.uint8(9),
        "ws": np.full(2, 0.5, np.float32),
        "wz": np.zeros(2, np.int8),
    }
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["h"], ["r"], to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=0),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["d", "wd"], ["y"], name="conv", kernel_shape=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "rounded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_layers_are_read_from_the_file() -> None:
    found = int8_layers(rounded_model())
    assert list(found) == ["conv"]
    assert (found["conv"].zero, found["conv"].levels_name, found["conv"].strided) == (9, "q", True)
    assert set(np.unique(found["conv"].weight % 1)) == {0}


def test_rounding_is_taken_out() -> None:
    model = rounded_model()
    assert remove_rounding(model)
    assert list(model.graph.node[-1].input) == ["x", "w"]
    assert int8_layers(model) == {}
    assert not remove_rounding(helper.make_model(helper.make_graph([], "empty", [], [])))

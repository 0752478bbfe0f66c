"""Crops, equal bit by bit: torch, ONNX Runtime with and without its optimizations, NumPy, kernels."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bhpe_compile.kernels import Crop
from bhpe_compile.networks.layers import crop as _crop  # noqa: F401 (registers the operator)
from bhpe_compile.targets.isa import VectorIsa
from tests.exchange.operators import everywhere
from tests.kernels.native import NATIVE, Array, run

FEW = settings(max_examples=8, derandomize=True)

NO_BOXES = [
    [np.nan] * 4,
    [-np.inf, -np.inf, np.inf, np.inf],
    [0, 0, 1e30, 1e30],
    [1e30, 0, -1e30, 5],
    [5, 5, np.nan, 9],
    [200, 200, 260, 230],  # outside altogether
]


def picture(rng: np.random.Generator, *shape: int) -> Array:
    """Levels k / 255."""
    levels: Array = rng.integers(0, 256, shape).astype(np.float32) / np.float32(255)
    return levels


@st.composite
def crops(draw: st.DrawFn) -> tuple[Array, Array, tuple[int, int]]:
    """A picture [2, C, H, W], a box of each and the size: inside, across the border, small, of many samples a bin."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 40)), draw(st.integers(1, 50)))
    spread = draw(st.sampled_from([1, 30, 400]))
    corner = rng.uniform(-0.3, 1, (2, 2)) * spread
    boxes = np.concatenate((corner, corner + rng.uniform(0, 1.4, (2, 2)) * spread), 1)
    if draw(st.booleans()):
        boxes = np.rint(boxes * 16) / 16
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 12)))
    return picture(rng, 2, *shape), boxes.astype(np.float32), size


def of(x: Array, size: tuple[int, int]) -> Crop:
    n, c, h, w = x.shape
    return Crop(n, h, w, c, *size)


def nhwc(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def check_everywhere(x: Array, boxes: Array, size: tuple[int, int]) -> None:
    want = np.moveaxis(of(x, size).reference(x=nhwc(x), boxes=boxes)["out"], -1, 1)
    for name, got in everywhere("Crop", {"x": x, "boxes": boxes}, height=size[0], width=size[1]).items():
        np.testing.assert_array_equal(got, want, err_msg=name)


@FEW
@given(crops())
def test_torch_and_onnx_runtime_are_numpy(drawn: tuple[Array, Array, tuple[int, int]]) -> None:
    check_everywhere(*drawn)


@pytest.mark.parametrize("isa", NATIVE)
@FEW
@given(crops())
def test_kernels_are_numpy(isa: VectorIsa, drawn: tuple[Array, Array, tuple[int, int]]) -> None:
    x, boxes, size = drawn
    arrays = {"x": nhwc(x), "boxes": boxes}
    want = of(x, size).reference(**arrays)["out"]
    np.testing.assert_array_equal(run(of(x, size), isa, arrays)["out"], want)


def test_boxes_without_meaning_end_and_are_the_same_everywhere() -> None:
    """They give zeros where all samples lie outside, and touch nothing else."""
    x = picture(np.random.default_rng(0), len(NO_BOXES), 3, 12, 10)
    boxes = np.array(NO_BOXES, np.float32)
    check_everywhere(x, boxes, (8, 6))
    assert not of(x, (8, 6)).reference(x=nhwc(x), boxes=boxes)["out"][[0, 3, 5]].any()


@pytest.mark.parametrize("isa", NATIVE)
def test_kernels_survive_boxes_without_meaning(isa: VectorIsa) -> None:
    x = picture(np.random.default_rng(0), len(NO_BOXES), 3, 12, 10)
    arrays = {"x": nhwc(x), "boxes": np.array(NO_BOXES, np.float32)}
    kernel = of(x, (8, 6))
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], kernel.reference(**arrays)["out"])


def test_the_largest_sum_is_exact() -> None:
    """White everywhere, 8 samples a bin and axis: every crop inside is white."""
    x = np.ones((1, 3, 300, 300), np.float32)
    boxes = np.array([[20, 20, 276, 276]], np.float32)
    for got in everywhere("Crop", {"x": x, "boxes": boxes}, height=32, width=32).values():
        np.testing.assert_array_equal(got, 1)


def test_they_are_regions_of_interest() -> None:
    """ONNX's RoiAlign (average, output_half_pixel, adaptive) at the same boxes, of up to eight samples a bin."""
    x = picture(np.random.default_rng(1), 4, 3, 96, 128)
    boxes = np.array(
        [[20, 30, 90, 110], [-72.5, -8.5, 48.5, 112.5], [50, 50, 52.25, 51.5], [127, 95, 500, 600]],
        np.float32,
    )
    node = helper.make_node(
        "RoiAlign",
        ["x", "b", "i"],
        ["y"],
        output_height=16,
        output_width=12,
        sampling_ratio=0,
        mode="avg",
        coordinate_transformation_mode="output_half_pixel",
    )
    infos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
        helper.make_tensor_value_info("b", TensorProto.FLOAT, boxes.shape),
        helper.make_tensor_value_info("i", TensorProto.INT64, [4]),
    ]
    graph = helper.make_graph(
        [node], "g", infos, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (want,) = session.run(None, {"x": x, "b": boxes, "i": np.arange(4)})
    got = torch.ops.bhpe.crop(torch.from_numpy(x), torch.from_numpy(boxes), 16, 12).numpy()
    # samples lie up to 1/64 pixel beside theirs on each axis, and neighbouring pixels differ by up to 1; ONNX takes
    # more samples of the last box, which lies outside but for its corner
    np.testing.assert_allclose(got[:3], want[:3], rtol=0, atol=2 / 64 + 1e-4)
    assert not got[3, :, 1:, 1:].any()

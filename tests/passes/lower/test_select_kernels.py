"""What gets which kernel, how odd binary output counts are padded, and what is refused, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from bhpe_compile.errors import InputError
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from tests.passes.lower.graphs import Builder, pack_words

Add = Callable[[Builder, str], str]


def half(array: np.ndarray) -> np.ndarray:
    """Rounded as weights are stored."""
    return array.astype(np.float16).astype(np.float32)


def model_of(add: Add, shape: tuple[int, ...] = (1, 8, 6, 6)) -> ir.Model:
    b = Builder()
    return b.build(add(b, b.input("image", shape)))


def kernel(model: ir.Model) -> ir.Node:
    """The only kernel node."""
    (node,) = (n for n in model.graph if g.is_kernel(n))
    return node


def conv(**attributes: Any) -> Add:
    groups = attributes.get("group", 1)

    def add(b: Builder, x: str) -> str:
        weight = b.constant("odd.weight", half(b.normal(8, 8 // groups, 3, 3)))
        return b.add("Conv", [x, weight], "odd", **attributes)

    return add


def gemm(transposed: bool = True, **attributes: Any) -> Add:
    def add(b: Builder, x: str) -> str:
        weight = b.constant("odd.weight", half(b.normal(*((5, 8) if transposed else (8, 5)))))
        return b.add("Gemm", [x, weight, b.constant("odd.bias", b.normal(5))], "odd", **attributes)

    return add


def deconv(**attributes: Any) -> Add:
    def add(b: Builder, x: str) -> str:
        return b.add(
            "ConvTranspose", [x, b.constant("odd.weight", half(b.normal(8, 8, 4, 4)))], "odd", **attributes
        )

    return add


def max_pool(**attributes: Any) -> Add:
    return lambda b, x: b.add("MaxPool", [x], "odd", kernel_shape=[3, 3], **attributes)


def roi_align(**attributes: Any) -> Add:
    def add(b: Builder, x: str) -> str:
        boxes = b.constant("boxes", np.array([[0, 0, 4, 4]], np.float32))
        batch = b.constant("batch", np.zeros(1, np.int64))
        return b.add("RoiAlign", [x, boxes, batch], "odd", output_height=2, output_width=2, **attributes)

    return add


def grid_sample(**attributes: Any) -> Add:
    def add(b: Builder, x: str) -> str:
        grid = b.constant("grid", b.normal(1, 3, 1, 2, std=0.5))
        return b.add("GridSample", [x, grid], "odd", **attributes)

    return add


def computed_weight(b: Builder, x: str) -> str:
    weight = b.add("Abs", [b.constant("w", half(b.normal(8, 8, 3, 3)))], "made")
    return b.add("Conv", [x, weight], "odd", kernel_shape=[3, 3])


REFUSED = {
    "groups": (conv(group=2), "groups and dilations"),
    "dilation": (conv(dilations=[2, 2]), "groups and dilations"),
    "strides that differ": (conv(strides=[1, 2]), r"strides \[1, 2\] differ by side"),
    "pads that differ": (conv(pads=[1, 0, 1, 0]), r"pads \[0, 1\] differ by side"),
    "dilations that differ": (conv(dilations=[1, 2]), r"dilations \[1, 2\] differ by side"),
    "weights computed": (computed_weight, "weights are computed at run time"),
    "output padding": (deconv(strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]), "output_padding"),
    "grouped deconv": (deconv(strides=[2, 2], pads=[1] * 4, group=2), "groups and dilations"),
    "pool ceil": (max_pool(ceil_mode=1), "only plain MaxPool"),
    "pool dilation": (max_pool(dilations=[2, 2]), "only plain MaxPool"),
    "RoI max": (
        roi_align(mode="max", coordinate_transformation_mode="output_half_pixel"),
        "only RoiAlign avg",
    ),
    "RoI half pixel": (roi_align(), "only RoiAlign avg, output_half_pixel"),
    "RoI scale": (
        roi_align(spatial_scale=0.5, coordinate_transformation_mode="output_half_pixel"),
        "scale 1",
    ),
    "RoI sampling": (
        roi_align(sampling_ratio=2, coordinate_transformation_mode="output_half_pixel"),
        "adaptive",
    ),
    "grid nearest": (grid_sample(mode="nearest", align_corners=1), "only bilinear GridSample"),
    "grid border": (grid_sample(padding_mode="border", align_corners=1), "only bilinear GridSample"),
    "grid corners": (grid_sample(align_corners=0), "align_corners"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str) -> None:
    add, reason = REFUSED[case]
    with pytest.raises(InputError, match=reason) as caught:
        SelectKernels()(model_of(add))
    assert " odd: " in str(caught.value)


@pytest.mark.parametrize(
    ("add", "transposed"),
    [(gemm(transB=1, alpha=2.0), 1), (gemm(transB=1, beta=0.5), 1), (gemm(False), 0)],
    ids=["alpha", "beta", "not transposed"],
)
def test_gemm_refused_by_name(add: Add, transposed: int) -> None:
    model = model_of(add, (1, 8))
    assert g.integer(next(iter(model.graph)), "transB") == transposed
    with pytest.raises(InputError, match="layer odd: only Gemm with transB=1 and alpha=beta=1"):
        SelectKernels()(model)


def test_gemm_is_a_flat_convolution_with_its_bias() -> None:
    model = model_of(gemm(transB=1), (1, 8))
    want = g.array_of(model.graph.initializers["odd.bias"])
    SelectKernels()(model)
    node = kernel(model)
    assert node.op_type == "DenseConv2d"
    assert [g.integer(node, n) for n in ("flat", "kernel", "stride", "padding", "channels")] == [
        1,
        1,
        1,
        0,
        8,
    ]
    operands = g.operands_of(node)
    np.testing.assert_array_equal(g.array_of(operands["bias"]), want)
    np.testing.assert_array_equal(g.array_of(operands["scale"]), np.ones(5))


def test_conv_without_bias_gets_the_neutral_affine() -> None:
    model = model_of(conv(kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))
    SelectKernels()(model)
    node = kernel(model)
    operands = g.operands_of(node)
    np.testing.assert_array_equal(g.array_of(operands["scale"]), np.ones(8))
    np.testing.assert_array_equal(g.array_of(operands["bias"]), np.zeros(8))
    assert [g.integer(node, n) for n in ("flat", "kernel", "stride", "padding", "channels")] == [
        0,
        3,
        2,
        1,
        8,
    ]


@pytest.mark.parametrize(
    ("add", "shape", "kind"),
    [
        (deconv(kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4), (1, 8, 6, 6), "DenseConvTranspose2d"),
        (max_pool(strides=[2, 2], pads=[1] * 4), (1, 8, 6, 6), "MaxPool2d"),
        (roi_align(coordinate_transformation_mode="output_half_pixel"), (1, 8, 6, 6), "RoiAlign"),
        (grid_sample(align_corners=1), (1, 8, 6, 6), "SamplePoints"),
    ],
)
def test_kernel_and_note_of_each_kind(add: Add, shape: tuple[int, ...], kind: str) -> None:
    result = SelectKernels()(model_of(add, shape))
    assert kernel(result.graph).op_type == kind
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("odd", True, f"computed by {kind}")]


def test_other_operations_are_left_alone() -> None:
    model = model_of(lambda b, x: b.add("Sigmoid", [x], "other"))
    result = SelectKernels()(model)
    assert not result.modified
    assert result.notes == ()
    assert [n.op_type for n in model.graph] == ["Sigmoid"]


def binary_linear(b: Builder, x: str, channels: int, out: int) -> str:
    parameters = [
        b.constant("two.threshold", b.normal(channels, std=0.1)),
        b.constant("two.weight", pack_words(b.rng.random((out, channels)) < 0.5)),
        b.constant("two.scale", b.normal(out)),
        b.constant("two.bias", b.normal(out)),
    ]
    return b.add("PackedBinaryLinear", [x, *parameters], "two", "bhpe", channels=channels)


@pytest.mark.parametrize("out", [1, 7, 8, 20])
@pytest.mark.parametrize("flat", [False, True])
def test_any_number_of_outputs_is_one_kernel(out: int, flat: bool) -> None:
    b = Builder(out)
    if flat:
        model = b.build(binary_linear(b, b.input("image", (1, 40)), 40, out))
    else:
        model = b.build(b.binary_conv(b.input("image", (1, 24, 5, 4)), "two", 24, out, 3, 1, 1))
    SelectKernels()(model)
    assert [n.op_type for n in model.graph] == ["BinaryConv2d"]
    assert g.shape_of(g.operands_of(kernel(model))["scale"]) == (out,)


def session_of(model: ir.Model) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 0), (4, 1, 1), (3, 2, 1)])
@pytest.mark.parametrize("binary", [False, True])
def test_other_transposed_convolutions_are_refused(
    kernel: int, stride: int, padding: int, binary: bool
) -> None:
    def add(b: Builder, x: str) -> str:
        facts: dict[str, Any] = {"strides": [stride] * 2, "pads": [padding] * 4}
        if not binary:
            weight = b.constant("odd.weight", half(b.normal(8, 8, kernel, kernel)))
            return b.add("ConvTranspose", [x, weight], "odd", kernel_shape=[kernel] * 2, **facts)
        values = {"threshold": b.normal(8), "weight": pack_words(b.rng.random((8, 8, kernel, kernel)) < 0.5)}
        values |= {"scale": b.normal(8), "bias": b.normal(8)}
        inputs = [x, *(b.constant(f"odd.{role}", array) for role, array in values.items())]
        return b.add("PackedBinaryConvTranspose2d", inputs, "odd", "bhpe", channels=8, **facts)

    with pytest.raises(InputError, match="layer odd"):
        SelectKernels()(model_of(add))


@pytest.mark.parametrize("size", [(3, 1), (1, 3)])
def test_kernels_that_are_not_square_are_refused(size: tuple[int, int]) -> None:
    def add(b: Builder, x: str) -> str:
        return b.add(
            "Conv", [x, b.constant("odd.weight", half(b.normal(8, 8, *size)))], "odd", kernel_shape=size
        )

    with pytest.raises(InputError, match="layer odd"):
        SelectKernels()(model_of(add))

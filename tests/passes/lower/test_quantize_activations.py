"""QuantizeActivations: levels in front of 8-bit convolutions, with the border and the pixels they read."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.channel_last import ChannelLast
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.fuse_epilogue import FuseEpilogue
from bhpe_compile.passes.lower.quantize_activations import QuantizeActivations
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from tests.passes.lower.evaluate import evaluate, reference
from tests.passes.lower.graphs import Builder, kinds, node_of, run, second_run, small_network

BEFORE = (SelectKernels, FuseEpilogue, ChannelLast)
RANGE = (-3.0, 2.0)


def up_conv(b: Builder, x: str, name: str, channels: int, out: int) -> str:
    weight = b.normal(channels, out, 4, 4, std=0.1).astype(np.float16).astype(np.float32)
    facts = {"strides": [2, 2], "pads": [1] * 4, "kernel_shape": [4, 4]}
    return b.add("ConvTranspose", [x, b.constant(f"{name}.weight", weight)], name, **facts)


def eight_bit(model: ir.Model, *layers: str) -> ir.Model:
    QuantizeDense(dict.fromkeys(layers, RANGE))(model)
    return model


def lowered(model: ir.Model) -> ir.Model:
    """All passes before, then this one."""
    return run(model, *(one() for one in BEFORE), QuantizeActivations())


def check_equal(b: Builder, model: ir.Model, shape: tuple[int, ...]) -> None:
    """Whole numbers on both sides, then the same two operations."""
    image = b.normal(*shape)
    expected = reference(model, image)
    for got, want in zip(evaluate(lowered(model), {"image": image}), expected, strict=True):
        np.testing.assert_array_equal(got, want)
    assert second_run(QuantizeActivations(), model) == (False, False)


def quantizers(model: ir.Model) -> dict[str, ir.Node]:
    return {g.text(n, "layer"): n for n in model.graph if g.is_kernel(n, "Quantize")}


def strided() -> tuple[Builder, ir.Model]:
    """A 1x1 and a 3x3 layer of stride 2, a 1x1 layer of stride 3, over 9 x 7 pixels of 6 channels."""
    b = Builder(2)
    x = b.input("image", (1, 6, 9, 7))
    outputs = [
        b.dense_conv(x, "down", 6, 8, 1, 2),
        b.dense_conv(x, "up", 6, 8, 3, 2, 1),
        b.dense_conv(x, "third", 6, 8, 1, 3),
    ]
    return b, eight_bit(b.build(*outputs), "down", "up", "third")


def test_a_kernel_of_its_own_writes_the_levels() -> None:
    _, model = strided()
    run(model, *(one() for one in BEFORE))
    assert kinds(model)["Quantize"] == 0
    result = QuantizeActivations()(model)
    assert result.modified
    words = "its input is quantized by a kernel of its own, every"
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [
        ("down", True, f"{words} 2nd pixel of each row and column"),
        ("up", True, f"{words} pixel"),
        ("third", True, f"{words} 3nd pixel of each row and column"),
    ]
    found = quantizers(model)
    # a strided 1x1 convolution reads every second or third pixel; a 3x3 one all of them and a border; one pixel more,
    # since 6 and 18 values of a kernel row are read in groups of 4
    assert {name: g.shape_of(node.outputs[0]) for name, node in found.items()} == {
        "down": (1, 5, 5, 6),
        "up": (1, 11, 10, 6),
        "third": (1, 3, 4, 6),
    }
    facts = ("stride", "border", "stored_width")
    assert {name: [g.integer(node, word) for word in facts] for name, node in found.items()} == {
        "down": [2, 0, 5],
        "up": [1, 1, 10],
        "third": [3, 0, 4],
    }
    facts = ("stride", "padding", "in_border", "height", "width")
    assert {name: [g.integer(node_of(model, name), word) for word in facts] for name in found} == {
        "down": [1, 0, 0, 5, 4],
        "up": [2, 1, 1, 9, 7],
        "third": [1, 0, 0, 3, 3],
    }
    for name, node in found.items():
        assert g.operand(node_of(model, name), "x") is node.outputs[0]
        assert node.outputs[0].dtype == ir.DataType.UINT8
        assert g.text(node, "layout") == "nhwc"
        assert g.roles(node) == ("x", "quantization")
        assert "quantization" not in g.roles(node_of(model, name))
        describe(node)
        describe(node_of(model, name))


def test_strides_are_equivalent() -> None:
    b, model = strided()
    check_equal(b, model, (1, 6, 9, 7))


def test_float_layers_are_left_alone() -> None:
    model = run(small_network(), *(one() for one in BEFORE))
    result = QuantizeActivations()(model)
    assert (result.notes, result.modified) == ((), False)


def test_a_padded_1x1_convolution_keeps_its_stride() -> None:
    """Its border takes part in what every second pixel is."""
    b = Builder(4)
    x = b.input("image", (1, 4, 5, 6))
    model = eight_bit(b.build(b.dense_conv(x, "wide", 4, 8, 1, 2, 1)), "wide")
    check_equal(b, model, (1, 4, 5, 6))
    assert g.integer(quantizers(model)["wide"], "stride") == 1
    assert [g.integer(node_of(model, "wide"), word) for word in ("stride", "in_border")] == [2, 1]


@pytest.mark.parametrize(("size", "stored"), [((1, 1), 3), ((5, 4), 6), ((2, 7), 9)])
def test_transposed_convolutions_read_a_border_of_one(size: tuple[int, int], stored: int) -> None:
    b = Builder(5)
    x = b.input("image", (1, 6, *size))
    model = eight_bit(b.build(up_conv(b, x, "up", 6, 8)), "up")
    check_equal(b, model, (1, 6, *size))
    node = quantizers(model)["up"]
    assert (g.integer(node, "stride"), g.integer(node, "border")) == (1, 1)
    assert g.shape_of(node.outputs[0]) == (1, size[0] + 2, stored, 6)


def test_each_layer_has_its_own_levels() -> None:
    """Two layers that read the same value in different ranges."""
    b = Builder(6)
    x = b.input("image", (1, 4, 4, 5))
    model = b.build(b.dense_conv(x, "one", 4, 8), b.dense_conv(x, "two", 4, 8))
    QuantizeDense({"one": (-1.0, 1.0), "two": (0.0, 3.0)})(model)
    check_equal(b, model, (1, 4, 4, 5))
    assert set(quantizers(model)) == {"one", "two"}


@settings(max_examples=25)
@given(
    channels=st.integers(1, 9),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    kernel=st.sampled_from([1, 3, "up"]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
def test_equivalence_and_second_run(
    channels: int, size: tuple[int, int], kernel: int | str, stride: int, padding: int, seed: int
) -> None:
    b = Builder(seed)
    shape = (1, channels, *size)
    x = b.input("image", shape)
    if isinstance(kernel, str):
        y = up_conv(b, x, "layer", channels, 5)
    else:
        padding = max(padding, 1) if kernel == 3 else padding
        y = b.dense_conv(x, "layer", channels, 5, kernel, stride, padding)
    check_equal(b, eight_bit(b.build(y), "layer"), shape)

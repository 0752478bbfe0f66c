"""What is read off a kernel node: sizes, epilogue, tile; and what a refusal says."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest

from bhpe_compile import kernels as k
from bhpe_compile.errors import BhpeError
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.targets.tile import Tile

HALF, FLOAT, BYTE = ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.UINT8


def value(*shape: int, dtype: ir.DataType = FLOAT) -> ir.Value:
    return g.new_value("v", shape, dtype)


def vector(channels: int) -> ir.Value:
    return value(channels)


def node(kind: str, operands: dict[str, ir.Value], results: dict[str, ir.Value], **facts: Any) -> ir.Node:
    fresh = {name: value(*g.shape_of(one), dtype=one.dtype or FLOAT) for name, one in results.items()}
    return g.kernel_node(kind, "layer.name", operands, fresh, facts)


CONV = {"kernel": 3, "stride": 2, "padding": 1, "channels": 20}
MAP = {"out": value(2, 3, 4, 24)}
AFFINE = {"weight": value(24, 1, 3, 3), "scale": vector(24), "bias": vector(24)}


def test_binary_convolution() -> None:
    """Sizes are those of the map inside the border of its bits."""
    found = describe(
        node("BinaryConv2d", {"x": value(2, 9, 11, 4, dtype=BYTE), **AFFINE}, MAP, in_border=2, **CONV)
    )
    assert found == k.BinaryConv2d(2, 5, 7, 20, 24, 3, 2, 1, 2, k.Epilogue())


def test_binary_transposed_convolution() -> None:
    found = describe(
        node(
            "BinaryConvTranspose2d",
            {"x": value(2, 5, 6, 4, dtype=BYTE), **AFFINE},
            MAP,
            in_border=1,
            channels=20,
        )
    )
    assert found == k.BinaryConvTranspose2d(2, 3, 4, 20, 24, 1, k.Epilogue())


@pytest.mark.parametrize(("dtype", "word"), [(ir.DataType.INT8, "int8"), (FLOAT, "float16")])
def test_dense_convolution(dtype: ir.DataType, word: Any) -> None:
    """Weights are held in float16, or in the levels they are given as."""
    operands = {"x": value(2, 5, 7, 20), **AFFINE, "weight": value(24, 20, 3, 3, dtype=dtype)}
    found = describe(node("DenseConv2d", operands, MAP, **CONV))
    assert found == k.DenseConv2d(2, 5, 7, 20, 24, 3, 2, 1, k.Epilogue(), word)


def test_dense_transposed_convolution() -> None:
    found = describe(node("DenseConvTranspose2d", {"x": value(1, 5, 7, 20), **AFFINE}, MAP, channels=20))
    assert found == k.DenseConvTranspose2d(1, 5, 7, 20, 24, k.Epilogue())


def test_8_bit_convolutions() -> None:
    """Rows of levels are longer than the map: its sizes are attributes."""
    operands = {"x": value(2, 7, 12, 20, dtype=BYTE), **AFFINE}
    facts = {"height": 5, "width": 7, "in_border": 1}
    found = describe(node("Int8Conv2d", operands, MAP, **CONV, **facts))
    assert found == k.Int8Conv2d(2, 5, 7, 20, 24, 3, 2, 1, 1, k.Epilogue(), row_pixels=12)
    found = describe(node("Int8ConvTranspose2d", operands, MAP, channels=20, **facts))
    assert found == k.Int8ConvTranspose2d(2, 5, 7, 20, 24, 1, k.Epilogue())


def test_pooling() -> None:
    facts = {"kernel": 3, "stride": 2, "padding": 1}
    found = describe(node("MaxPool2d", {"x": value(1, 5, 7, 24)}, MAP, **facts))
    assert found == k.MaxPool2d(1, 5, 7, 24, 3, 2, 1)
    results = {"bits": value(1, 5, 6, 4, dtype=BYTE)}
    found = describe(
        node("MaxPool2d", {"x": value(1, 5, 7, 24, dtype=HALF)}, results, bits_border=1, **facts)
    )
    assert found == k.MaxPool2d(1, 5, 7, 24, 3, 2, 1, False, True, 1, "float16")
    found = describe(
        node("MaxPool2d", {"x": value(1, 5, 7, 24)}, {"out": value(1, 3, 4, 24, dtype=HALF)}, **facts)
    )
    assert found == k.MaxPool2d(1, 5, 7, 24, 3, 2, 1, out_dtype="float16")


@pytest.mark.parametrize(("dtype", "word"), [(HALF, "float16"), (FLOAT, "float32")])
def test_quantize(dtype: ir.DataType, word: Any) -> None:
    facts = {"stride": 2, "border": 1, "stored_width": 9}
    found = describe(node("Quantize", {"x": value(1, 5, 7, 6, dtype=dtype)}, MAP, **facts))
    assert found == k.Quantize(1, 5, 7, 6, 2, 1, 9, word)


def test_the_others() -> None:
    assert describe(node("PackBits", {"x": value(2, 5, 7, 6)}, MAP, border=3)) == k.PackBits(2, 5, 7, 6, 3)
    operands = {"x": value(2, 5, 7, 6), "boxes": value(2, 4)}
    found = describe(node("Crop", operands, MAP, out_height=3, out_width=8))
    assert found == k.Crop(2, 5, 7, 6, 3, 8)
    found = describe(node("SamplePoints", {"x": value(2, 5, 7, 6), "points": value(2, 11, 2)}, MAP))
    assert found == k.SamplePoints(2, 5, 7, 6, 11)
    assert describe(node("HeatMap", {"x": value(2, 5, 7, 6)}, MAP, depth=3)) == k.HeatMap(2, 5, 7, 6, 3)
    found = describe(node("SoftArgmax", {"x": value(2, 5, 7, 6)}, MAP, depth=3, axes=2))
    assert found == k.SoftArgmax(2, 5, 7, 6, 3, 2)
    assert describe(node("CellMean", {"x": value(2, 5, 7, 6)}, MAP)) == k.CellMean(2, 5, 7, 6)
    assert describe(node("Logistic", {"x": value(2, 5)}, MAP)) == k.Logistic((2, 5))
    assert describe(node("RotationVector", {"x": value(9, 6)}, MAP)) == k.RotationVector(9)
    assert describe(node("FixedPointSplit", {"x": value(2, 9)}, MAP)) == k.FixedPointSplit(2, 9)
    operands = {"x": value(2, 3, 9, dtype=BYTE), "weight": value(5, 9)}
    assert describe(node("FixedPointLinear", operands, MAP)) == k.FixedPointLinear(2, 9, 5)
    found = describe(node("TransposeChannels", {"x": value(2, 5, 7, 6)}, MAP, to_last=1))
    assert found == k.TransposeChannels(batch=2, channels=5, height=7, width=6, to_last=True)
    found = describe(node("TransposeChannels", {"x": value(2, 5, 7, 6)}, MAP, to_last=0))
    assert found == k.TransposeChannels(batch=2, channels=6, height=5, width=7, to_last=False)
    for word in ("float16", "float32"):
        assert describe(node("ConvertFloats", {"x": value(3, 4)}, MAP, dtype=word)) == k.ConvertFloats(
            (3, 4), word
        )


@pytest.mark.parametrize(("out", "flat"), [(value(2, 6), True), (value(2, 1, 1, 6), False)])
def test_means_of_maps_are_vectors_or_maps_of_one_cell(out: ir.Value, flat: bool) -> None:
    found = describe(node("MapMean", {"x": value(2, 5, 7, 6)}, {"out": out}))
    assert found == k.MapMean(2, 5, 7, 6, flat=flat)


def test_joined_channels() -> None:
    found = describe(node("JoinChannels", {"x0": value(2, 5, 7, 6), "x1": value(2, 5, 7, 9)}, MAP))
    assert found == k.JoinChannels(70, (6, 9), (2, 5, 7))


def epilogue(operands: dict[str, ir.Value], results: dict[str, ir.Value] = MAP, **facts: Any) -> k.Epilogue:
    made = describe(
        node("DenseConv2d", {"x": value(2, 5, 7, 20), **AFFINE, **operands}, results, **CONV, **facts)
    )
    assert isinstance(made, k.DenseConv2d)
    return made.epilogue


def test_epilogues() -> None:
    assert epilogue({}, activation="relu") == k.Epilogue(activation="relu")
    source = value(2, 6, 8, 8)
    facts = {"residual_kind": "repeat", "residual_pool": 1, "residual_clip": 0}
    assert epilogue({"residual": source}, **facts) == k.Epilogue(k.Residual("repeat", 8, pool=True))
    half = value(2, 3, 4, 48, dtype=HALF)
    facts = {"residual_kind": "group_mean", "residual_pool": 0, "residual_clip": 1}
    expected = k.Epilogue(k.Residual("group_mean", 48, clip=True, dtype="float16"))
    assert epilogue({"residual": half}, **facts) == expected
    assert epilogue({"shortcut": value(2, 3, 4, 24)}) == k.Epilogue(shortcut=True)
    half = value(2, 3, 4, 24, dtype=HALF)
    assert epilogue({"shortcut": half}) == k.Epilogue(shortcut=True, shortcut_dtype="float16")
    assert epilogue({}, {"out": half}) == k.Epilogue(out_dtype="float16")
    bits = value(2, 7, 8, 4, dtype=BYTE)
    expected = k.Epilogue(store=False, bits=True, bits_border=2)
    assert epilogue({"threshold": vector(24)}, {"bits": bits}, bits_border=2) == expected
    expected = k.Epilogue(bits=True, bits_at_zero=True)
    assert epilogue({}, {**MAP, "bits": bits}) == expected


@pytest.mark.parametrize(
    ("facts", "tile"),
    [
        ({}, None),
        ({"tile_pixels": 3, "tile_vectors": 2}, Tile(3, 2)),
        ({"tile_pixels": 3, "tile_vectors": 2, "tile_channels_outside": 0}, Tile(3, 2, False)),
        ({"tile_pixels": 3, "tile_vectors": 2, "tile_channels_outside": 1}, Tile(3, 2, True)),
    ],
)
def test_tiles(facts: dict[str, int], tile: Tile | None) -> None:
    """Of every kind that has any."""
    bits = {"x": value(2, 9, 11, 4, dtype=BYTE), **AFFINE}
    for kind, operands in (
        ("BinaryConv2d", bits),
        ("BinaryConvTranspose2d", bits),
        ("DenseConv2d", {"x": value(2, 5, 7, 20), **AFFINE}),
        ("DenseConvTranspose2d", {"x": value(2, 5, 7, 20), **AFFINE}),
    ):
        border = {"in_border": 2} if kind.startswith("Binary") else {}
        found: Any = describe(node(kind, operands, MAP, **CONV, **border, **facts))
        assert found.tile == tile


def test_what_a_kernel_refuses_names_the_layer() -> None:
    refused = node(
        "MaxPool2d", {"x": value(1, 5, 7, 20)}, {"bits": value(1, 1)}, kernel=2, stride=2, padding=0
    )
    with pytest.raises(
        BhpeError, match=r"^layer layer\.name: packed output needs a multiple of 8 channels, not 20$"
    ):
        describe(refused)

"""Kernel node -> kernel description: geometry and epilogue read off the node's values and attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import onnx_ir as ir

from bhpe_compile import kernels as k
from bhpe_compile.errors import BhpeError
from bhpe_compile.kernels.kernel import Kernel
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.targets.tile import Tile

ARRAY_ROLES = (
    *("weight", "scale", "bias", "beta", "zeta", "threshold", "zero", "quantization"),
    *("limits", "table", "grid", "requantization"),
)
"""Operands that are constants, laid out for the target at compile time."""


def _epilogue(node: ir.Node) -> k.Epilogue:
    operands = g.operands_of(node)
    residual = None
    if "residual" in operands:
        residual = k.Residual(
            kind=_choice(g.text(node, "residual_kind")),
            channels=g.shape_of(operands["residual"])[3],
            pool=bool(g.integer(node, "residual_pool")),
            clip=bool(g.integer(node, "residual_clip")),
            dtype=_storage(operands["residual"]),
        )
    levels = None
    if g.result(node, "levels") is not None:
        levels = k.Levels(
            g.integer(node, "levels_border"),
            g.integer(node, "levels_width"),
            bool(g.integer(node, "levels_divide")),
            bool(g.integer(node, "levels_of_table")),
            bool(g.integer(node, "levels_fit")),
        )
    return k.Epilogue(
        residual=residual,
        activation=_choice(g.text(node, "activation", "none")),
        shortcut="shortcut" in operands,
        store=g.result(node, "out") is not None,
        bits=g.result(node, "bits") is not None,
        bits_border=g.integer(node, "bits_border"),
        out_dtype=_storage(g.result(node, "out")),
        shortcut_dtype=_storage(operands.get("shortcut")),
        bits_at_zero=g.result(node, "bits") is not None and "threshold" not in operands,
        levels=levels,
    )


def _storage(value: ir.Value | None) -> Literal["float32", "float16"]:
    return "float16" if value is not None and value.dtype == ir.DataType.FLOAT16 else "float32"


def _choice(word: str) -> Any:
    """A word the kernel's own check accepts or refuses."""
    return word


def extents(node: ir.Node, name: str, default: int = 0) -> Any:
    """An attribute that is a number for every axis or side, or a list of them."""
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    return attribute.as_int() if attribute.type == ir.AttributeType.INT else tuple(attribute.as_ints())


def _window(node: ir.Node) -> dict[str, Any]:
    return {name: extents(node, name) for name in ("kernel", "stride", "padding")}


def _out_channels(node: ir.Node) -> int:
    return g.shape_of(g.operands_of(node)["scale"])[0]


def _conv_sizes(node: ir.Node) -> dict[str, Any]:
    border = g.integer(node, "in_border")
    batch, height, width = g.shape_of(g.operands_of(node)["x"])[:3]
    return {
        "batch": batch,
        "height": height - 2 * border,
        "width": width - 2 * border,
        "in_channels": g.integer(node, "channels"),
        "out_channels": _out_channels(node),
    }


def _tile(node: ir.Node) -> Tile | None:
    """What choose-tiles wrote."""
    if "tile_pixels" not in node.attributes:
        return None
    outside = g.integer(node, "tile_channels_outside", -1)
    return Tile(
        g.integer(node, "tile_pixels"),
        g.integer(node, "tile_vectors"),
        None if outside < 0 else bool(outside),
    )


def _binary_conv(node: ir.Node) -> Kernel:
    return k.BinaryConv2d(
        **_conv_sizes(node),
        **_window(node),
        in_border=g.integer(node, "in_border"),
        epilogue=_epilogue(node),
        tile=_tile(node),
    )


def _binary_deconv(node: ir.Node) -> Kernel:
    return k.BinaryConvTranspose2d(
        **_conv_sizes(node),
        in_border=g.integer(node, "in_border"),
        epilogue=_epilogue(node),
        tile=_tile(node),
    )


def _dense_conv(node: ir.Node) -> Kernel:
    weight = g.operands_of(node)["weight"]
    return k.DenseConv2d(
        **_conv_sizes(node),
        weight_dtype=_choice(
            "int8" if weight.dtype == ir.DataType.INT8 else g.text(node, "weights", "float16")
        ),
        **_window(node),
        dilation=extents(node, "dilation", 1),
        epilogue=_epilogue(node),
        tile=_tile(node),
    )


def _depthwise(node: ir.Node) -> Kernel:
    return k.DepthwiseConv2d(
        **_conv_sizes(node), **_window(node), dilation=extents(node, "dilation", 1), epilogue=_epilogue(node)
    )


def _dense_deconv(node: ir.Node) -> Kernel:
    return k.DenseConvTranspose2d(**_conv_sizes(node), epilogue=_epilogue(node), tile=_tile(node))


def _max_pool(node: ir.Node) -> Kernel:
    batch, height, width, channels = g.shape_of(g.operands_of(node)["x"])
    return k.MaxPool2d(
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        **_window(node),
        store=g.result(node, "out") is not None,
        bits=g.result(node, "bits") is not None,
        bits_border=g.integer(node, "bits_border"),
        dtype=_storage(g.operands_of(node)["x"]),
        out_dtype=_storage(g.result(node, "out")),
    )


def _int8_sizes(node: ir.Node) -> dict[str, Any]:
    return {
        "batch": g.shape_of(g.operands_of(node)["x"])[0],
        "height": g.integer(node, "height"),
        "width": g.integer(node, "width"),
        "in_channels": g.integer(node, "channels"),
        "out_channels": _out_channels(node),
        "in_border": g.integer(node, "in_border"),
        "epilogue": _epilogue(node),
    }


def _int8_conv(node: ir.Node) -> Kernel:
    return k.Int8Conv2d(
        **_int8_sizes(node),
        **_window(node),
        row_pixels=g.shape_of(g.operands_of(node)["x"])[2],
    )


def _int8_depthwise(node: ir.Node) -> Kernel:
    stored = g.shape_of(g.operands_of(node)["x"])[2]
    return k.Int8DepthwiseConv2d(**_int8_sizes(node), **_window(node), stored_width=stored)


def _int8_deconv(node: ir.Node) -> Kernel:
    return k.Int8ConvTranspose2d(**_int8_sizes(node))


def _quantize(node: ir.Node) -> Kernel:
    x, first = g.operands_of(node)["x"], bool(g.integer(node, "channels_first"))
    batch, *sizes = g.shape_of(x)
    channels, height, width = sizes if first else (sizes[2], *sizes[:2])
    return k.Quantize(
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        stride=g.integer(node, "stride"),
        border=g.integer(node, "border"),
        stored_width=g.integer(node, "stored_width"),
        dtype=_storage(x),
        divides=_divides(node),
        channels_first=first,
    )


def _divides(node: ir.Node) -> bool:
    """Whether a Quantize kernel counts in other steps than 1."""
    array = g.array_of(g.operand(node, "quantization"))
    return array is None or bool(array[0] != 1)


def _pack_bits(node: ir.Node) -> Kernel:
    batch, height, width, channels = g.shape_of(g.operands_of(node)["x"])
    border = g.integer(node, "border")
    return k.PackBits(batch=batch, height=height, width=width, channels=channels, border=border)


def _map_sizes(node: ir.Node) -> dict[str, int]:
    sizes = g.shape_of(g.operands_of(node)["x"])
    return dict(zip(("batch", "height", "width", "channels"), sizes, strict=True))


def _cell_mean(node: ir.Node) -> Kernel:
    return k.CellMean(**_map_sizes(node))


def _map_mean(node: ir.Node) -> Kernel:
    return k.MapMean(**_map_sizes(node), flat=len(g.shape_of(node.outputs[0])) == 2)


def _join_channels(node: ir.Node) -> Kernel:
    values = [g.operands_of(node)[role] for role in g.roles(node)]
    batch, height, width, _ = g.shape_of(values[0])
    return k.JoinChannels(
        batch * height * width, tuple(g.shape_of(value)[3] for value in values), (batch, height, width)
    )


def _logistic(node: ir.Node) -> Kernel:
    return k.Logistic(g.shape_of(g.operands_of(node)["x"]))


def _rotation_vector(node: ir.Node) -> Kernel:
    return k.RotationVector(g.shape_of(g.operands_of(node)["x"])[0])


def _crop(node: ir.Node) -> Kernel:
    size = {name: g.integer(node, name) for name in ("out_height", "out_width")}
    return k.Crop(**_map_sizes(node), **size)


def _fixed_point_split(node: ir.Node) -> Kernel:
    return k.FixedPointSplit(*g.shape_of(g.operands_of(node)["x"]))


def _fixed_point_linear(node: ir.Node) -> Kernel:
    operands = g.operands_of(node)
    out_features, features = g.shape_of(operands["weight"])
    return k.FixedPointLinear(g.shape_of(operands["x"])[0], features, out_features)


def _heat_map(node: ir.Node) -> Kernel:
    return k.HeatMap(**_map_sizes(node), depth=g.integer(node, "depth"))


def _sample_points(node: ir.Node) -> Kernel:
    return k.SamplePoints(**_map_sizes(node), count=g.shape_of(g.operands_of(node)["points"])[1])


def _soft_argmax(node: ir.Node) -> Kernel:
    return k.SoftArgmax(**_map_sizes(node), depth=g.integer(node, "depth"), axes=g.integer(node, "axes"))


def _transpose(node: ir.Node) -> Kernel:
    to_last = bool(g.integer(node, "to_last"))
    batch, *sizes = g.shape_of(g.operands_of(node)["x"])
    channels, height, width = sizes if to_last else (sizes[2], sizes[0], sizes[1])
    return k.TransposeChannels(batch=batch, channels=channels, height=height, width=width, to_last=to_last)


def _convert(node: ir.Node) -> Kernel:
    shape = g.shape_of(g.operands_of(node)["x"])
    return k.ConvertFloats(
        shape=tuple(shape), dtype="float16" if g.text(node, "dtype") == "float16" else "float32"
    )


DESCRIBERS: dict[str, Callable[[ir.Node], Kernel]] = {
    "BinaryConv2d": _binary_conv,
    "BinaryConvTranspose2d": _binary_deconv,
    "CellMean": _cell_mean,
    "ConvertFloats": _convert,
    "Crop": _crop,
    "DenseConv2d": _dense_conv,
    "DenseConvTranspose2d": _dense_deconv,
    "DepthwiseConv2d": _depthwise,
    "FixedPointLinear": _fixed_point_linear,
    "FixedPointSplit": _fixed_point_split,
    "HeatMap": _heat_map,
    "Int8Conv2d": _int8_conv,
    "Int8ConvTranspose2d": _int8_deconv,
    "Int8DepthwiseConv2d": _int8_depthwise,
    "JoinChannels": _join_channels,
    "Logistic": _logistic,
    "MapMean": _map_mean,
    "MaxPool2d": _max_pool,
    "PackBits": _pack_bits,
    "Quantize": _quantize,
    "RotationVector": _rotation_vector,
    "SamplePoints": _sample_points,
    "SoftArgmax": _soft_argmax,
    "TransposeChannels": _transpose,
}


def describe(node: ir.Node) -> Kernel:
    """The description of a kernel node; a geometry the kernel refuses names the layer."""
    try:
        return DESCRIBERS[node.op_type](node)
    except ValueError as error:
        raise BhpeError(f"layer {g.text(node, 'layer')}: {error}") from error

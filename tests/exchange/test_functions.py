"""The bodies, executed by ONNX Runtime, against NumPy: sums of +-1 and their affine are equal bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bhpe_compile.exchange.functions import BINARY, DOMAIN, OPERATORS, PACKED, attach_bodies, function
from bhpe_compile.passes.fold.pack_weights import pack_words

Array = NDArray[Any]
FEW = settings(max_examples=25)


def execute(op: str, inputs: dict[str, Array], **attributes: Any) -> Array:
    """One node of `op` with its body, run by ONNX Runtime; every input is fed at run time."""
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.uint32): TensorProto.UINT32}
    infos = [helper.make_tensor_value_info(k, kinds[v.dtype], v.shape) for k, v in inputs.items()]
    node = helper.make_node(op, list(inputs), ["y"], domain=DOMAIN, **attributes)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, list("NCHW"[: inputs["x"].ndim]))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model = ir.from_proto(
        helper.make_model(helper.make_graph([node], "one", infos, [out]), opset_imports=opsets)
    )
    model.ir_version = 10
    attach_bodies(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Array = session.run(None, inputs)[0]
    return result


def signs(x: Array, threshold: Array | float) -> NDArray[np.int64]:
    return np.where(x >= threshold, 1, -1)


def column(values: Array, rank: int) -> Array:
    return values.reshape(-1, *[1] * (rank - 2))


def convolve(x: NDArray[np.int64], w: NDArray[np.int64], stride: int, pads: list[int]) -> NDArray[np.int64]:
    """x [N,C,H,W], w [O,C,kh,kw] -> integers; padded with zeros after the sign."""
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    dot: NDArray[np.int64] = np.einsum("nchwij,ocij->nohw", windows, w)
    return dot


def scatter(x: NDArray[np.int64], w: NDArray[np.int64], stride: int, padding: int) -> NDArray[np.int64]:
    """Transposed convolution by its definition: every input adds its kernel to the output. w [C,O,kh,kw]."""
    n, _, height, width = x.shape
    _, out, kh, kw = w.shape
    total = np.zeros((n, out, (height - 1) * stride + kh, (width - 1) * stride + kw), np.int64)
    for i in range(height):
        for j in range(width):
            part = np.einsum("nc,coij->noij", x[:, :, i, j], w)
            total[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw] += part
    return total[:, :, padding : total.shape[2] - padding, padding : total.shape[3] - padding]


def affine(dot: NDArray[np.int64], inputs: dict[str, Array]) -> Array:
    """One float32 multiplication, one float32 addition, as the body does."""
    scale, bias = column(inputs["scale"], dot.ndim), column(inputs["bias"], dot.ndim)
    result: Array = dot.astype(np.float32) * scale + bias
    return result


def draw_inputs(
    rng: np.random.Generator, x_shape: tuple[int, ...], weight_shape: tuple[int, ...], out: int
) -> dict[str, Array]:
    """Inputs in contract order. A third of x sits exactly on its threshold, some weights are 0 and -0."""
    x = rng.standard_normal(x_shape).astype(np.float32)
    threshold = rng.standard_normal(x_shape[1]).astype(np.float32)
    on = rng.random(x_shape) < 1 / 3
    x = np.where(on, np.broadcast_to(column(threshold, x.ndim), x_shape), x)
    weight = rng.standard_normal(weight_shape).astype(np.float32)
    weight[rng.random(weight_shape) < 0.1] = 0.0
    weight[rng.random(weight_shape) < 0.1] = -0.0
    scale, bias = (rng.standard_normal(out).astype(np.float32) for _ in range(2))
    return {"x": x, "threshold": threshold, "weight": weight, "scale": scale, "bias": bias}


geometry = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "batch": st.integers(1, 2),
        "channels": st.integers(1, 70),
        "out": st.integers(1, 9),
        "size": st.tuples(st.integers(4, 7), st.integers(4, 7)),
        "kernel": st.integers(1, 4),
        "stride": st.integers(1, 2),
    }
)


@FEW
@given(geometry, st.tuples(*[st.integers(0, 2)] * 4), st.booleans())
def test_binary_conv(g: dict[str, Any], pads: tuple[int, ...], packed: bool) -> None:
    rng = np.random.default_rng(g["seed"])
    weight_shape = (g["out"], g["channels"], g["kernel"], g["kernel"])
    inputs = draw_inputs(rng, (g["batch"], g["channels"], *g["size"]), weight_shape, g["out"])
    dot = convolve(
        signs(inputs["x"], column(inputs["threshold"], 4)),
        signs(inputs["weight"], 0),
        g["stride"],
        list(pads),
    )
    want = affine(dot, inputs)
    attributes: dict[str, Any] = {"strides": [g["stride"]] * 2, "pads": list(pads)}
    if packed:
        inputs["weight"] = pack_words(inputs["weight"] >= 0)
        attributes["channels"] = g["channels"]
    got = execute("PackedBinaryConv2d" if packed else "BinaryConv2d", inputs, **attributes)
    np.testing.assert_array_equal(got, want)


@FEW
@given(geometry, st.integers(0, 3), st.booleans())
def test_binary_conv_transpose(g: dict[str, Any], padding: int, packed: bool) -> None:
    rng = np.random.default_rng(g["seed"])
    padding = min(padding, g["kernel"] - 1)
    kernel = max(g["kernel"], g["stride"])
    weight_shape = (g["channels"], g["out"], kernel, kernel)
    inputs = draw_inputs(rng, (g["batch"], g["channels"], *g["size"]), weight_shape, g["out"])
    dot = scatter(
        signs(inputs["x"], column(inputs["threshold"], 4)), signs(inputs["weight"], 0), g["stride"], padding
    )
    want = affine(dot, inputs)
    attributes: dict[str, Any] = {"strides": [g["stride"]] * 2, "pads": [padding] * 4}
    if packed:
        inputs["weight"] = pack_words(inputs["weight"].swapaxes(0, 1) >= 0)
        attributes["channels"] = g["channels"]
    name = "PackedBinaryConvTranspose2d" if packed else "BinaryConvTranspose2d"
    np.testing.assert_array_equal(execute(name, inputs, **attributes), want)


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 100), st.integers(1, 9), st.booleans())
def test_binary_linear(seed: int, batch: int, features: int, out: int, packed: bool) -> None:
    inputs = draw_inputs(np.random.default_rng(seed), (batch, features), (out, features), out)
    want = affine(signs(inputs["x"], inputs["threshold"]) @ signs(inputs["weight"], 0).T, inputs)
    want = want.astype(np.float32)
    attributes = {}
    if packed:
        inputs["weight"] = pack_words(inputs["weight"] >= 0)
        attributes["channels"] = features
    got = execute("PackedBinaryLinear" if packed else "BinaryLinear", inputs, **attributes)
    np.testing.assert_array_equal(got, want)


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.sampled_from([2, 4]))
def test_rprelu(seed: int, channels: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    tail = (1,) * (rank - 2)
    gamma, beta, zeta = (rng.standard_normal((channels, *tail)).astype(np.float32) for _ in range(3))
    x = rng.standard_normal((2, channels, *(3,) * (rank - 2))).astype(np.float32)
    x = np.where(rng.random(x.shape) < 1 / 3, np.broadcast_to(gamma, x.shape), x)
    want = np.where(x > gamma, x - gamma, beta * (x - gamma)) + zeta
    got = execute("RPReLU", {"x": x, "gamma": gamma, "beta": beta, "zeta": zeta})
    np.testing.assert_array_equal(got, want)


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.sampled_from([2, 4]))
def test_channel_affine(seed: int, channels: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    scale, bias = (rng.standard_normal((channels, *(1,) * (rank - 2))).astype(np.float32) for _ in range(2))
    x = rng.standard_normal((2, channels, *(3,) * (rank - 2))).astype(np.float32)
    got = execute("ChannelAffine", {"x": x, "scale": scale, "bias": bias})
    np.testing.assert_array_equal(got, x * scale + bias)


def test_integers_beyond_float32_sums_of_products_stay_exact() -> None:
    """A padded corner of a wide layer: fewer taps than the middle, each counted exactly."""
    x = np.ones((1, 2048, 3, 3), np.float32)
    ones = np.ones(1, np.float32)
    inputs = {
        "x": x,
        "threshold": np.zeros(2048, np.float32),
        "weight": np.ones((1, 2048, 3, 3), np.float32),
        "scale": ones,
        "bias": 0 * ones,
    }
    got = execute("BinaryConv2d", inputs, strides=[1, 1], pads=[1, 1, 1, 1])
    assert got[0, 0].tolist() == [[8192, 12288, 8192], [12288, 18432, 12288], [8192, 12288, 8192]]


def test_bodies_follow_the_operators_in_use() -> None:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 2]))
    node = ir.Node(DOMAIN, "ChannelAffine", [x, x, x], name="affine")
    model = ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 18}), ir_version=10)
    attach_bodies(model)
    assert [key[:2] for key in model.functions] == [(DOMAIN, "ChannelAffine")]
    node.op_type = "RPReLU"
    attach_bodies(model)
    assert [key[:2] for key in model.functions] == [(DOMAIN, "RPReLU")]
    assert model.opset_imports[DOMAIN] == 1


def test_a_body_that_is_there_stays_or_is_made_anew() -> None:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 2]))
    nodes = [ir.Node(DOMAIN, kind, [x, x, x], name=kind) for kind in ("RPReLU", "ChannelAffine")]
    model = ir.Model(ir.Graph([x], nodes[0].outputs, nodes=nodes[:1], opset_imports={"": 18}), ir_version=10)
    attach_bodies(model)
    (first,) = model.functions.values()
    model.graph.append(nodes[1])
    attach_bodies(model)
    affine, again = model.functions.values()  # in the order of their names, whichever was there first
    assert (affine.name, again) == ("ChannelAffine", first)
    attach_bodies(model, anew=True)
    assert {affine, again}.isdisjoint(model.functions.values())


def test_every_binary_layer_has_a_packed_form() -> None:
    assert {*BINARY, *PACKED} == {name for name in OPERATORS if "Binary" in name}
    assert tuple(f"Packed{name}" for name in BINARY) == PACKED


@pytest.mark.parametrize("name", OPERATORS)
def test_no_operator_takes_the_name_of_a_standard_one(name: str) -> None:
    """Importers that ignore domains must not mistake one for the other."""
    assert not onnx.defs.has(name)


def test_integer_products_have_unsigned_weights() -> None:
    """With int8 weights ONNX Runtime saturates on AVX2 without VNNI: they are uint8 about 128."""
    nodes = [node for node in function("FixedPointLinear").graph if node.op_type == "MatMulInteger"]
    assert nodes
    for node in nodes:
        weight, zero = node.inputs[1], node.inputs[3]
        assert weight is not None
        assert zero is not None
        cast = weight.producer()
        while cast is not None and cast.op_type != "Cast":
            before = cast.inputs[0]
            cast = before.producer() if before is not None else None
        assert cast is not None
        assert cast.attributes["to"].as_int() == ir.DataType.UINT8
        point = zero.producer()
        assert point is not None
        assert point.attributes["value"].as_tensor().numpy() == 128

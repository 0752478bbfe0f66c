"""The report of a compiled model, counted by hand on small graphs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from bhpe_compile.artifact.program import Port, Program, Step, TensorSlot
from bhpe_compile.passes.base import Note
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.fold.quantize_linear import QuantizeLinear
from bhpe_compile.report.compiled import compile_report, layer_costs
from bhpe_compile.report.cost import BINARY, CONVOLUTION, FLOAT16, LINEAR, TRANSPOSED, Layer
from bhpe_compile.report.places import NOWHERE
from tests.passes.lower.graphs import Builder, pack_words

OUT = 8


def exact(weights: np.ndarray) -> np.ndarray:
    """Float16 numbers, as weights of checkpoints are."""
    return weights.astype(np.float16).astype(np.float32)


def network() -> ir.Model:
    """One layer of every kind; the image is [2, 24, 6, 4]: two hands."""
    b = Builder()
    x = b.input("image", (2, 24, 6, 4))
    outputs = [
        b.binary_conv(x, "conv", 24, OUT, 3, 2, 1),
        b.dense_conv(x, "dense", 24, OUT, 3, 2, 1),
    ]
    for name, op, domain in (("deconv", "ConvTranspose", ""), ("up", "PackedBinaryConvTranspose2d", "bhpe")):
        facts = {"strides": [2, 2], "pads": [1] * 4}
        if domain:
            words = pack_words(b.rng.random((OUT, 24, 4, 4)) < 0.5)
            weights = [b.constant("up.threshold", b.normal(24)), b.constant("up.weight", words)]
            weights += [b.constant(f"up.{role}", b.normal(OUT)) for role in ("scale", "bias")]
            outputs.append(b.add(op, [x, *weights], name, domain, channels=24, **facts))
        else:
            weight = b.constant("deconv.weight", exact(b.normal(24, OUT, 4, 4)))
            outputs.append(b.add(op, [x, weight], name, kernel_shape=[4, 4], **facts))
    flat = b.add("Reshape", [x, b.constant("flat.shape", np.array([2, 576]))], "flat")
    gemm = [b.constant("gemm.weight", exact(b.normal(5, 576))), b.constant("gemm.bias", b.normal(5))]
    outputs.append(b.add("Gemm", [flat, *gemm], "gemm", transB=1))
    words = pack_words(b.rng.random((OUT, 576)) < 0.5)
    linear = [b.constant("linear.threshold", b.normal(576)), b.constant("linear.weight", words)]
    linear += [b.constant(f"linear.{role}", b.normal(OUT)) for role in ("scale", "bias")]
    outputs.append(b.add("PackedBinaryLinear", [flat, *linear], "linear", "bhpe", channels=576))
    return b.build(*outputs)


def test_costs_of_every_kind() -> None:
    """24 channels lie in one 32-bit word: stored bytes are words of 4, weights are true channels."""
    conv, deconv, pixels = OUT * 24 * 9, OUT * 24 * 16, 2 * 6 * 4
    image, half, twice = 24 * pixels, OUT * 2 * 3 * 2, OUT * 2 * 12 * 8
    c3, c4, c1 = (24, OUT, (3, 3), image, half), (24, OUT, (4, 4), image, twice), (1, 1)
    layers = [
        Layer("conv", CONVOLUTION, BINARY, conv, conv * 2 * 3 * 2, *c3),
        Layer("dense", CONVOLUTION, FLOAT16, conv, conv * 2 * 3 * 2, *c3),
        Layer("deconv", TRANSPOSED, FLOAT16, deconv, deconv * pixels, *c4),
        Layer("up", TRANSPOSED, BINARY, deconv, deconv * pixels, *c4),
        Layer("gemm", LINEAR, FLOAT16, 5 * 576, 5 * 576 * 2, 576, 5, c1, 1152, 10),
        Layer("linear", LINEAR, BINARY, OUT * 576, OUT * 576 * 2, 576, OUT, c1, 1152, 2 * OUT),
    ]
    assert layer_costs(network(), NOWHERE) == layers
    stored = [4 * OUT * 9, 2 * conv, 2 * deconv, 4 * OUT * 16, 2 * 5 * 576, 4 * OUT * 18]
    assert [layer.stored_bytes for layer in layers] == stored


def test_report_json_says_the_kind_with_its_precision() -> None:
    rows = [layer.to_row() for layer in layer_costs(network(), NOWHERE)]
    kinds = ["convolution", "transposed convolution", "linear"]
    assert {row["kind"] for row in rows} == {*kinds, *(f"binary {kind}" for kind in kinds)}


def test_a_row_of_report_json_is_read_back() -> None:
    for layer in layer_costs(network(), NOWHERE):
        compiled = replace(layer, nbytes=5, traffic=6, kernels=("Kernel",))
        row = json.loads(json.dumps(layer.to_row()))
        assert Layer.from_row(row, 5, 6, ["Kernel"]) == compiled
        with pytest.raises(ValueError, match="no layer is a kite"):
            Layer.from_row({**row, "kind": "kite"}, 5, 6, [])


@pytest.mark.parametrize(("channels", "words"), [(8, 1), (32, 1), (40, 2), (64, 2), (72, 3)])
def test_spare_bits_are_stored_but_are_no_weights(channels: int, words: int) -> None:
    b = Builder()
    model = b.build(b.binary_conv(b.input("image", (1, channels, 4, 4)), "one", channels, OUT))
    (cost,) = layer_costs(model, NOWHERE)
    assert cost.weights == OUT * channels * 9
    assert cost.stored_bytes == OUT * words * 9 * 4


def program() -> Program:
    slot = TensorSlot("arena", 0, 64, (16,), "float32")
    weight = TensorSlot("weights", 128, 64, (16,), "float32")
    steps = (
        Step("bhpe_a", "BinaryConv2d", "conv", (0, 1), ("x", "weight")),
        Step("bhpe_b", "glue", "", (0,), ("arg0",)),
        Step("bhpe_c", "PackBits", "conv", (0,), ("x",)),
    )
    return Program(
        (slot, weight), steps, (Port("image", 0),), (Port("y", 0),), 128, 32, b"w" * 192, (b"code",)
    )


def test_report() -> None:
    once, twice = Note("fold", "conv", True, "absorbed"), Note("fold", "dense", False, "read twice")
    report = compile_report(network(), program(), [twice, once, twice], {"model": {"preset": "none"}})
    costs = layer_costs(network(), NOWHERE)
    binary = [c for c in costs if c.precision == "binary"]
    dense = [c for c in costs if c.precision == "float16"]
    assert report["model"] == {"preset": "none"}
    assert report["weights"] == {
        "binary": sum(c.weights for c in binary),
        "int8": 0,
        "float16": sum(c.weights for c in dense),
    }
    macs = {"binary": sum(c.macs for c in binary), "int8": 0, "float": sum(c.macs for c in dense)}
    assert report["macs"] == macs
    assert report["bytes"] == {
        "binary_weights": sum(c.stored_bytes for c in binary),
        "int8_weights": 0,
        "float16_weights": sum(c.stored_bytes for c in dense),
        "weights_image": 192,
        "arena": 128,
        "workspace": 32,
    }
    assert report["calls"] == {"kernels": 2, "glue": 1}
    assert [layer["name"] for layer in report["layers"]] == [c.name for c in costs]
    step = {"kernel": "bhpe_a", "kind": "BinaryConv2d", "layer": "conv", "tile": None}
    sizes = {"constant_bytes": 64, "read_bytes": 64, "written_bytes": 0}
    assert report["steps"][0] == step | sizes | {"constants": [["weight", 128, 64]]}
    assert [(n["site"], n["applied"]) for n in report["notes"]] == [("dense", False), ("conv", True)]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_eight_bit_layers_store_a_byte_a_weight() -> None:
    model = network()
    dense = {c.name: c for c in layer_costs(model, NOWHERE) if c.precision == "float16"}
    QuantizeLinear()(model)
    QuantizeDense(dict.fromkeys(dense, (-1.0, 1.0)))(model)
    assert {"Int8Conv2d", "Int8ConvTranspose2d", "FixedPointLinear"} <= {n.op_type for n in model.graph}
    found = {c.name: c for c in layer_costs(model, NOWHERE) if c.precision == "int8"}
    assert set(found) == set(dense)
    for name, cost in found.items():
        assert (cost.weights, cost.macs) == (dense[name].weights, dense[name].macs)
        assert cost.stored_bytes == cost.weights == dense[name].stored_bytes // 2


def test_nothing_binary() -> None:
    b = Builder()
    model = b.build(b.dense_conv(b.input("image", (1, 8, 4, 4)), "dense", 8, 8))
    report = compile_report(model, program(), [], {})
    assert report["weights"] == {"binary": 0, "int8": 0, "float16": 64}
    assert report["macs"]["binary"] == 0
    assert report["notes"] == []

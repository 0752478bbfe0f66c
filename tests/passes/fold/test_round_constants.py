from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.fold.round_constants import SMALLEST, RoundConstants, round_to, scale_bits, settled
from tests.passes.fold.graphs import Builder, array, node_named, op_types, run, text

KINDS = ["BinaryConv2d", "BinaryConvTranspose2d", "BinaryLinear"]


def layer(kind: str = "BinaryConv2d", channels: int = 4, seed: int = 1) -> ir.Model:
    b = Builder(seed)
    x = b.input("x", (2, channels) if kind == "BinaryLinear" else (1, channels, 5, 5))
    return b.build(b.rprelu(b.binary(kind, x, "layer", 4), "act"))


@pytest.mark.parametrize(
    ("kind", "channels", "bits"),
    [
        ("BinaryConv2d", 4, 24 - 6),  # 36 products
        ("BinaryConv2d", 910, 24 - 13),  # 8190
        ("BinaryConvTranspose2d", 4, 24 - 5),  # 4 of the 16 taps: 16
        ("BinaryLinear", 1, 24 - 1),
        ("BinaryLinear", 255, 24 - 8),
        ("BinaryLinear", 256, 24 - 9),
    ],
)
def test_scales_keep_what_the_sums_leave(kind: str, channels: int, bits: int) -> None:
    model = layer(kind, channels)
    node = node_named(model, "layer")
    scale = array(node.inputs[3])
    assert scale_bits(node) == bits
    result = RoundConstants()(model)
    got = array(node.inputs[3])
    np.testing.assert_array_equal(got, round_to(scale, bits))
    assert np.abs(got / scale - 1).max() <= 2.0**-bits
    assert op_types(model) == [kind, "RPReLU"]
    assert ("layer", True, f"its scale keeps {bits} bits") in [
        (n.site, n.applied, n.reason) for n in result.notes
    ]


@given(scale=st.floats(2.0**-90, 2.0**30, width=32), products=st.integers(1, 8191), data=st.data())
def test_the_product_of_a_sum_and_a_scale_is_exact(scale: float, products: int, data: st.DataObject) -> None:
    dot = data.draw(st.integers(-products, products))
    rounded = round_to(np.array(scale, np.float32), 24 - products.bit_length())
    assert Fraction(float(np.float32(dot) * rounded)) == dot * Fraction(float(rounded))


@pytest.mark.parametrize(
    ("value", "bits", "want"),
    [(1.25, 2, 1.0), (1.75, 2, 2.0), (-1.25, 3, -1.25), (0.0, 5, 0.0), (3.0, 1, 4.0), (2.5, 2, 2.0)],
)
def test_ties_go_to_the_even_neighbour(value: float, bits: int, want: float) -> None:
    assert round_to(np.array(value, np.float32), bits) == want


def test_tiny_constants_are_nothing() -> None:
    values = np.array([SMALLEST, SMALLEST / 2, -SMALLEST, -SMALLEST / 2, -0.0, 1e-44], np.float32)
    got = settled(values)
    np.testing.assert_array_equal(got, np.array([SMALLEST, 0, -SMALLEST, 0, 0, 0], np.float32))
    assert np.signbit(got).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("role", ["layer.threshold", "layer.bias", "act.beta", "act.zeta"])
@pytest.mark.parametrize("value", [-0.0, 1e-40], ids=["minus zero", "tiny"])
def test_every_constant_of_a_channel_is_settled(role: str, value: float) -> None:
    """-0, too: where a sign is read off a sum behind zeta, it would be wrong (`kernels/epilogue.py`)."""
    model = layer()
    initializer = model.graph.initializers[role]
    shape = array(initializer).shape
    initializer.const_value = ir.tensor(np.full(shape, value, np.float32), name=role)
    node = node_named(model, role.partition(".")[0])
    index = next(k for k, one in enumerate(node.inputs) if one is initializer)
    result = RoundConstants()(model)
    got = array(node.inputs[index])
    assert got.shape == shape
    assert not got.any()
    assert not np.signbit(got).any()
    assert "tiny constants are 0" in [note.reason for note in result.notes]


def test_a_constant_that_is_computed_stays() -> None:
    model = layer()
    node = node_named(model, "layer")
    scale = node.inputs[3]
    assert scale is not None
    scale.const_value = None
    result = RoundConstants()(model)
    assert ("layer", False, "a constant is computed at run time") in [
        (n.site, n.applied, n.reason) for n in result.notes
    ]
    assert node.inputs[3] is scale


def test_layers_of_others_stay() -> None:
    b = Builder(2)
    model = b.build(b.dense(b.input("x", (1, 4, 5, 5)), "layer", 4, bias=True))
    before = text(model)
    result = RoundConstants()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), before)


@settings(max_examples=30)
@given(kind=st.sampled_from(KINDS), channels=st.integers(1, 9), seed=st.integers(0, 999))
@example(kind="BinaryLinear", channels=1, seed=58)
def test_equivalence_and_second_run(kind: str, channels: int, seed: int) -> None:
    """Of scales that have few bits already the network stays, bit for bit; others move by 2^-bits of their product."""
    model = layer(kind, channels, seed)
    shape = [int(d) for d in model.graph.inputs[0].shape or ()]  # type: ignore[arg-type]
    x = Builder(seed + 1).normal(*shape)
    free = run(model, x)[0]
    bits = scale_bits(node_named(model, "layer"))
    scale = array(node_named(model, "layer").inputs[3])
    largest = np.abs(scale).max() * channels * 16
    few = np.array_equal(round_to(scale, bits), scale)  # a single channel's may have few bits by chance
    assert RoundConstants()(model).modified is not few
    rounded, after = run(model, x)[0], text(model)
    # RPReLU's slopes are below 2, and float32 rounds what is of that size
    assert np.abs(rounded - free).max() <= 2 * largest * 2.0**-bits + 1e-5
    assert (RoundConstants()(model).modified, text(model)) == (False, after)
    np.testing.assert_array_equal(run(model, x)[0], rounded)

"""Graph passes of the lowering: before and after, refusals with their reasons, equivalence, idempotence.

Equivalence here is against ONNX Runtime on the graph before: kernel nodes are evaluated by their NumPy
references, everything else by the ONNX reference implementation.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.errors import InputError
from bhpe_compile.kernels import BinaryConv2d
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.channel_last import ChannelLast
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.fuse_epilogue import FuseEpilogue
from bhpe_compile.passes.lower.pack_activations import PackActivations
from bhpe_compile.passes.lower.residual_match import match_residual
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from tests.passes.lower.evaluate import evaluate
from tests.passes.lower.graphs import Builder, bidrb, small_network


def kinds(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def run(model: ir.Model, *passes: object) -> ir.Model:
    for one in passes:
        one(model)
    return model


def node_of(model: ir.Model, layer: str) -> ir.Node:
    return next(n for n in model.graph if g.is_kernel(n, *g.CONV_KINDS) and g.text(n, "layer") == layer)


def reference(model: ir.Model, image: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"image": image})


def test_select_before_after() -> None:
    model = run(small_network(), SelectKernels())
    found = kinds(model)
    assert found["BinaryConv2d"] == 3
    assert found["DenseConv2d"] == 2
    assert found["MaxPool2d"] == 1
    assert not {"Conv", "PackedBinaryConv2d", "MaxPool"} & set(found)


def test_select_refuses_groups_by_name() -> None:
    b = Builder()
    x = b.input("image", (1, 8, 4, 4))
    w = b.constant("odd.weight", b.normal(8, 4, 1, 1))
    y = b.add("Conv", [x, w], "odd", kernel_shape=[1, 1], group=2)
    with pytest.raises(InputError, match=r"layer odd: groups"):
        SelectKernels()(b.build(y))


def test_fuse_before_after() -> None:
    model = run(small_network(), SelectKernels(), FuseEpilogue())
    left = kinds(model)
    assert left["Add"] == 0
    assert left["RPReLU"] == 0
    assert left["ChannelAffine"] == 0
    conv2 = node_of(model, "block.conv2")
    assert {"residual", "beta", "shortcut"} <= set(g.roles(conv2))
    assert g.text(conv2, "residual_kind") == "repeat"
    assert g.integer(conv2, "residual_clip") == 1
    assert g.text(node_of(model, "down.conv1"), "residual_kind") == "group_mean"


def test_fuse_stops_where_others_read_the_value() -> None:
    b = Builder()
    x = b.input("image", (1, 16, 4, 4))
    y = b.binary_conv(x, "conv", 16, 16)
    z = b.rprelu(y, "act", 16)
    model = run(b.build(y, z), SelectKernels())
    result = FuseEpilogue()(model)
    assert kinds(model)["RPReLU"] == 1
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [
        ("conv", False, "nothing to absorb: end of the chain")
    ]


def test_fuse_refuses_a_second_activation() -> None:
    b = Builder()
    x = b.input("image", (1, 16, 4, 4))
    y = b.rprelu(b.rprelu(b.binary_conv(x, "conv", 16, 16), "one", 16), "two", 16)
    model = run(b.build(y), SelectKernels())
    notes = FuseEpilogue()(model).notes
    assert notes[0].reason == "absorbed RPReLU; a second activation"
    assert kinds(model)["RPReLU"] == 1


@pytest.mark.parametrize(("slope", "activation"), [(0.0, "leaky"), (3.0, "rprelu")])
def test_slopes_of_at_most_one_make_a_maximum(slope: float, activation: str) -> None:
    """Both compute RPReLU, which ONNX Runtime computes from its definition."""
    b = Builder(1)
    y = b.rprelu(b.binary_conv(b.input("image", (1, 16, 4, 4)), "conv", 16, 16), "act", 16, slope)
    model = b.build(y)
    image = b.normal(1, 16, 4, 4)
    (expected,) = reference(model, image)
    run(model, SelectKernels(), FuseEpilogue())
    assert g.text(node_of(model, "conv"), "activation") == activation
    run(model, ChannelLast(), PackActivations())
    (got,) = evaluate(model, {"image": image})
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)  # one affine instead of three operations


def test_no_zeta_is_negative_zero() -> None:
    """A sign that is read off the sum behind it would be wrong."""
    b = Builder()
    y = b.rprelu(b.binary_conv(b.input("image", (1, 16, 4, 4)), "conv", 16, 16), "act", 16, shift=-0.0)
    model = run(b.build(y), SelectKernels(), FuseEpilogue())
    zeta = g.array_of(g.operands_of(node_of(model, "conv"))["zeta"])
    assert zeta is not None
    assert not zeta.any()
    assert not np.signbit(zeta).any()


def test_odd_sizes_keep_their_average_pool() -> None:
    b = Builder()
    x = b.input("image", (1, 16, 5, 5))
    pooled = b.add("AveragePool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    model = b.build(pooled)
    match = match_residual(model.graph.outputs[0])
    assert (match.kind, match.pool) == ("same", False)


def test_channel_last_leaves_only_outer_transposes() -> None:
    model = run(small_network(), SelectKernels(), FuseEpilogue(), ChannelLast())
    transposes = [n for n in model.graph if n.op_type == "Transpose"]
    assert len(transposes) == 3  # one for the image, one for each of the two outputs


def test_pack_writes_bits_in_the_producers() -> None:
    model = run(small_network(), *lower_passes())
    assert kinds(model)["PackBits"] == 0
    pool = next(n for n in model.graph if n.op_type == "MaxPool2d")
    assert list(g.results_of(pool)) == ["out", "bits"]
    assert all("input_threshold" not in g.roles(n) for n in model.graph if g.is_kernel(n, "BinaryConv2d"))


@pytest.mark.parametrize(("thresholds", "at_zero"), [(0.0, True), (0.1, False)])
def test_thresholds_of_zero_are_no_argument(thresholds: float, at_zero: bool) -> None:
    b = Builder()
    first = b.binary_conv(b.input("image", (1, 16, 4, 4)), "first", 16, 16)
    model = b.build(b.binary_conv(first, "second", 16, 16, thresholds=thresholds))
    image = b.normal(1, 16, 4, 4)
    (expected,) = reference(model, image)
    run(model, SelectKernels(), FuseEpilogue(), ChannelLast(), PackActivations())
    node = node_of(model, "first")
    kernel = describe(node)
    assert isinstance(kernel, BinaryConv2d)
    assert kernel.epilogue.bits
    assert kernel.epilogue.bits_at_zero == at_zero
    assert ("threshold" in g.roles(node)) != at_zero
    (got,) = evaluate(model, {"image": image})
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)  # integers, then one affine


def test_pack_of_a_graph_input_needs_its_own_kernel_and_says_so() -> None:
    b = Builder()
    y = b.binary_conv(b.input("image", (1, 16, 4, 4)), "conv", 16, 16)
    model = run(b.build(y), SelectKernels(), FuseEpilogue(), ChannelLast())
    notes = PackActivations()(model).notes
    assert [n.applied for n in notes] == [False]
    assert "packed by a kernel of their own" in notes[0].reason
    assert kinds(model)["PackBits"] == 1


@pytest.mark.parametrize(
    ("channels", "out", "reason"),
    [
        (20, 20, "it has 20 channels, which are no whole bytes"),
        (4, 24, "it repeats a residual of 4 channels"),
    ],
)
def test_pack_of_channels_that_fill_no_byte(channels: int, out: int, reason: str) -> None:
    b = Builder(3)
    first = bidrb(b, b.input("image", (1, channels, 4, 6)), "first", channels, out, 1, (4, 6))
    model = b.build(bidrb(b, first, "second", out, out, 1, (4, 6)))
    image = b.normal(1, channels, 4, 6)
    expected = reference(model, image)
    run(model, SelectKernels(), FuseEpilogue(), ChannelLast())
    notes = PackActivations()(model).notes
    assert any(reason in note.reason and not note.applied for note in notes)
    assert kinds(model)["PackBits"] == 2
    (got,) = evaluate(model, {"image": image})
    np.testing.assert_allclose(got, expected[0], atol=2e-5, rtol=1e-5)  # float32 sums in another order


@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([4, 8, 16, 20, 24, 64]),
    out=st.sampled_from([4, 8, 16, 20, 32, 40, 64, 96]),
    stride=st.sampled_from([1, 2]),
    height=st.sampled_from([4, 6, 8]),
    seed=st.integers(0, 1000),
)
def test_equivalence_and_idempotence(channels: int, out: int, stride: int, height: int, seed: int) -> None:
    """Any BiDRB kind computes the same before and after all passes; a second run changes nothing."""
    if max(channels, out) % min(channels, out):
        out = channels
    b = Builder(seed)
    x = b.input("image", (1, channels, height, 6))
    y = bidrb(b, x, "conv", channels, out, stride, (height, 6))
    model = b.build(y)
    image = b.normal(1, channels, height, 6)
    expected = reference(model, image)
    run(model, *lower_passes())
    (got,) = evaluate(model, {"image": image})
    # float32 sums in another order: a few ulps of values near 10
    np.testing.assert_allclose(got, expected[0], atol=2e-5, rtol=1e-5)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    again = [one(model).modified for one in lower_passes()]
    assert not any(again)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_whole_small_network_is_equivalent() -> None:
    model = small_network(height=32, width=32)
    image = np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)
    expected = reference(model, image)
    run(model, *lower_passes())
    for got, want in zip(evaluate(model, {"image": image}), expected, strict=True):
        # the stem's float sums differ in the last bits, which may flip a sign: at most 1 in 1000 values moves
        moved = np.abs(got - want) > 1e-4
        assert moved.mean() <= 1e-3

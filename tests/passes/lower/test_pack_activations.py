"""PackActivations: who writes bits, in which border, against which thresholds."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.errors import InputError
from bhpe_compile.kernels import BinaryConv2d
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.channel_last import ChannelLast
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.fuse_epilogue import FuseEpilogue
from bhpe_compile.passes.lower.pack_activations import PackActivations
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from tests.passes.lower.evaluate import evaluate, reference
from tests.passes.lower.graphs import Builder, bidrb, kinds, node_of, pack_words, run, second_run

BEFORE = (SelectKernels, FuseEpilogue, ChannelLast)
SIZE = (4, 6)


def unpacked(model: ir.Model) -> ir.Model:
    """All passes before."""
    return run(model, *(one() for one in BEFORE))


def check_equal(b: Builder, model: ir.Model, channels: int = 16) -> list[tuple[str, bool, str]]:
    """Lower and compare with ONNX Runtime; the pass's notes."""
    image = b.normal(1, channels, *SIZE)
    expected = reference(model, image)
    result = PackActivations()(unpacked(model))
    assert result.modified
    for got, want in zip(evaluate(model, {"image": image}), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)  # integers, then one affine in float32
    assert second_run(PackActivations(), model) == (False, False)
    return [(n.site, n.applied, n.reason) for n in result.notes]


def same_threshold(b: Builder, *layers: str) -> None:
    """Let every layer compare with the threshold of the first."""
    constants = {i.name: i for i in b.initializers}
    for layer in layers[1:]:
        constants[f"{layer}.threshold"].raw_data = constants[f"{layers[0]}.threshold"].raw_data


def deconv(b: Builder, x: str, name: str, channels: int, out: int) -> str:
    bits = b.rng.random((out, channels, 4, 4)) < 0.5
    values = {"threshold": b.normal(channels, std=0.1), "weight": pack_words(bits)}
    values |= {"scale": b.normal(out, std=0.1), "bias": b.normal(out)}
    inputs = [x, *(b.constant(f"{name}.{role}", value) for role, value in values.items())]
    facts = {"strides": [2, 2], "pads": [1] * 4, "channels": channels}
    return b.add("PackedBinaryConvTranspose2d", inputs, name, "bhpe", **facts)


def test_the_producer_writes_bits_in_place_of_floats() -> None:
    b = Builder()
    y = b.binary_conv(b.input("image", (1, 16, *SIZE)), "first", 16, 40)
    model = b.build(b.binary_conv(y, "second", 40, 24))
    notes = check_equal(b, model)
    assert notes == [
        ("first", False, "bits are packed by a kernel of their own: image_nhwc: no kernel writes it"),
        ("first", True, "also writes the bits of second"),
    ]
    first, second = node_of(model, "first"), node_of(model, "second")
    assert list(g.results_of(first)) == ["bits"]
    bits = g.result(first, "bits")
    assert bits is not None
    assert (g.shape_of(bits), bits.dtype) == ((1, 6, 8, 8), ir.DataType.UINT8)  # a border of 1, two words
    assert g.integer(first, "bits_border") == 1
    assert g.operand(second, "x") is bits
    assert g.integer(second, "in_border") == 1
    assert "input_threshold" not in g.roles(second)
    np.testing.assert_array_equal(
        g.array_of(g.operand(first, "threshold")), g.array_of(model.graph.initializers["second.threshold"])
    )
    assert kinds(model)["PackBits"] == 1
    pack = next(n for n in model.graph if n.op_type == "PackBits")
    assert (g.integer(pack, "border"), g.text(pack, "layer"), g.text(pack, "layout")) == (1, "first", "nhwc")
    assert g.shape_of(pack.outputs[0]) == (1, 6, 8, 4)


def test_floats_are_written_where_someone_reads_them() -> None:
    """Another operator, or the caller."""
    for kept in (True, False):
        b = Builder()
        y = b.binary_conv(b.input("image", (1, 16, *SIZE)), "first", 16, 16)
        outputs = [b.binary_conv(y, "second", 16, 16), y if kept else b.add("Abs", [y], "abs")]
        model = b.build(*outputs)
        check_equal(b, model)
        assert list(g.results_of(node_of(model, "first"))) == ["out", "bits"]


@pytest.mark.parametrize("paddings", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_border_is_the_widest_that_a_reader_needs(paddings: tuple[int, ...]) -> None:
    """Whichever reads first."""
    b = Builder()
    y = b.dense_conv(b.input("image", (1, 16, *SIZE)), "first", 16, 16)
    names = [f"reader{p}" for p in paddings]
    outputs = [
        b.binary_conv(y, name, 16, 16, 2 * p + 1, padding=p) for name, p in zip(names, paddings, strict=True)
    ]
    same_threshold(b, *names)
    model = b.build(*outputs)
    notes = check_equal(b, model)
    assert notes == [("first", True, f"also writes the bits of {', '.join(names)}")]
    first = node_of(model, "first")
    assert g.integer(first, "bits_border") == 2
    assert g.shape_of(g.result(first, "bits")) == (1, 8, 10, 4)
    assert [g.integer(node_of(model, name), "in_border") for name in names] == [2, 2, 2]


def test_a_transposed_convolution_needs_a_border_of_one() -> None:
    b = Builder()
    y = b.dense_conv(b.input("image", (1, 16, *SIZE)), "first", 16, 16)
    model = b.build(deconv(b, y, "up", 16, 8))
    check_equal(b, model)
    assert g.integer(node_of(model, "first"), "bits_border") == 1
    assert g.integer(node_of(model, "up"), "in_border") == 1


def test_a_second_threshold_gets_a_kernel_of_its_own() -> None:
    b = Builder()
    y = b.binary_conv(b.input("image", (1, 16, *SIZE)), "first", 16, 16)
    model = b.build(b.binary_conv(y, "second", 16, 16), b.binary_conv(y, "third", 16, 16, padding=0))
    notes = check_equal(b, model)
    assert notes[1][:2] == ("first", True)
    site, applied, reason = notes[2]
    assert (site, applied) == ("third", False)
    assert reason.startswith("bits are packed by a kernel of their own: ")
    assert reason.endswith(": it already writes other bits")
    assert kinds(model)["PackBits"] == 2
    assert g.integer(node_of(model, "third"), "in_border") == 0


def test_a_kernel_that_writes_no_map_of_ours_cannot_write_bits() -> None:
    """Crops are made by a kernel without an epilogue."""
    b = Builder()
    box = b.constant("box", np.array([[0, 0, 4, 4]], np.float32))
    x = b.input("image", (1, 16, *SIZE))
    cut = b.add("Crop", [x, box], "cut", "bhpe", height=4, width=3)
    model = unpacked(b.build(b.binary_conv(cut, "conv", 16, 16)))
    (note,) = PackActivations()(model).notes
    assert (note.site, note.applied) == ("conv", False)
    assert note.reason.endswith(": no kernel writes it")


@pytest.mark.parametrize("thresholds", [0.0, 0.1])
def test_pooling_takes_every_threshold_as_an_argument(thresholds: float) -> None:
    b = Builder()
    x = b.input("image", (1, 16, *SIZE))
    y = b.add("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    model = b.build(b.binary_conv(y, "conv", 16, 16, thresholds=thresholds))
    assert check_equal(b, model) == [("pool", True, "also writes the bits of conv")]
    pool = next(n for n in model.graph if n.op_type == "MaxPool2d")
    assert g.roles(pool) == ("x", "threshold")
    assert list(g.results_of(pool)) == ["bits"]


@pytest.mark.parametrize(("thresholds", "at_zero"), [(0.0, True), (0.1, False)])
def test_thresholds_of_zero_are_no_argument_of_a_convolution(thresholds: float, at_zero: bool) -> None:
    b = Builder()
    first = b.binary_conv(b.input("image", (1, 16, *SIZE)), "first", 16, 16)
    model = b.build(b.binary_conv(first, "second", 16, 16, thresholds=thresholds))
    check_equal(b, model)
    node = node_of(model, "first")
    kernel = describe(node)
    assert isinstance(kernel, BinaryConv2d)
    assert kernel.epilogue.bits
    assert kernel.epilogue.bits_at_zero == at_zero
    assert ("threshold" in g.roles(node)) != at_zero


def test_one_threshold_that_is_not_zero_is_enough() -> None:
    b = Builder()
    first = b.binary_conv(b.input("image", (1, 16, *SIZE)), "first", 16, 16)
    y = b.binary_conv(first, "second", 16, 16, thresholds=0.0)
    model = b.build(y)
    values = np.zeros(16, np.float32)
    values[15] = 0.3
    model.graph.initializers["second.threshold"].const_value = ir.tensor(values)
    check_equal(b, model)
    assert "threshold" in g.roles(node_of(model, "first"))


def test_thresholds_computed_at_run_time_are_refused() -> None:
    b = Builder()
    y = b.binary_conv(b.input("image", (1, 16, *SIZE)), "conv", 16, 16)
    model = unpacked(b.build(y))
    model.graph.initializers["conv.threshold"].const_value = None
    with pytest.raises(
        InputError,
        match=r"^layer conv: its threshold is computed at run time; only constants compile\nin pass pack-activations",
    ):
        PackActivations()(model)


@pytest.mark.parametrize(
    ("channels", "out", "reason"),
    [
        (20, 20, "it has 20 channels, which are no whole bytes"),
        (4, 24, "it repeats a residual of 4 channels, which are no whole bytes"),
    ],
)
def test_channels_that_fill_no_byte(channels: int, out: int, reason: str) -> None:
    b = Builder(3)
    first = bidrb(b, b.input("image", (1, channels, *SIZE)), "first", channels, out, 1)
    model = b.build(bidrb(b, first, "second", out, out, 1))
    notes = check_equal(b, model, channels)
    assert notes[1][0] == "second"
    assert not notes[1][1]
    assert notes[1][2].endswith(f": {reason}")
    assert kinds(model)["PackBits"] == 2


def test_a_mean_of_channels_that_fill_no_byte_is_no_obstacle() -> None:
    """Only repeated channels are read byte by byte."""
    b = Builder(3)
    first = bidrb(b, b.input("image", (1, 24, *SIZE)), "first", 24, 8, 1)
    model = b.build(b.binary_conv(first, "second", 8, 8))
    assert check_equal(b, model, 24)[1] == ("first", True, "also writes the bits of second")
    b = Builder(3)
    first = bidrb(b, b.input("image", (1, 8, *SIZE)), "first", 8, 24, 1)
    model = b.build(b.binary_conv(first, "second", 24, 8))
    assert check_equal(b, model, 8)[1] == ("first", True, "also writes the bits of second")


@settings(max_examples=25)
@given(
    channels=st.sampled_from([4, 8, 20, 24, 40]),
    readers=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["a", "b", "zero"]), st.integers(1, 2)),
        min_size=1,
        max_size=4,
    ),
    producer=st.sampled_from(["image", "dense", "binary", "pool"]),
    kept=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equivalence_and_second_run(
    channels: int, readers: list[tuple[int, str, int]], producer: str, kept: bool, seed: int
) -> None:
    """Any producer and any readers, of any padding and stride, some of them with the same thresholds."""
    b = Builder(seed)
    y = b.input("image", (1, channels, *SIZE))
    if producer == "dense":
        y = b.dense_conv(y, "made", channels, channels)
    elif producer == "binary":
        y = b.binary_conv(y, "made", channels, channels)
    elif producer == "pool":
        y = b.add("MaxPool", [y], "made", kernel_shape=[2, 2], strides=[1, 1])
    outputs = [b.add("Abs", [y], "kept")] * kept
    for i, (padding, word, stride) in enumerate(readers):
        kernel, thresholds = 2 * padding + 1, 0.0 if word == "zero" else 0.1
        outputs.append(b.binary_conv(y, f"{word}{i}", channels, 8, kernel, stride, padding, thresholds))
    for word in "ab":
        if same := [f"{one}{i}" for i, (_, one, _) in enumerate(readers) if one == word]:
            same_threshold(b, *same)
    check_equal(b, b.build(*outputs), channels)

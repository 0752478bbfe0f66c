"""WriteLevels: levels are written where they are made, in the border that the widest reader wants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.activations import span_of
from bhpe_compile.passes.fold.level_tables import LevelTables
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.fold.whole_steps import WholeSteps
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.channel_last import ChannelLast
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.fuse_epilogue import FuseEpilogue
from bhpe_compile.passes.lower.quantize_activations import QuantizeActivations
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from bhpe_compile.passes.lower.write_levels import WriteLevels
from tests.passes.lower.evaluate import evaluate, reference
from tests.passes.lower.graphs import Builder, kinds, node_of, run, second_run

BEFORE = (SelectKernels, FuseEpilogue, ChannelLast, QuantizeActivations)
SHAPE = (1, 6, 9, 7)
LAYERS = ("one", "two", "three", "four")


def built(b: Builder, *outputs: str, spans: dict[str, tuple[float, float]] | None = None) -> ir.Model:
    """8-bit, tables and whole steps where they may be."""
    model = b.build(*outputs)
    QuantizeDense(dict.fromkeys(LAYERS, (-3.0, 3.0)) | (spans or {}))(model)
    LevelTables({span_of(value): (-5.0, 5.0) for node in model.graph for value in node.outputs})(model)
    WholeSteps()(model)
    common.RemoveUnusedNodesPass()(model)
    return model


def silu(b: Builder, x: str, name: str) -> str:
    return b.add("Mul", [x, b.add("Sigmoid", [x], f"{name}.sigmoid")], f"{name}.silu")


def conv(b: Builder, x: str, name: str, kernel: int = 1, stride: int = 1) -> str:
    return b.dense_conv(x, name, 6, 6, kernel, stride, kernel // 2)


def check_equal(model: ir.Model, seed: int = 0) -> ir.Model:
    """The lowered graph computes what ONNX Runtime computes, bit for bit."""
    image = np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)
    expected = reference(model, image)
    lowered = run(model, *(one() for one in BEFORE), WriteLevels())
    for got, want in zip(evaluate(lowered, {"image": image}), expected, strict=True):
        np.testing.assert_array_equal(got, want)
    return lowered


def test_readers_share_the_levels_in_the_widest_border() -> None:
    """A 1x1 and a 3x3 layer behind one; floats are not written."""
    b = Builder(1)
    y = b.add("Relu", [conv(b, b.input("image", SHAPE), "one")], "relu")
    model = check_equal(built(b, conv(b, y, "two"), conv(b, y, "three", 3)))
    assert kinds(model)["Quantize"] == 1  # the input's
    producer = node_of(model, "one")
    (levels,) = producer.outputs
    assert g.shape_of(levels)[1:3] == (11, 10)  # rows of whole groups behind the last pixel
    for name in ("two", "three"):
        reader = node_of(model, name)
        assert g.operand(reader, "x") is levels
        assert g.integer(reader, "in_border") == 1
    found = describe(producer).epilogue  # type: ignore[attr-defined]
    assert (found.store, found.levels.divides, found.levels.fits) == (False, False, True)


def test_floats_stay_where_they_are_read() -> None:
    b = Builder(2)
    y = conv(b, b.input("image", SHAPE), "one", 3)
    model = check_equal(built(b, conv(b, y, "two"), y))
    found = describe(node_of(model, "one")).epilogue  # type: ignore[attr-defined]
    assert (found.store, found.levels.divides) == (True, True)


def test_a_table_holds_the_levels_that_are_read() -> None:
    """Two layers in different steps: the first one's are the table's, the second one's need the floats."""
    b = Builder(3)
    y = silu(b, conv(b, b.input("image", SHAPE), "one"), "one")
    model = check_equal(built(b, conv(b, y, "two"), conv(b, y, "three", 3), spans={"three": (-1.0, 2.5)}))
    found = describe(node_of(model, "one")).epilogue  # type: ignore[attr-defined]
    assert (found.store, found.levels.of_table, kinds(model)["Quantize"]) == (True, True, 2)


@pytest.mark.parametrize("read", [False, True])
def test_a_table_on_another_grid_is_written_anew_where_only_levels_are_read(read: bool) -> None:
    """Its own grid is half as fine again, with another zero point."""
    b = Builder(3)
    y = silu(b, conv(b, b.input("image", SHAPE), "one"), "one")
    model = built(
        b, conv(b, y, "two"), *([b.add("MaxPool", [y], "pool", kernel_shape=[2, 2])] if read else [])
    )
    constants = model.graph.initializers
    given = [g.array_of(constants[f"two.{word}"]) for word in ("step", "zero")]
    assert given[0] is not None
    own = [1.5 * given[0], np.array(20, np.uint8)]
    for word, array in zip(("out_step", "out_zero"), own, strict=True):
        constants[f"one.table.{word}"].const_value = ir.tensor(np.asarray(array))
    check_equal(model)
    node = node_of(model, "one")
    found = describe(node).epilogue  # type: ignore[attr-defined]
    assert (found.store, found.levels.of_table) == (read, not read)
    grid = g.array_of(g.operand(node, "grid"))
    assert grid is not None
    np.testing.assert_array_equal(grid[1:], np.array(own if read else given, np.float32))


def test_what_is_told() -> None:
    """Who reads the levels, and whether floats are written, too."""
    b = Builder(2)
    y = conv(b, b.input("image", SHAPE), "one", 3)
    z = conv(b, y, "two")
    model = run(built(b, conv(b, y, "three"), conv(b, z, "four"), z), *(one() for one in BEFORE))
    result = WriteLevels()(model)
    assert [(note.site, note.applied, note.reason) for note in result.notes] == [
        ("one", True, "writes the levels of two, three"),
        ("two", True, "writes the levels of four, and its floats"),
    ]


def test_a_sum_behind_a_table() -> None:
    b = Builder(4)
    x = silu(b, conv(b, b.input("image", SHAPE), "one"), "one")
    y = b.add("Add", [silu(b, conv(b, x, "two", 3), "two"), x], "sum")
    model = check_equal(built(b, conv(b, y, "three")))
    found = describe(node_of(model, "two")).epilogue  # type: ignore[attr-defined]
    assert (found.shortcut, found.activation, found.levels.of_table) == (True, "table", False)


def test_depthwise_layers_read_and_write_levels() -> None:
    b = Builder(5)
    x = conv(b, b.input("image", SHAPE), "one")
    weight = b.normal(6, 1, 3, 3).astype(np.float16).astype(np.float32)
    y = b.add(
        "Conv", [x, b.constant("two.weight", weight)], "two", pads=[1] * 4, group=6, kernel_shape=[3, 3]
    )
    model = check_equal(built(b, conv(b, b.add("Relu", [y], "relu"), "three")))
    assert kinds(model)["Quantize"] == 1


def test_what_no_kernel_computes_is_quantized_by_its_own() -> None:
    """And a layer that reads every second pixel only."""
    b = Builder(6)
    x = b.add("Abs", [b.input("image", SHAPE)], "abs")
    y = conv(b, x, "one")
    lowered = run(built(b, conv(b, y, "two", 1, 2)), *(one() for one in BEFORE))
    assert kinds(lowered)["Quantize"] == 2
    assert not WriteLevels()(lowered).modified


@settings(max_examples=8)
@given(seed=st.integers(0, 99), kernels=st.lists(st.sampled_from([1, 3]), min_size=1, max_size=3))
def test_chains(seed: int, kernels: list[int]) -> None:
    b = Builder(seed)
    x = conv(b, b.input("image", SHAPE), "one")
    for name, kernel in zip(LAYERS[1:], kernels, strict=False):
        x = conv(b, silu(b, x, name) if seed % 2 else b.add("Relu", [x], f"{name}.relu"), name, kernel)
    model = check_equal(built(b, x), seed)
    assert kinds(model)["Quantize"] == 1
    assert second_run(WriteLevels(), model) == (False, False)


@pytest.mark.parametrize("high", [None, 6.0])
def test_clips_are_taken_in(high: float | None) -> None:
    b = Builder(7)
    ends = [
        b.constant("low", np.float32(0)),
        *([] if high is None else [b.constant("high", np.float32(high))]),
    ]
    y = b.add("Clip", [conv(b, b.input("image", SHAPE), "one"), *ends], "clip")
    model = check_equal(built(b, conv(b, y, "two")))
    assert g.text(node_of(model, "one"), "activation") == ("relu" if high is None else "clip")

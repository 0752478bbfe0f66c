"""ChannelLast: transposes stand where ONNX's layout is needed, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.channel_last import ChannelLast
from bhpe_compile.passes.lower.fuse_epilogue import FuseEpilogue
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from tests.passes.lower.evaluate import evaluate, reference
from tests.passes.lower.graphs import Builder, bidrb, chain, run, second_run, small_network

IN, OUT = "Transpose 0231", "Transpose 0312"
SIZE = (5, 4)
"""Height and width: no axis of [1, 6, 5, 4] is as long as another."""

Between = Callable[[Builder, str], str]


def conv(b: Builder, x: str, name: str, channels: int = 6, out: int = 6) -> str:
    """A dense layer of one node."""
    weight = b.normal(out, channels, 1, 1, std=channels**-0.5).astype(np.float16).astype(np.float32)
    return b.add("Conv", [x, b.constant(f"{name}.weight", weight)], name, kernel_shape=[1, 1])


def image_of(b: Builder) -> str:
    return b.input("image", (1, 6, *SIZE))


def lowered(model: ir.Model) -> ir.Model:
    return run(model, SelectKernels(), FuseEpilogue(), ChannelLast())


def check_equal(model: ir.Model, seed: int = 0) -> None:
    """Lower `model`; it computes what ONNX Runtime computes of the graph before."""
    shape = g.shape_of(model.graph.inputs[0])
    image = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    expected = reference(model, image)
    for got, want in zip(evaluate(lowered(model), {"image": image}), expected, strict=True):
        assert got.shape == want.shape
        # float32 sums in another order: a few ulps of values below 20
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)


def test_one_layer() -> None:
    b = Builder()
    model = run(b.build(conv(b, image_of(b), "conv", out=7)), SelectKernels())
    result = ChannelLast()(model)
    assert result.modified
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [
        ("conv", True, "channels last"),
        ("", True, "2 transposes remain"),
    ]
    assert chain(model) == [IN, "DenseConv2d", OUT]
    first, kernel, last = model.graph
    assert first.inputs[0] is model.graph.inputs[0]
    assert g.operand(kernel, "x") is first.outputs[0]
    assert (g.shape_of(first.outputs[0]), g.shape_of(kernel.outputs[0])) == ((1, 5, 4, 6), (1, 5, 4, 7))
    assert (g.shape_of(last.outputs[0]), last.outputs[0].name) == ((1, 7, 5, 4), "conv.y")
    assert g.text(kernel, "layout") == "nhwc"
    assert last.outputs[0] is model.graph.outputs[0]


KEPT: dict[str, tuple[Between, list[str]]] = {
    "nothing": (lambda b, x: x, []),
    "sigmoid": (lambda b, x: b.add("Sigmoid", [x], "sigmoid"), ["Sigmoid"]),
    "a constant per channel": (
        lambda b, x: b.add("Mul", [x, b.constant("c", b.normal(6, 1, 1))], "scaled"),
        ["Mul"],
    ),
    "factors of channels": (
        lambda b, x: b.add("Mul", [x, b.add("GlobalAveragePool", [x], "mean")], "scaled"),
        ["MapMean", "Mul"],
    ),
    "identity": (lambda b, x: b.add("Identity", [x], "same"), ["Identity"]),
    "scalar": (lambda b, x: b.add("Mul", [x, b.constant("two", np.float32(2))], "twice"), ["Mul"]),
    "minus": (lambda b, x: b.add("Sub", [b.constant("one", np.float32(1)), x], "less"), ["Sub"]),
    "twice": (lambda b, x: b.add("Mul", [x, x], "square"), ["Mul"]),
    "casts": (
        lambda b, x: b.add(
            "Cast", [b.add("Cast", [x], "half", to=TensorProto.FLOAT16)], "back", to=TensorProto.FLOAT
        ),
        ["Cast", "Cast"],
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_elementwise_operations_stand_between_kernels_without_transposes(case: str) -> None:
    between, expected = KEPT[case]
    b = Builder()
    model = b.build(conv(b, between(b, conv(b, image_of(b), "one")), "two"))
    check_equal(model)
    assert chain(model) == [IN, "DenseConv2d", *expected, "DenseConv2d", OUT]


def test_casts_keep_their_type() -> None:
    """A transpose below a cast holds what the cast made."""
    b = Builder()
    half = b.add("Cast", [conv(b, image_of(b), "one")], "half", to=TensorProto.FLOAT16)
    model = lowered(b.build(b.add("Softmax", [half], "end", axis=1)))
    assert chain(model) == [IN, "DenseConv2d", "Cast", OUT, "Softmax"]
    assert [n.outputs[0].dtype for n in model.graph][2:4] == [ir.DataType.FLOAT16] * 2


def test_concatenations_of_channels_use_the_last_axis() -> None:
    """Of layers, and of a layer with a value that no kernel writes."""
    b = Builder()
    x = image_of(b)
    both = b.add("Concat", [conv(b, x, "one", out=2), conv(b, x, "two", out=5)], "both", axis=1)
    model = b.build(conv(b, b.add("Concat", [both, x], "all", axis=1), "end", 13))
    check_equal(model)
    assert chain(model) == [IN, "DenseConv2d", "DenseConv2d", "Concat 3", "Concat 3", "DenseConv2d", OUT]


def test_a_concatenation_transposes_what_no_kernel_writes() -> None:
    b = Builder()
    x = image_of(b)
    model = b.build(
        conv(b, b.add("Concat", [b.add("Abs", [x], "abs"), conv(b, x, "one")], "both", axis=1), "two", 12)
    )
    check_equal(model)
    assert sorted(chain(model)) == sorted(["Abs", IN, IN, "DenseConv2d", "Concat 3", "DenseConv2d", OUT])


STAYS: dict[str, Between] = {
    "rows": lambda b, x: b.add("Concat", [x, x], "rows", axis=2),
    "a value of one channel": lambda b, x: b.add(
        "Mul", [x, b.add("ReduceMean", [x, b.constant("axes", np.array([1]))], "mean", keepdims=1)], "scaled"
    ),
    "a value that no kernel writes": lambda b, x: b.add(
        "Mul", [x, b.add("Abs", ["image"], "abs")], "product"
    ),
    "softmax": lambda b, x: b.add("Softmax", [x], "softmax", axis=1),
    "another permutation": lambda b, x: b.add("Transpose", [x], "turn", perm=[0, 1, 3, 2]),
}


@pytest.mark.parametrize("case", STAYS)
def test_what_needs_the_layout_of_onnx_stays_behind_the_transpose(case: str) -> None:
    b = Builder()
    between = STAYS[case](b, conv(b, image_of(b), "one"))
    model = b.build(conv(b, between, "two"))
    stays = [word for word in chain(model) if word != "Conv"]
    check_equal(model)
    found = chain(model)
    first, second = (i for i, word in enumerate(found) if word == "DenseConv2d")
    assert found.count(IN) == 2
    assert found.count(OUT) == 2
    assert [word for word in found if word in stays] == stays
    # each behind the transpose of the first kernel and before the transpose of the second
    assert first < found.index(OUT) < found.index(stays[-1]) < second
    assert found[second - 1] == IN


def test_a_value_that_two_kernels_read_is_transposed_once() -> None:
    b = Builder()
    x = b.add("Softmax", [image_of(b)], "made", axis=1)
    model = b.build(conv(b, x, "one", out=3), conv(b, x, "two", out=4), x)
    check_equal(model)
    assert sorted(chain(model)) == sorted(["Softmax", IN, "DenseConv2d", "DenseConv2d", OUT, OUT])


def test_residuals_and_shortcuts_are_transposed_as_well() -> None:
    b = Builder()
    x = b.input("image", (1, 8, 4, 6))
    y = b.add("Add", [bidrb(b, x, "block", 8, 8, 1), x], "sum")
    model = lowered(b.build(y))
    assert chain(model) == [IN, "BinaryConv2d", OUT]
    kernel = model.graph.node(1)
    transposed = model.graph.node(0).outputs[0]
    assert [g.operand(kernel, role) for role in ("x", "residual", "shortcut")] == [transposed] * 3


def linear(b: Builder, x: str, name: str, inputs: int, out: int) -> str:
    weight = b.constant(
        f"{name}.weight", b.normal(out, inputs, std=0.2).astype(np.float16).astype(np.float32)
    )
    return b.add("Gemm", [x, weight, b.constant(f"{name}.bias", b.normal(out))], name, transB=1)


def test_linear_layers_become_maps_of_one_pixel() -> None:
    """Between two of them the reshapes cancel; a result that is read in between keeps its shape."""
    b = Builder()
    x = b.input("image", (1, 12))
    y = linear(b, linear(b, x, "one", 12, 5), "two", 5, 7)
    model = b.build(y)
    check_equal(model)
    assert chain(model) == ["Reshape", "DenseConv2d", "DenseConv2d", "Reshape"]
    assert [g.shape_of(n.outputs[0]) for n in model.graph] == [
        (1, 1, 1, 12),
        (1, 1, 1, 5),
        (1, 1, 1, 7),
        (1, 7),
    ]
    b = Builder()
    y = linear(b, b.input("image", (1, 12)), "one", 12, 5)
    model = b.build(linear(b, y, "two", 5, 7), y)
    check_equal(model)
    assert [g.shape_of(o) for o in model.graph.outputs] == [(1, 7), (1, 5)]


def test_reshapes_of_the_user_that_undo_one_another_go_and_others_stay() -> None:
    b = Builder()
    x = image_of(b)
    rows = b.add("Reshape", [conv(b, x, "one"), b.constant("rows", np.array([1, 6, 20]))], "rows")
    back = b.add("Reshape", [rows, b.constant("back", np.array([1, 6, 5, 4]))], "back")
    other = b.add("Reshape", [rows, b.constant("other", np.array([1, 6, 4, 5]))], "other")
    model = b.build(conv(b, back, "two"), conv(b, other, "three"))
    check_equal(model)
    assert chain(model).count("Reshape") == 2


def test_a_reshape_that_is_a_result_stays() -> None:
    b = Builder()
    rows = b.add("Reshape", [conv(b, image_of(b), "one"), b.constant("rows", np.array([1, 6, 20]))], "rows")
    model = b.build(b.add("Reshape", [rows, b.constant("back", np.array([1, 6, 5, 4]))], "back"))
    check_equal(model)
    assert chain(model).count("Reshape") == 2


def test_points_heat_maps_and_crops() -> None:
    """Rows have no layout; heat maps are maps; points and boxes are left as they are."""
    b = Builder()
    x = image_of(b)
    points = b.constant("places", b.normal(1, 5, 2))
    box = b.constant("box", np.array([[0, 0, 3, 2]], np.float32))
    outputs = [
        b.add("SamplePoints", [x, points], "points", "bhpe"),
        b.add("HeatMap", [x], "heat", "bhpe", depth=2),
        b.add("SoftArgmax", [x], "place", "bhpe", depth=2, axes=3),
        b.add("Crop", [x, box], "crop", "bhpe", height=3, width=2),
    ]
    model = b.build(*outputs)
    check_equal(model)
    found = {n.op_type: n for n in model.graph if g.is_kernel(n)}
    assert g.text(found["SamplePoints"], "layer") == "points"
    shapes = [g.shape_of(found[kind].outputs[0]) for kind in ("SamplePoints", "HeatMap", "SoftArgmax")]
    assert shapes == [(1, 5, 6), (1, *SIZE, 6), (1, 3, 3)]
    assert [g.shape_of(o) for o in model.graph.outputs] == [(1, 5, 6), (1, 6, *SIZE), (1, 3, 3), (1, 6, 3, 2)]
    assert chain(model).count(IN) == 1


def test_it_says_so_where_only_transposes_move() -> None:
    """No kernel is new, but an Identity comes before the transpose: the graph has changed."""
    b = Builder()
    y = conv(b, image_of(b), "one")
    model = lowered(b.build(y))
    out = model.graph.outputs[0]
    relu = ir.Node("", "Identity", [out], outputs=[g.new_value("late", (1, 6, *SIZE))], name="late")
    model.graph.append(relu)
    model.graph.outputs[0] = relu.outputs[0]
    user = ir.Node("", "Abs", [relu.outputs[0]], outputs=[g.new_value("end", (1, 6, *SIZE))], name="end")
    model.graph.append(user)
    model.graph.outputs[0] = user.outputs[0]
    assert ChannelLast()(model).modified
    assert chain(model) == [IN, "DenseConv2d", "Identity", OUT, "Abs"]
    assert second_run(ChannelLast(), model) == (False, False)


def test_the_small_network_keeps_only_outer_transposes() -> None:
    """One for the image, one for each of the two outputs."""
    model = small_network()
    notes = run(model, SelectKernels(), FuseEpilogue()) and ChannelLast()(model).notes
    assert notes[-1].reason == "3 transposes remain"
    assert sum(word.startswith("Transpose") for word in chain(model)) == 3


STEPS = ("conv", "pool", "relu", "join", "rows", "sum", "scale", "softmax", "half")


@settings(max_examples=30)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_equivalence_and_second_run(steps: list[str], seed: int) -> None:
    """Any chain computes the same; a second run changes nothing."""
    b = Builder(seed)
    y = conv(b, image_of(b), "first")
    channels, rows = 6, SIZE[0]
    for i, step in enumerate(steps):
        name, shape = f"{step}{i}", (1, channels, rows, SIZE[1])
        if step == "conv":
            y = conv(b, y, name, channels, channels)
        elif step == "pool":
            y = b.add("MaxPool", [y], name, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
        elif step == "relu":
            y = b.add("Relu", [y], name)
        elif step == "join" and channels <= 12:
            y, channels = b.add("Concat", [y, y], name, axis=1), 2 * channels
        elif step == "rows" and rows <= 10:
            y, rows = b.add("Concat", [y, y], name, axis=2), 2 * rows
        elif step == "sum":
            y = b.add("Add", [y, conv(b, y, f"{name}.conv", channels, channels)], name)
        elif step == "scale":
            y = b.add("Mul", [y, b.constant(f"{name}.by", b.normal(*shape[1:]))], name)
        elif step == "softmax":
            y = b.add("Softmax", [y], name, axis=1)
        elif step == "half":
            y = b.add("Clip", [y, b.constant(f"{name}.low", np.float32(-0.5))], name)
    model = b.build(conv(b, y, "last", channels, 3))
    check_equal(model, seed)
    assert second_run(ChannelLast(), model) == (False, False)

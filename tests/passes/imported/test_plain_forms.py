"""Forms of operators that say the same as others become those others; what would compute something else is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from bhpe_compile.errors import InputError
from bhpe_compile.exchange.nodes import integers, shape_of
from bhpe_compile.passes.imported.plain_forms import PlainForms
from tests.onnx_graphs import Net
from tests.passes.fold.graphs import array, node_named, op_types, run, text
from tests.passes.imported.graphs import assert_equal, assert_left_alone, notes_of, read, whole

FLOAT, DOUBLE, INT = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64


def one(
    kind: str,
    *constants: np.ndarray[Any, Any] | None,
    shape: tuple[int, ...] = (2, 3),
    dtype: int = FLOAT,
    opset: int = 18,
    **facts: Any,
) -> ir.Model:
    """y = kind(x, constants), None: left out."""
    net = Net()
    inputs = ["" if array is None else net.constant(array) for array in constants]
    net.add(kind, "x", *inputs, name="it", out="y", **facts)
    return read(net, {"x": shape}, ["y"], opset, dict.fromkeys("xy", dtype))


def two(kind: str, shape: tuple[int, ...], dtype: int = INT) -> ir.Model:
    """y = kind(x, z)."""
    net = Net()
    net.add(kind, "x", "z", name="it", out="y")
    model = read(net, {"x": (2, 3), "z": shape}, ["y"], kinds={"z": dtype})
    model.graph.outputs[0].shape = ir.Shape((2, 3))
    return model


def test_what_is_plain_is_no_match() -> None:
    net = Net()
    y = net.add("ConvTranspose", "x", net.constant(whole(1, 3, 3, 2, 2)), strides=[2, 2])
    net.add("Relu", y, out="y")
    assert assert_left_alone(PlainForms(), read(net, {"x": (1, 3, 2, 2)}, ["y"])) == []


@pytest.mark.parametrize("kind", ["Tile", "Dropout", "Softplus", "Pow"])
def test_an_operator_of_somebody_elses_is_no_match(kind: str) -> None:
    more = {"Tile": [np.array([1, 2])], "Pow": [np.array(2)]}.get(kind, [])
    model = one(kind, *more)
    model.graph[0].domain = "mine"
    assert assert_left_alone(PlainForms(), model) == []


# ---- Tile -------------------------------------------------------------------------------------------------


def test_a_tile_before_and_after() -> None:
    model = one("Tile", np.array([3, 2], np.int64))
    assert notes_of(PlainForms(), model) == [("it", True, "repeated by Expand")]
    assert op_types(model) == ["Reshape", "Expand", "Reshape"]
    assert [node.name for node in model.graph] == ["it.apart", "it.spread", "it.together"]
    shapes = [array(node.inputs[1]).tolist() for node in model.graph]
    assert shapes == [[1, 2, 1, 3], [3, 2, 2, 3], [6, 6]]
    assert [list(shape_of(node.outputs[0])) for node in model.graph] == shapes


@settings(max_examples=30)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=4),
    dtype=st.sampled_from((FLOAT, DOUBLE, INT)),
)
def test_tiles_compute_the_same(sizes: list[tuple[int, int]], dtype: int) -> None:
    shape, times = zip(*sizes, strict=True)
    model = one("Tile", np.array(times, np.int64), shape=shape, dtype=dtype)
    x = whole(1, *shape).astype({FLOAT: np.float32, DOUBLE: np.float64, INT: np.int64}[dtype])
    assert_equal(PlainForms(), model, x)


def test_a_tile_of_computed_times_stays() -> None:
    reason = "how often it repeats is computed at run time"
    assert assert_left_alone(PlainForms(), two("Tile", (2,))) == [("it", False, reason)]


# ---- Dropout ----------------------------------------------------------------------------------------------


NOT_TRAINING = np.array(False)


@pytest.mark.parametrize(
    "more",
    [
        [],
        [np.array(0.5, np.float32)],
        [np.array(0.5, np.float32), NOT_TRAINING],
        [None, NOT_TRAINING],
    ],
)
def test_a_dropout_is_nothing(more: list[np.ndarray[Any, Any] | None]) -> None:
    model = one("Dropout", *more)
    assert notes_of(PlainForms(), model.clone()) == [("it", True, "does nothing outside of training")]
    assert_equal(PlainForms(), model, whole(1, 2, 3))
    assert op_types(model) == ["Identity"]
    assert model.graph[0].inputs[0] is model.graph.inputs[0]


def test_a_dropout_of_doubles_stays_one_of_doubles() -> None:
    model = one("Dropout", dtype=DOUBLE)
    PlainForms()(model)
    assert model.graph.outputs[0].dtype == ir.DataType.DOUBLE


def dropout(mask: bool = False, training: str = "", read_by: str = "") -> ir.Model:
    net = Net()
    more = ["", training] if training else []
    net.add("Dropout", "x", *more, name="it", out="y")
    if mask:
        net.nodes[-1].output.append("mask")
    if read_by:
        net.add(read_by, "mask", out="m")
    outputs = ["y", *(["m"] if read_by else [])]
    return read(net, {"x": (2, 3), **({"t": ()} if training == "t" else {})}, outputs, kinds={"t": 9, "m": 9})


def test_a_mask_that_nobody_reads_goes() -> None:
    model = dropout(mask=True)
    assert_equal(PlainForms(), model, whole(1, 2, 3))
    assert op_types(model) == ["Identity"]


def test_a_dropout_of_a_model_in_training_is_refused() -> None:
    for model in (one("Dropout", None, np.array(True)), dropout(training="t")):
        before = text(model)
        with pytest.raises(InputError, match=r"^node Dropout \(it\): is in training mode; export the model"):
            PlainForms()(model)
        assert text(model) == before


def test_a_dropout_whose_mask_is_read_is_refused() -> None:
    given = dropout(mask=True)
    given.graph.outputs.append(given.graph[0].outputs[1])
    for model in (dropout(mask=True, read_by="Not"), given):
        with pytest.raises(InputError, match=r"^node Dropout \(it\): its mask is read; export the model"):
            PlainForms()(model)


# ---- ConvTranspose with output_shape ----------------------------------------------------------------------


def deconv(
    size: tuple[int, ...], kernel: tuple[int, ...], wanted: tuple[int, ...], seed: int = 0, **facts: Any
) -> ir.Model:
    net = Net()
    inputs = ["x", net.constant(whole(seed, 2, 3, *kernel), "w"), net.constant(whole(seed + 2, 3), "b")]
    net.add("ConvTranspose", *inputs, name="it", out="y", output_shape=list(wanted), **facts)
    return read(net, {"x": (1, 2, *size)}, ["y"])


@pytest.mark.parametrize(
    ("auto_pad", "pads"),
    [("NOTSET", (1, 2, 0, 1)), ("SAME_LOWER", (1, 2, 0, 1)), ("SAME_UPPER", (0, 1, 1, 2))],
)
def test_a_size_becomes_padding(auto_pad: str, pads: tuple[int, ...]) -> None:
    """2 (5 - 1) + 3 - 10 = 1 and 6 - 1 + 4 - 6 = 3 go away; the larger part in front, or SAME_UPPER behind."""
    model = deconv((5, 6), (3, 4), (10, 6), strides=[2, 1], auto_pad=auto_pad)
    assert notes_of(PlainForms(), model) == [("it", True, f"its size by pads {list(pads)}")]
    node = node_named(model, "it")
    found = {key: integers(node, key, ()) for key in node.attributes}
    assert found == {"strides": (2, 1), "pads": pads, "output_padding": (0, 0)}


def test_a_size_below_the_input_is_refused() -> None:
    model = deconv((5, 6), (3, 3), (4, 6))
    with pytest.raises(
        InputError, match=r"^node ConvTranspose \(it\): output_shape \[4, 6\] is no size that"
    ):
        PlainForms()(model)


def test_a_size_beyond_the_windows_is_output_padding() -> None:
    model = deconv((5,), (2,), (15,), strides=[3])
    PlainForms()(model)
    node = node_named(model, "it")
    assert (integers(node, "pads", ()), integers(node, "output_padding", ())) == ((0, 0), (1,))


@settings(max_examples=50)
@given(
    size=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 2),
    change=st.tuples(st.integers(-3, 2), st.integers(-3, 2)),
    auto_pad=st.sampled_from(("NOTSET", "SAME_UPPER", "SAME_LOWER")),
    seed=st.integers(0, 99),
)
def test_sizes_compute_the_same(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: int,
    change: tuple[int, int],
    auto_pad: str,
    seed: int,
) -> None:
    """Of whole numbers, so that sums are equal in any order. ONNX infers no size below that of the input, and output
    padding is less than a stride."""
    full = [s * (n - 1) + (k - 1) * dilation + 1 for s, n, k in zip(stride, size, kernel, strict=True)]
    wanted = tuple(max(n, f + min(c, s - 1)) for n, f, c, s in zip(size, full, change, stride, strict=True))
    facts = {"strides": list(stride), "dilations": [dilation] * 2, "auto_pad": auto_pad}
    model = deconv(size, kernel, wanted, seed, **facts)
    assert_equal(PlainForms(), model, whole(seed + 5, 1, 2, *size))


def test_output_padding_that_is_said_counts() -> None:
    model = deconv((4,), (3,), (8,), strides=[2], output_padding=[1])
    assert_equal(PlainForms(), model, whole(3, 1, 2, 4))


# ---- Softplus and Mish ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Softplus", "Mish"])
def test_softplus_and_mish_keep_small_values(kind: str) -> None:
    """Against float64, within 4 units in the last place of float32: as many as there are roundings that count."""
    x = np.concatenate([np.linspace(-80, 80, 641), np.float64(2.0) ** -np.arange(1, 40), [0, 1e-30, -1e-30]])
    x = x.astype(np.float32)
    model = one(kind, shape=x.shape)
    reason = "written so that small values are not lost"
    assert notes_of(PlainForms(), model) == [("it", True, reason)]
    wide = x.astype(np.float64)
    want = np.maximum(wide, 0) + np.log1p(np.exp(-np.abs(wide)))
    if kind == "Mish":
        want = wide * np.tanh(want)
    np.testing.assert_allclose(run(model, x)[0], want, rtol=4 * 2**-23, atol=1e-37)


@pytest.mark.parametrize("kind", ["Softplus", "Mish"])
def test_softplus_before_and_after(kind: str) -> None:
    model = one(kind)
    PlainForms()(model)
    steps = [
        *("Abs", "Neg", "Exp", "Add", "Equal", "Sub", "Where", "Log", "Mul", "Div", "Where", "Max", "Add")
    ]
    more = ["Tanh", "Mul"] if kind == "Mish" else []
    assert op_types(model) == [*steps, *more, "Identity"]
    kinds = {node.op_type: node.outputs[0].dtype for node in model.graph}
    assert kinds.pop("Equal") == ir.DataType.BOOL
    assert set(kinds.values()) == {ir.DataType.FLOAT}
    assert {shape_of(node.outputs[0]) for node in model.graph} == {(2, 3)}
    names = [*(f"it.v{count}" for count in range(1, len(steps) + len(more) + 1)), "it"]
    assert [node.name for node in model.graph] == names
    assert [node.outputs[0].name for node in model.graph] == [*names[:-1], "y"]


@settings(max_examples=20)
@given(kind=st.sampled_from(("Softplus", "Mish")), shape=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_softplus_of_any_shape_computes_the_same(kind: str, shape: list[int]) -> None:
    """ONNX Runtime's own is another formula: float32, values up to 6, a few roundings each."""
    model = one(kind, shape=tuple(shape))
    assert_equal(PlainForms(), model, 2 * whole(1, *shape), atol=2e-6)


def test_softplus_of_doubles_stays() -> None:
    assert assert_left_alone(PlainForms(), one("Softplus", dtype=DOUBLE)) == []


# ---- Pow --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_whole_exponents_become_floats(dtype: type) -> None:
    model = one("Pow", np.array([1, 2, 3], dtype))
    assert notes_of(PlainForms(), model.clone()) == [("it", True, "its exponents as floats")]
    assert_equal(PlainForms(), model, whole(1, 2, 3))
    exponent = array(model.graph[0].inputs[1])
    assert (exponent.dtype, exponent.tolist()) == (np.float32, [1, 2, 3])


@settings(max_examples=20)
@given(exponent=st.integers(-2, 4), shape=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_powers_compute_the_same(exponent: int, shape: list[int]) -> None:
    """Powers of -2 .. 2 of powers of two round nothing."""
    model = one("Pow", np.array(exponent, np.int64), shape=tuple(shape))
    x = np.float32(2) ** whole(2, *shape)
    assert_equal(PlainForms(), model, x.astype(np.float32))


def test_other_powers_stay() -> None:
    assert assert_left_alone(PlainForms(), one("Pow", np.array(2, np.float32))) == []
    assert assert_left_alone(PlainForms(), one("Pow", np.array(2, np.int64), dtype=DOUBLE)) == []
    assert assert_left_alone(PlainForms(), one("Pow", np.array(2, np.float32), dtype=INT)) == []
    assert assert_left_alone(PlainForms(), two("Pow", (2, 3))) == []


# ---- Resize -----------------------------------------------------------------------------------------------


def resize(scales: list[float] | None, size: tuple[int, int] = (4, 6), **facts: Any) -> ir.Model:
    more = [None, None if scales is None else np.array(scales, np.float32)]
    if scales is None:
        more.append(np.array([1, 2, 5, 5], np.int64))
    return one("Resize", *more, shape=(1, 2, *size), mode="linear", **facts)


@pytest.mark.parametrize("scales", [[1, 1, 2, 2], [1, 1, 0.5, 0.5], [1, 1, 1.5, 1 / 3], None])
def test_sizes_of_whole_pixels_pass(scales: list[float] | None) -> None:
    assert assert_left_alone(PlainForms(), resize(scales)) == []


@pytest.mark.parametrize("scales", [[1, 1, 2, 1.6], [1, 1, 0.6, 1]])
def test_sizes_of_parts_of_pixels_are_refused(scales: list[float]) -> None:
    with pytest.raises(InputError, match=r"^node Resize \(it\): its scales \[1.0, 1.0, .*do not give whole"):
        PlainForms()(resize(scales))


def test_scales_of_some_axes_are_for_who_counts_them() -> None:
    assert assert_left_alone(PlainForms(), resize([1.6], axes=[3])) == []

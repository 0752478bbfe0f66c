"""Convolutions and pools along one axis become windows of one row."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from bhpe_compile.exchange.nodes import integers, shape_of
from bhpe_compile.passes.imported.flat_windows import FlatWindows
from tests.onnx_graphs import Net
from tests.passes.fold.graphs import array, node_named, op_types
from tests.passes.imported.graphs import assert_equal, assert_left_alone, notes_of, read, whole

KINDS = ["Conv", "ConvTranspose", "MaxPool", "AveragePool"]


def windows(
    kind: str, channels: int = 4, length: int = 9, kernel: int = 3, *, seed: int = 0, **facts: Any
) -> ir.Model:
    """One of them, with a bias where it has weights; a convolution has 6 channels a group behind it."""
    net = Net()
    inputs = ["x"]
    group = facts.get("group", 1)
    if kind == "Conv":
        inputs += [
            net.constant(whole(seed, 6 * group, channels // group, kernel), "w"),
            net.constant(whole(seed + 2, 6 * group), "b"),
        ]
    elif kind == "ConvTranspose":
        inputs += [
            net.constant(whole(seed, channels, 6, kernel), "w"),
            net.constant(whole(seed + 2, 6 * group), "b"),
        ]
    else:
        facts["kernel_shape"] = [kernel]
    net.add(kind, *inputs, name="window", out="y", **facts)
    return read(net, {"x": (2, channels, length)}, ["y"])


@pytest.mark.parametrize("kind", KINDS)
def test_before_and_after(kind: str) -> None:
    model = windows(kind, strides=[2], pads=[1, 2])
    before = shape_of(model.graph.outputs[0])
    weight = array(model.graph[0].inputs[1]) if kind in KINDS[:2] else None
    assert notes_of(FlatWindows(), model) == [("window", True, "a window of one row")]
    assert op_types(model) == ["Reshape", kind, "Reshape"]
    there, wide, back = model.graph
    assert wide.name == "window"
    assert shape_of(wide.inputs[0]) == (2, 4, 1, 9)
    assert array(there.inputs[1]).tolist() == [2, 4, 1, 9]
    assert shape_of(wide.outputs[0]) == (*before[:2], 1, before[2])
    assert array(back.inputs[1]).tolist() == list(before)
    assert model.graph.outputs[0] is back.outputs[0]
    assert integers(wide, "strides", ()) == (1, 2)
    assert integers(wide, "pads", ()) == (0, 1, 0, 2)
    if weight is not None:
        np.testing.assert_array_equal(array(wide.inputs[1]), weight[:, :, None])
        assert array(wide.inputs[2]).shape == (6,)
    else:
        assert integers(wide, "kernel_shape", ()) == (1, 3)


def test_every_attribute_gets_a_second_number() -> None:
    model = windows("ConvTranspose", strides=[3], dilations=[2], output_padding=[1], kernel_shape=[3])
    FlatWindows()(model)
    wide = node_named(model, "window")
    found = {key: integers(wide, key, ()) for key in wide.attributes}
    assert found == {"strides": (1, 3), "dilations": (1, 2), "output_padding": (0, 1), "kernel_shape": (1, 3)}


def test_windows_along_two_axes_and_other_operators_are_no_match() -> None:
    net = Net()
    y = net.add("MaxPool", "x", kernel_shape=[2, 2])
    y = net.add("Conv", y, net.constant(whole(0, 3, 4, 2, 2)))
    net.add("Softmax", "z", out="t")
    model = read(net, {"x": (1, 4, 5, 5), "z": (1, 4, 5)}, [y, "t"])
    assert assert_left_alone(FlatWindows(), model) == []


def test_an_operator_of_somebody_elses_is_no_match() -> None:
    model = windows("MaxPool")
    model.graph[0].domain = "mine"
    assert assert_left_alone(FlatWindows(), model) == []


def test_weights_that_are_computed_and_two_results_are_refused() -> None:
    reason = "its weights are computed at run time, or it has two results"
    net = Net()
    net.add("Conv", "x", "w", name="conv", out="y")
    net.add("ConvTranspose", "x", "v", name="back", out="u")
    net.add("MaxPool", "x", kernel_shape=[2], name="pool", out="z")
    net.nodes[-1].output.append("places")
    inputs = {"x": (1, 4, 5), "w": (6, 4, 3), "v": (4, 6, 3)}
    model = read(net, inputs, ["y", "u", "z", "places"], kinds={"places": TensorProto.INT64})
    found = assert_left_alone(FlatWindows(), model)
    assert found == [(name, False, reason) for name in ("conv", "back", "pool")]


def test_what_has_no_name_is_told_by_its_weight_or_operator() -> None:
    for kind, name in (("AveragePool", "AveragePool"), ("Conv", "w")):
        model = windows(kind)
        model.graph[0].name = None
        assert [site for site, *_ in notes_of(FlatWindows(), model)] == [name]


@settings(max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    channels=st.sampled_from((2, 4, 6)),
    length=st.integers(7, 12),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    grouped=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equivalence_and_second_run(
    kind: str,
    channels: int,
    length: int,
    kernel: int,
    stride: int,
    dilation: int,
    pads: tuple[int, int],
    grouped: bool,
    seed: int,
) -> None:
    """Of whole numbers, so that sums are equal in any order; a mean is rounded once, after its sum."""
    facts: dict[str, Any] = {"strides": [stride], "pads": [min(pad, kernel - 1) for pad in pads]}
    if kind in ("Conv", "ConvTranspose"):
        facts |= {"dilations": [dilation], "group": 2 if grouped else 1}
    elif kind == "MaxPool":
        facts |= {"dilations": [dilation]}
        if grouped and stride <= kernel:
            # no padding and no gaps: ONNX and ONNX Runtime count windows that begin behind the end differently
            facts |= {"ceil_mode": 1, "pads": [0, 0]}
    else:
        facts |= {"count_include_pad": int(grouped)}
    if kind == "ConvTranspose" and stride > 1 and grouped:
        facts["output_padding"] = [stride - 1]
    model = windows(kind, channels, length, kernel, seed=seed, **facts)
    assert_equal(FlatWindows(), model, whole(seed + 5, 2, channels, length))


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_that_is_automatic(kind: str, auto_pad: str) -> None:
    assert_equal(FlatWindows(), windows(kind, strides=[2], kernel=4, auto_pad=auto_pad), whole(7, 2, 4, 9))


def test_a_transposed_convolution_that_says_its_size() -> None:
    assert_equal(FlatWindows(), windows("ConvTranspose", strides=[2], output_shape=[18]), whole(8, 2, 4, 9))


def test_other_kinds_of_numbers_stay_theirs() -> None:
    net = Net()
    net.add("MaxPool", "x", kernel_shape=[2], name="pool", out="y")
    model = read(net, {"x": (1, 3, 6)}, ["y"], kinds={"x": TensorProto.INT8, "y": TensorProto.INT8})
    assert_equal(FlatWindows(), model, whole(9, 1, 3, 6).astype(np.int8))
    assert {value.dtype for node in model.graph for value in node.outputs} == {ir.DataType.INT8}

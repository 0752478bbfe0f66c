"""Transposed convolutions without overlap become 1x1 convolutions, spread over pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.nodes import integers, shape_of
from bhpe_compile.passes.imported.spread_layers import SpreadLayers
from tests.onnx_graphs import Net
from tests.passes.fold.graphs import array, node_named, op_types, run
from tests.passes.imported.graphs import assert_equal, assert_left_alone, notes_of, read, whole


def deconv(
    kernel: tuple[int, ...] = (2, 3),
    channels: tuple[int, int] = (3, 4),
    size: tuple[int, ...] = (3, 5),
    *,
    bias: bool = True,
    seed: int = 1,
    **facts: Any,
) -> ir.Model:
    """Its strides are its kernel where nothing else is said."""
    net = Net()
    inner, outer = channels
    group = facts.get("group", 1)
    inputs = ["x", net.constant(whole(seed, inner, outer, *kernel), "w")]
    if bias:
        inputs.append(net.constant(whole(seed + 2, outer * group), "b"))
    net.add("ConvTranspose", *inputs, name="up", out="y", **{"strides": list(kernel), **facts})
    return read(net, {"x": (2, inner, *size)}, ["y"])


@pytest.mark.parametrize("bias", [False, True])
def test_before_and_after(bias: bool) -> None:
    model = deconv(bias=bias)
    assert notes_of(SpreadLayers(), model) == [
        ("up", True, "a 1x1 convolution to 24 channels, spread over 2x3 pixels")
    ]
    assert op_types(model) == ["Conv", "Reshape", "Transpose", "Reshape"]
    conv, apart, move, join = model.graph
    assert [node.name for node in model.graph] == ["up", "up.split", "up.move", "up.spread"]
    assert integers(conv, "pads", ()) == (0, 0, 0, 0)
    assert integers(move, "perm", ()) == (0, 1, 4, 2, 5, 3)
    flat = array(conv.inputs[1])
    assert flat.shape == (24, 3, 1, 1)
    for index in np.ndindex(4, 2, 3):  # channel o, pixel i, j
        np.testing.assert_array_equal(
            flat[np.ravel_multi_index(index, (4, 2, 3)), :, 0, 0], whole(1, 3, 4, 2, 3)[:, *index]
        )
    assert len(conv.inputs) == (3 if bias else 2)
    if bias:
        np.testing.assert_array_equal(array(conv.inputs[2]), np.repeat(whole(3, 4), 6))
    shapes = [shape_of(node.outputs[0]) for node in model.graph]
    assert shapes == [(2, 24, 3, 5), (2, 4, 2, 3, 3, 5), (2, 4, 3, 2, 5, 3), (2, 4, 6, 15)]
    assert [array(node.inputs[1]).tolist() for node in (apart, join)] == [list(shapes[1]), list(shapes[3])]


def test_padding_that_is_none_is_no_padding() -> None:
    for facts in (
        {"auto_pad": "VALID"},
        {"pads": [0] * 4},
        {"output_padding": [0, 0]},
        {"dilations": [1, 1]},
    ):
        assert SpreadLayers()(deconv(**facts)).modified


def computed(place: int) -> ir.Model:
    """Weights (1) or bias (2) are an input."""
    net = Net()
    inputs = ["x", net.constant(whole(1, 3, 4, 2, 2), "w"), net.constant(whole(3, 4), "b")]
    inputs[place] = "z"
    net.add("ConvTranspose", *inputs, name="up", out="y", strides=[2, 2])
    return read(net, {"x": (2, 3, 3, 5), "z": (3, 4, 2, 2) if place == 1 else (4,)}, ["y"])


NO_WEIGHTS = "its weights are computed at run time, or it has groups"
OVERLAP = "its windows overlap or have gaps, or it is padded"
REFUSED = {
    "weights at run time": (computed(1), NO_WEIGHTS),
    "a bias at run time": (computed(2), "its bias is computed at run time"),
    "groups": (deconv((2, 2), (4, 2), group=2), NO_WEIGHTS),
    "windows along one axis": (deconv((2,), size=(5,)), NO_WEIGHTS),
    "overlap": (deconv((3, 3), strides=[2, 2]), OVERLAP),
    "overlap along one axis": (deconv((2, 3), strides=[2, 2]), OVERLAP),
    "gaps": (deconv((2, 2), strides=[3, 2]), OVERLAP),
    "no strides": (deconv((2, 2), strides=[1, 1]), OVERLAP),
    "one pixel": (deconv((1, 1)), OVERLAP),
    "padding": (deconv((2, 2), pads=[0, 1, 0, 0]), OVERLAP),
    "output padding": (deconv((2, 2), output_padding=[0, 1]), OVERLAP),
    "automatic padding": (deconv((2, 2), auto_pad="SAME_UPPER"), OVERLAP),
    "a size": (deconv((2, 2), output_shape=[6, 10]), OVERLAP),
    "dilated windows": (deconv((2, 2), dilations=[1, 2]), OVERLAP),
}


@pytest.mark.parametrize("case", REFUSED)
def test_left_alone(case: str) -> None:
    model, reason = REFUSED[case]
    assert assert_left_alone(SpreadLayers(), model.clone()) == [("up", False, reason)]


def test_other_operators_and_those_of_somebody_else_are_no_match() -> None:
    net = Net()
    net.add("Conv", "x", net.constant(whole(1, 4, 3, 2, 2)), strides=[2, 2], out="y")
    assert assert_left_alone(SpreadLayers(), read(net, {"x": (1, 3, 4, 4)}, ["y"])) == []
    model = deconv()
    model.graph[0].domain = "mine"
    assert assert_left_alone(SpreadLayers(), model) == []


def test_what_has_no_name_is_told_by_its_weight() -> None:
    model = deconv()
    model.graph[0].name = None
    assert [site for site, *_ in notes_of(SpreadLayers(), model)] == ["w"]
    model = computed(1)
    model.graph[0].name = None
    assert [site for site, *_ in notes_of(SpreadLayers(), model)] == ["deconv"]


def test_a_bias_that_is_left_out() -> None:
    net = Net()
    net.add("ConvTranspose", "x", net.constant(whole(1, 3, 4, 2, 2)), "", name="up", out="y", strides=[2, 2])
    assert_equal(SpreadLayers(), read(net, {"x": (1, 3, 2, 2)}, ["y"]), whole(2, 1, 3, 2, 2))


SIZES = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=40)
@given(kernel=SIZES, channels=SIZES, size=SIZES, bias=st.booleans(), seed=st.integers(0, 99))
def test_equivalence_and_second_run(
    kernel: tuple[int, int], channels: tuple[int, int], size: tuple[int, int], bias: bool, seed: int
) -> None:
    """Of whole numbers, so that sums are equal in any order."""
    model = deconv(kernel, channels, size, bias=bias, seed=seed)
    if kernel == (1, 1):
        assert_left_alone(SpreadLayers(), model)
    else:
        assert_equal(SpreadLayers(), model, whole(seed + 5, 2, channels[0], *size))


def test_several_of_them_and_what_reads_them() -> None:
    net = Net()
    y = net.add("ConvTranspose", "x", net.constant(whole(1, 3, 3, 2, 2), "w"), strides=[2, 2], name="one")
    z = net.add("ConvTranspose", net.add("Relu", y), "w", strides=[2, 2], name="two")
    model = read(net, {"x": (1, 3, 2, 2)}, [y, z])
    x = whole(4, 1, 3, 2, 2)
    before = run(model, x)
    assert [site for site, applied, _ in notes_of(SpreadLayers(), model) if applied] == ["one", "two"]
    for got, want in zip(run(model, x), before, strict=True):
        np.testing.assert_array_equal(got, want)
    assert node_named(model, "two").op_type == "Conv"

"""Nodes with stored weights are layers, under names that reports and commands can use."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.nodes import layer_of
from bhpe_compile.passes.imported.name_layers import NameLayers
from tests.onnx_graphs import Net, landmarks
from tests.passes.fold.graphs import run, text
from tests.passes.imported.graphs import read, whole


def chain(*layers: tuple[str, str]) -> ir.Model:
    """1x1 convolutions of two channels: the name of each node, and of its weights."""
    net = Net()
    y = "x"
    for index, (name, weight) in enumerate(layers):
        y = net.add("Conv", y, net.constant(whole(index, 2, 2, 1, 1), weight), name=name)
    return read(net, {"x": (1, 2, 3, 3)}, [y])


def names(model: ir.Model) -> list[str | None]:
    return [node.name for node in model.graph]


@pytest.mark.parametrize(
    ("name", "weight", "becomes"),
    [
        ("block.conv", "other.weight", "block.conv"),
        ("/block/conv", "w", "/block/conv"),
        ("", "block.conv.weight", "block.conv"),
        ("", "block/conv/kernel", "block/conv"),
        ("", "conv_Weights", "conv"),
        ("", "convweight", "conv"),
        ("", "conv.filter", "conv"),
        ("", "conv.weight.0", "conv.weight.0"),
        ("", "weight", "Conv"),
        ("a,b#c*d[0]?{e} f", "w", "a_b_c_d_0___e__f"),
        ("", "a,b.weight", "a_b"),
        ("a-b/c:d@e+f.1_g", "w", "a-b/c:d@e+f.1_g"),
    ],
)
def test_the_name_of_a_layer(name: str, weight: str, becomes: str) -> None:
    model = chain((name, weight))
    result = NameLayers()(model)
    assert result.notes == ()
    assert result.modified
    assert names(model) == [becomes]
    assert layer_of(model.graph[0]) == becomes


def test_names_are_counted_where_they_are_the_same() -> None:
    model = chain(("a", "u"), ("a", "v"), ("a_2", "w"), ("", "a.weight"), ("a,", "z"), ("a#", "y"))
    NameLayers()(model)
    assert names(model) == ["a", "a_2", "a_2_2", "a_3", "a_", "a__2"]
    assert [layer_of(node) for node in model.graph] == names(model)


def test_what_has_no_stored_weights_is_named_but_no_layer() -> None:
    net = Net()
    y = net.add("Conv", "x", "w")
    y = net.add("Mul", y, net.constant(whole(1, 1), "factor.weight"))
    y = net.add("MatMul", y, net.add("Transpose", y, perm=[0, 1, 3, 2]))
    model = read(net, {"x": (1, 2, 3, 3), "w": (2, 2, 1, 1)}, [y])
    NameLayers()(model)
    assert names(model) == ["Conv", "Mul", "Transpose", "MatMul"]
    assert [layer_of(node) for node in model.graph] == [None] * 4


def test_an_operator_of_somebody_elses_is_no_layer() -> None:
    model = chain(("", "a.weight"))
    model.graph[0].domain = "mine"
    NameLayers()(model)
    assert (names(model), layer_of(model.graph[0])) == (["Conv"], None)


def test_weights_of_products_are_their_second_factor() -> None:
    net = Net()
    y = net.add("Gemm", "x", net.constant(whole(1, 4, 3), "one.weight"))
    y = net.add("MatMul", y, net.constant(whole(2, 3, 2), "two.weight"))
    y = net.add("MatMul", net.constant(whole(3, 5, 1), "three.weight"), y)
    model = read(net, {"x": (1, 4)}, [y])
    NameLayers()(model)
    assert names(model) == ["one", "two", "MatMul"]
    assert [layer_of(node) for node in model.graph] == ["one", "two", None]


def test_values_without_a_name_of_their_own_get_one() -> None:
    model = chain(("a", "u"), ("b", "v"))
    first = model.graph[0].outputs[0]
    first.name = model.graph.outputs[0].name
    NameLayers()(model)
    values = [value.name for node in model.graph for value in node.outputs]
    assert len(set(values)) == 2
    assert model.graph.outputs[0].name == "v1"


@settings(max_examples=40)
@given(words=st.lists(st.text("ab_2,# *é", max_size=4), min_size=1, max_size=5))
def test_any_names_become_unique_and_usable_and_stay(words: list[str]) -> None:
    model = chain(*((word, f"{index}.{word}.weight") for index, word in enumerate(words)))
    x = whole(1, 1, 2, 3, 3)
    # ONNX Runtime takes no file with one name twice
    before = run(chain(*(("", f"{index}.weight") for index in range(len(words)))), x)[0]
    NameLayers()(model)
    found = names(model)
    assert len(set(found)) == len(words)
    assert all(name is not None and re.fullmatch(r"[\w.\-/+:@]+", name) for name in found)
    np.testing.assert_array_equal(run(model, x)[0], before)
    after = text(model)
    NameLayers()(model)
    assert text(model) == after
    assert [layer_of(node) for node in model.graph] == found


def test_a_network() -> None:
    model = ir.from_proto(landmarks())
    x = np.random.default_rng(0).random((1, 3, 32, 24), np.float32)
    before = run(model, x)[0]
    NameLayers()(model)
    layers = [layer for node in model.graph if (layer := layer_of(node)) is not None]
    assert layers == ["stem", "deep", "point", "groups", "head"]
    np.testing.assert_array_equal(run(model, x)[0], before)

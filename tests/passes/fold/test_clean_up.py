from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bhpe_compile.passes.fold.clean_up import CleanUp
from tests.passes.fold.graphs import Builder, node_named, op_types, run, text


def untidy() -> ir.Model:
    """An Identity, a dead branch, an unused weight, equal weights, two nodes of one name, traces, no bodies."""
    b = Builder(16)
    x = b.input("x", (1, 4, 3, 3))
    same = b.normal(4, 1, 1)
    y = b.add("Identity", [b.rprelu(x, "act")], "identity", (1, 4, 3, 3))
    y = b.add("Mul", [y, b.constant("first", same)], "twin", (1, 4, 3, 3))
    y = b.add("Add", [y, b.constant("second", same)], "sum", (1, 4, 3, 3))
    b.add("Relu", [x], "dead", (1, 4, 3, 3))
    b.constant("unused", b.normal(3))
    model = b.build(y)
    node_named(model, "sum").name = "twin"
    node_named(model, "act").metadata_props["trace"] = "somewhere.py:1"
    model.functions.clear()
    return model


def test_it_is_tidy_afterwards() -> None:
    model = untidy()
    x = Builder(17).normal(1, 4, 3, 3)
    result = CleanUp()(model)
    assert result.modified
    assert op_types(model) == ["RPReLU", "Mul", "Add"]
    assert len({node.name for node in model.graph}) == 3
    assert "unused" not in model.graph.initializers
    assert len({"first", "second"} & set(model.graph.initializers)) == 1
    assert b"somewhere" not in text(model)
    assert run(model, x)[0].shape == (1, 4, 3, 3)


def test_nodes_are_put_in_order() -> None:
    model = untidy()
    x = Builder(17).normal(1, 4, 3, 3)
    CleanUp()(model)
    before = run(model, x)[0]
    act = node_named(model, "act")
    model.graph.remove(act)
    model.graph.append(act)
    assert CleanUp()(model).modified
    assert op_types(model) == ["RPReLU", "Mul", "Add"]
    np.testing.assert_array_equal(run(model, x)[0], before)


def test_layers_and_outputs_keep_their_names() -> None:
    model = untidy()
    output = model.graph.outputs[0].name
    CleanUp()(model)
    assert model.graph.outputs[0].name == output
    assert node_named(model, "act").op_type == "RPReLU"


def test_a_tidy_model_is_left_alone() -> None:
    model = untidy()
    CleanUp()(model)
    after = text(model)
    result = CleanUp()(model)
    assert (result.modified, text(model)) == (False, after)


def test_outputs_that_become_one_value_stay_two() -> None:
    """The first has the value, and a node hands it on to the second; an input that is an output is handed on, too."""
    b = Builder(18)
    x = b.input("x", (1, 4))
    y = b.add("Relu", [x], "one", (1, 4))
    model = b.build(y, b.add("Identity", [y], "two", (1, 4)), b.add("Identity", [x], "three", (1, 4)))
    names = [value.name for value in model.graph.outputs]
    value = Builder(19).normal(1, 4)
    before = run(model, value)
    CleanUp()(model)
    assert [one.name for one in model.graph.outputs] == names == ["one.y", "two.y", "three.y"]
    assert op_types(model) == ["Relu", "Identity", "Identity"]
    assert [node.name for node in model.graph][1:] == ["three", "two.y.again"]
    for got, want in zip(run(model, value), before, strict=True):
        np.testing.assert_array_equal(got, want)
    after = text(model)
    CleanUp()(model)
    assert text(model) == after

"""Sums and products with constants behind a convolution: before and after, what is left alone, and the same outputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.runtime import run_model
from bhpe_compile.passes.base import Note
from bhpe_compile.passes.imported.join_affines import JoinAffines
from bhpe_compile.passes.imported.name_layers import NameLayers
from tests.onnx_graphs import Net

IMAGE = np.random.default_rng(7).standard_normal((1, 3, 6, 5)).astype(np.float32)


def number(net: Net, value: float) -> str:
    return net.constant(np.array([value], np.float32))


def run(model: ir.Model) -> np.ndarray:
    (found,) = run_model(ir.to_proto(model).SerializeToString(), {"image": IMAGE}).values()
    return found


def joined(made: onnx.ModelProto) -> tuple[ir.Model, ir.Model, list[Note]]:
    """The graph named, the same after the pass, and what the pass said."""
    before, after = ir.from_proto(made), ir.from_proto(made)
    NameLayers()(before)
    NameLayers()(after)
    notes = list(JoinAffines()(after).notes)
    again = JoinAffines()(after)
    assert not again.modified
    assert not any(note.applied for note in again.notes)
    return before, after, notes


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@settings(max_examples=20)
@given(
    words=st.lists(st.sampled_from(["Mul", "Add", "Sub", "Div", "from", "channels"]), min_size=1, max_size=4),
    transposed=st.booleans(),
    depthwise=st.booleans(),
    seed=st.integers(0, 9),
)
def test_all_of_them_go_and_the_outputs_stay(
    words: list[str], transposed: bool, depthwise: bool, seed: int
) -> None:
    net = Net(seed)
    if transposed:
        weight = net.constant(net.normal(3, 4, 2, 2), "up.weight")
        x, channels = net.add("ConvTranspose", "image", weight, name="up", strides=[2, 2]), 4
    else:
        channels = 3 if depthwise else 8
        group = 3 if depthwise else 1
        x = net.conv("image", 3, channels, group=group, pads=[1] * 4, name="layer")
    for word in words:
        if word == "from":
            x = net.add("Sub", number(net, 0.75), x)
        elif word == "channels":
            x = net.add("Mul", net.constant(net.normal(channels, 1, 1)), x)
        else:
            x = net.add(word, x, number(net, float(net.drawn.uniform(0.5, 2))))
    last = net.add("Relu", x, out="y")
    before, after, notes = joined(net.model({"image": (1, 3, 6, 5)}, [last]))
    assert kinds(after) == ["ConvTranspose" if transposed else "Conv", "Relu"]
    assert [note.applied for note in notes] == [True]
    assert after.graph[0].outputs[0].name == x  # who looks at that value finds it under its name
    np.testing.assert_allclose(run(after), run(before), rtol=1e-5, atol=1e-5)  # products in another order


def left_alone(case: str) -> tuple[onnx.ModelProto, str]:
    net = Net()
    x = net.conv("image", 3, 4, pads=[1] * 4, name="layer")
    if case == "read twice":
        y = net.add("Add", net.add("Mul", x, number(net, 2)), x, out="y")
    elif case == "an output":
        net.nodes[-1].output[0] = "y"
        net.add("Mul", "y", number(net, 2), out="z")
        return net.model({"image": (1, 3, 6, 5)}, ["y", "z"]), ""
    elif case == "along a row":
        y = net.add("Mul", x, net.constant(net.normal(1, 1, 1, 5)), out="y")
    elif case == "two computed ones":
        y = net.add("Mul", x, net.add("Sigmoid", "image"), out="y")
        net.nodes[0].input[1] = net.constant(net.normal(3, 3, 3, 3), "w")
        net.nodes[0].input[2] = net.constant(net.normal(3), "b")
    elif case == "more axes":
        y = net.add("Add", x, net.constant(net.normal(2, 1, 1, 1, 1)), out="y")
    elif case == "by nothing":
        y = net.add("Div", x, net.constant(np.array([1, 0, 1, 1], np.float32).reshape(4, 1, 1)), out="y")
    else:
        net.constants[0].CopyFrom(
            onnx.numpy_helper.from_array(
                net.normal(4, 3, 3, 3).astype(np.float16).astype(np.float32), "layer.weight"
            )
        )
        y = net.add("Mul", x, number(net, 1 / 3), out="y")
        return net.model({"image": (1, 3, 6, 5)}, [y]), "its weights are float16, and would not be any more"
    return net.model({"image": (1, 3, 6, 5)}, [y]), ""


@pytest.mark.parametrize(
    "case",
    ["read twice", "an output", "along a row", "two computed ones", "more axes", "by nothing", "float16"],
)
def test_left_alone(case: str) -> None:
    made, reason = left_alone(case)
    before, after, notes = joined(made)
    assert kinds(after) == kinds(before)
    assert [note.reason for note in notes if not note.applied] == ([reason] if reason else [])
    assert not any(note.applied for note in notes)


def test_an_output_keeps_its_name() -> None:
    net = Net()
    x = net.conv("image", 3, 4, pads=[1] * 4, name="layer")
    y = net.add("Add", net.add("Mul", x, number(net, 3)), number(net, 1), out="y")
    before, after, _ = joined(net.model({"image": (1, 3, 6, 5)}, [y]))
    assert (kinds(after), [one.name for one in after.graph.outputs]) == (["Conv"], ["y"])
    np.testing.assert_allclose(run(after), run(before), rtol=1e-5, atol=1e-5)


def test_another_layer_keeps_the_weights_that_both_read() -> None:
    net = Net()
    weight = net.constant(net.normal(3, 3, 3, 3), "both.weight")
    one, two = (net.add("Conv", "image", weight, name=name, pads=[1] * 4) for name in ("one", "two"))
    y = net.add("Sub", net.add("Mul", one, number(net, 3)), two, out="y")
    before, after, notes = joined(net.model({"image": (1, 3, 6, 5)}, [y]))
    assert [note.site for note in notes if note.applied] == ["one"]
    assert kinds(after) == ["Conv", "Conv", "Sub"]
    np.testing.assert_allclose(run(after), run(before), rtol=1e-5, atol=1e-5)


def test_grouped_transposed_convolutions_are_refused() -> None:
    net = Net()
    weight = net.constant(net.normal(3, 1, 2, 2), "up.weight")
    x = net.add("ConvTranspose", "image", weight, name="up", group=3, strides=[2, 2])
    before, after, notes = joined(
        net.model({"image": (1, 3, 6, 5)}, [net.add("Mul", x, number(net, 2), out="y")])
    )
    assert kinds(after) == kinds(before)
    assert [note.reason for note in notes] == ["the weights of transposed groups do not lie by output"]

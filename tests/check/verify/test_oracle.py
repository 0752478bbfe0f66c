"""The oracle: model.onnx in ONNX Runtime with what its layers read, and which of its parts no two programs agree on."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto

from bhpe_compile.check.verify.oracle import FLOAT, ROUNDED, SAME, Oracle, run_values
from bhpe_compile.exchange.float_parts import EXACT, chosen, float_parts, places
from bhpe_compile.networks.interface import Interface, Output
from tests.check.artefacts import SIZE, exact_network
from tests.onnx_graphs import Net
from tests.passes.lower.graphs import Builder, small_network


def image(seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)


def test_outputs_are_those_of_the_file_and_reads_those_of_its_values() -> None:
    model = ir.to_proto(exact_network())
    oracle = Oracle(model, Interface())
    feeds = {"image": image()}
    run = oracle.run(feeds)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [value.name for value in session.get_outputs()]
    assert list(run.outputs) == names == oracle.outputs  # the values brought out besides are no outputs
    for name, value in zip(names, session.run(None, feeds), strict=True):
        np.testing.assert_array_equal(run.outputs[name], value)
    assert list(run.reads) == list(oracle.layers)
    values = run_values(model, feeds, [layer.x for layer in oracle.layers.values()])
    for name, layer in oracle.layers.items():
        np.testing.assert_array_equal(run.reads[name], layer.of_value(values[layer.x]))
    np.testing.assert_array_equal(run.reads["stem"], oracle.layers["stem"].of_value(feeds["image"]))


def test_one_session_runs_many_pictures() -> None:
    oracle = Oracle(ir.to_proto(exact_network()), Interface())
    first, second, again = (oracle.run({"image": image(seed)}) for seed in (1, 2, 1))
    for name, read in first.reads.items():
        np.testing.assert_array_equal(read, again.reads[name])
    assert any((first.reads[name] != second.reads[name]).any() for name in first.reads)


def test_boxes_are_the_outputs_that_are_called_so() -> None:
    model = ir.to_proto(exact_network())
    name = model.graph.output[0].name
    assert Oracle(model, Interface(outputs=(Output(name, kind="boxes"),))).boxes == [name]
    assert Oracle(model, Interface()).boxes == []


def test_a_network_of_binary_and_8_bit_layers_has_no_float_parts() -> None:
    assert Oracle(ir.to_proto(exact_network()), Interface()).float_parts == ()


def test_float_layers_in_front_of_signs_are_named_in_order() -> None:
    oracle = Oracle(ir.to_proto(small_network(height=SIZE, width=SIZE)), Interface())
    assert oracle.float_parts == ("stem", "block.shortcut")


@pytest.mark.parametrize(
    ("op", "attributes"),
    [("Softmax", {"axis": 1}), ("Sigmoid", {}), ("GlobalAveragePool", {}), ("Atan", {}), ("HardSwish", {})],
)
@pytest.mark.parametrize("behind", [False, True])
def test_only_what_a_layer_reads_counts(op: str, attributes: dict[str, Any], behind: bool) -> None:
    assert op not in EXACT
    b = Builder(3)
    x = b.input("image", (1, 8, 4, 4))
    y = x if behind else b.add("Mul", [x, b.add(op, [x], "part", **attributes)], "weighed")
    y = b.binary_conv(y, "layer", 8, 8)
    model = ir.to_proto(b.build(b.add(op, [y], "part", **attributes) if behind else y))
    assert Oracle(model, Interface()).float_parts == (() if behind else ("part",))


def test_what_is_in_front_of_a_box_counts() -> None:
    b = Builder(3)
    y = b.add("Softmax", [b.input("image", (1, 8))], "part", axis=1)
    model = ir.to_proto(b.build(y))
    assert Oracle(model, Interface()).float_parts == ()
    assert Oracle(model, Interface(outputs=(Output(y, kind="boxes"),))).float_parts == ("part",)
    assert float_parts(model, ["image"]) == ()


def linear(b: Builder, x: str, name: str) -> str:
    """A linear layer of ours: it rounds what it reads."""
    shift = [b.constant(f"{name}.{word}", np.full(4, 0.5, np.float32)) for word in ("scale", "bias")]
    levels = b.constant(f"{name}.levels", np.ones((4, 8 if name == "first" else 4), np.int8))
    return b.add("FixedPointLinear", [x, levels, *shift], name, domain="bhpe")


@pytest.mark.parametrize("part", ["", "Erf"])
def test_what_is_rounded_behind_a_float_part_is_not_settled(part: str) -> None:
    b = Builder(3)
    x = b.input("image", (1, 8))
    y = linear(b, b.add(part, [x], "part") if part else x, "first")
    model = ir.to_proto(b.build(y))
    oracle = Oracle(model, Interface())
    assert oracle.float_parts == (("part",) if part else ())
    assert oracle.settled == (frozenset() if part else {model.graph.output[0].name})


def test_layers_in_front_of_a_float_part_are_settled() -> None:
    b = Builder(3)
    y = b.binary_conv(b.input("image", (1, 8, 4, 4)), "before", 8, 8)
    y = b.binary_conv(b.add("Sigmoid", [y], "part"), "behind", 8, 8)
    oracle = Oracle(ir.to_proto(b.build(y)), Interface())
    assert (oracle.float_parts, oracle.settled) == (("part",), {"before"})


def test_behind_a_float_part_layers_are_equal_where_those_in_front_read_the_same() -> None:
    b = Builder(3)
    y = b.binary_conv(b.input("image", (1, 8, 4, 4)), "before", 8, 8)
    y = b.binary_conv(b.add("Sigmoid", [y], "part"), "behind", 8, 8)
    y = b.binary_conv(y, "later", 8, 8)
    oracle = Oracle(ir.to_proto(b.build(y)), Interface())
    layers = {name: oracle.apart[name] for name in oracle.layers}
    assert layers == {"before": SAME, "behind": FLOAT, "later": SAME}
    assert oracle.settled == {"before"}
    assert list(oracle.run({"image": np.zeros((1, 8, 4, 4), np.float32)}).doubtful) == ["behind"]


def test_what_a_grid_rounds_behind_a_float_part_is_not_judged() -> None:
    b = Builder(3)
    y = linear(b, b.add("Erf", [b.input("image", (1, 8))], "part"), "first")
    oracle = Oracle(ir.to_proto(b.build(y)), Interface())
    assert set(oracle.apart.values()) == {ROUNDED}


@pytest.mark.parametrize("kind", ["simcc", "logits", "codes", "tensor"])
@pytest.mark.parametrize("part", ["Softmax", "Relu"])
def test_outputs_that_are_scores_name_the_float_parts_in_front(kind: str, part: str) -> None:
    b = Builder(3)
    y = b.add(part, [b.input("image", (1, 8))], "part")
    model = ir.to_proto(b.build(y))
    found = chosen(model, Interface(outputs=(Output(y, kind=kind),)))
    assert found == ({y: ("part",)} if part == "Softmax" and kind != "tensor" else {})


def test_what_an_argmax_gives_needs_no_description() -> None:
    net = Net()
    y = net.add("ArgMax", net.add("Softmax", "image", name="part"), axis=1)
    assert chosen(net.model({"image": (1, 8)}, [y], kinds={y: TensorProto.INT64}), Interface()) == {
        y: ("part",)
    }


def test_places_of_the_largest() -> None:
    scores = np.array([[[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]]])
    np.testing.assert_array_equal(places(scores), [[1, 0]])
    np.testing.assert_array_equal(places(np.array([[7, 5]])), [[7, 5]])

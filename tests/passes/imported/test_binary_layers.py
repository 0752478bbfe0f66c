"""Core convolutions of an ONNX graph become binary; stems, shortcuts, outputs and what has no binary form stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import ModelProto

from bhpe_compile.check.verify import verify
from bhpe_compile.check.verify.oracle import run_values
from bhpe_compile.compiler.imported import OnnxCompilation
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.exchange.nodes import array_of, integers, set_layer
from bhpe_compile.passes.imported.binary_layers import BinaryLayers
from bhpe_compile.passes.imported.name_layers import NameLayers
from bhpe_compile.passes.imported.roles import find_roles
from tests.onnx_graphs import Net, residual_network, save
from tests.passes.fold.graphs import text


def network(**middle: Any) -> ModelProto:
    """A stem, a block of two, a shortcut with a stride, and an output; `middle`: of the layer called "middle"."""
    net = Net()
    x = net.add("Relu", net.conv("image", 3, 16, pads=[1] * 4, name="stem"))
    y = net.add("Relu", net.conv(x, 16, 16, **{"pads": [1] * 4, "name": "middle", **middle}))
    x = net.add("Relu", net.add("Add", x, net.conv(y, 16, 16, pads=[1] * 4, name="end")))
    y = net.add("Relu", net.conv(x, 16, 32, pads=[1] * 4, strides=[2, 2], name="down"))
    x = net.add(
        "Add", net.conv(x, 16, 16, 1, strides=[2, 2], name="short"), net.conv(y, 32, 16, 1, name="less")
    )
    net.conv(net.add("Relu", x), 16, 5, 1, name="last")
    net.add("Identity", net.nodes[-1].output[0], out="maps")
    return net.model({"image": (1, 3, 8, 8)}, ["maps"], opset=18)


def named(model: ModelProto) -> ir.Model:
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    NameLayers()(graph)
    return graph


def test_roles_are_read_off_the_graph() -> None:
    assert find_roles(named(network()).graph) == {
        "stem": "stem",
        "short": "shortcut",
        "last": "output",
        **dict.fromkeys(("middle", "end", "down", "less"), "core"),
    }


def test_what_becomes_binary_and_what_stays() -> None:
    graph = named(network())
    result = BinaryLayers()(graph)
    assert {note.site: note.reason for note in result.notes if note.applied} == {
        "middle": "residual: identity",
        "end": "residual: identity",
        "down": "residual: repeated, of a 2x2 average pool",
        "less": "residual: mean over groups of channels",
    }
    refused = {note.site: note.reason.split(":")[0] for note in result.notes if not note.applied}
    assert refused == {
        "stem": "it is a stem",
        "short": "it is a shortcut",
        "last": "it computes an output",
    }
    kinds = [node.op_type for node in graph.graph]
    assert (kinds.count("BinaryConv2d"), kinds.count("RPReLU"), kinds.count("Conv")) == (4, 4, 3)
    assert (
        kinds.count("Relu") == 1
    )  # the stem's: those behind binary layers and behind sums they end are gone
    names = [node.name for node in graph.graph]
    assert len(set(names)) == len(names)
    assert {"middle", "middle.clip", "middle.sum", "middle.activation", "down.pool", "less.mean"} <= set(
        names
    )
    before = text(graph)
    again = BinaryLayers()(graph)
    assert not again.modified
    assert text(graph) == before


@pytest.mark.parametrize(("stride", "pads"), [(None, None), (1, 1), (2, 0)])
def test_the_geometry_of_a_binary_layer_is_said(stride: int | None, pads: int | None) -> None:
    """Also where the file leaves it to the defaults; a file need not say that there is one group."""
    net = Net()
    x = net.add("Relu", net.conv("image", 3, 8, 1, name="stem"))
    facts = {
        **({} if stride is None else {"strides": [stride] * 2}),
        **({} if pads is None else {"pads": [pads] * 4}),
    }
    kernel = 3 if pads else 1
    weight = net.constant(net.normal(8, 8, kernel, kernel), "middle.weight")
    y = net.add("Conv", x, weight, name="middle", **facts)
    net.conv(net.add("Relu", y), 8, 5, 1, name="last")
    graph = named(net.model({"image": (1, 3, 8, 8)}, [net.nodes[-1].output[0]], opset=18))
    assert [note.site for note in BinaryLayers()(graph).notes if note.applied] == ["middle"]
    node = next(node for node in graph.graph if node.name == "middle")
    assert node.op_type == "BinaryConv2d"
    found = {key: integers(node, key, ()) for key in node.attributes}
    assert found == {"strides": (stride or 1,) * 2, "pads": (pads or 0,) * 4}
    assert not array_of(node.inputs[4]).any()  # type: ignore[union-attr]


@pytest.mark.parametrize("place", [1, 2])
def test_weights_and_biases_at_run_time_are_refused(place: int) -> None:
    model = network()
    node = next(one for one in model.graph.node if one.name == "middle")
    given = next(one for one in model.graph.initializer if one.name == node.input[place])
    model.graph.initializer.remove(given)
    model.graph.input.append(onnx.helper.make_tensor_value_info(given.name, given.data_type, given.dims))
    graph = named(model)
    for one in graph.graph:
        if one.name == "middle":
            set_layer(one, "middle")
    reasons = {note.site: note.reason for note in BinaryLayers()(graph).notes}
    assert reasons["middle"] == "its weights are computed at run time"


def test_what_a_binary_layer_computes() -> None:
    """alpha times the sum of signs, the bias, and the clipped input: RPReLU of that, in NumPy."""
    graph = named(network())
    BinaryLayers()(graph)
    model = ir.to_proto(graph)
    feeds = {"image": np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    values = run_values(model, feeds, ["middle.clip", "middle.activation"])
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in network().graph.initializer}
    clipped, weight = values["middle.clip"].astype(np.float64), arrays["middle.weight"]
    assert np.abs(clipped).max() <= 1
    signs = np.pad(np.where(clipped >= 0, 1, -1), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(signs, (3, 3), (2, 3))
    sums = np.einsum("ncyxij,ocij->noyx", windows, np.where(weight >= 0, 1, -1))
    alpha, bias = np.abs(weight).mean((1, 2, 3)), arrays["middle.bias"]
    value = sums * alpha[None, :, None, None] + bias[None, :, None, None] + clipped
    want = np.where(value > 0, value, value / 4)
    np.testing.assert_allclose(values["middle.activation"], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"group": 4}, "it has groups"),
        ({"pads": [0, 0, 2, 2]}, "its padding changes the size"),
        ({"dilations": [2, 2], "pads": [2] * 4}, "its window is 3x3, dilated by 2"),
        ({"kernel": 2, "pads": [0, 0, 1, 1]}, "its window is 2x2"),
    ],
)
def test_forms_without_a_binary_kernel(facts: dict[str, Any], says: str) -> None:
    notes = BinaryLayers()(named(network(**facts))).notes
    (found,) = [note.reason for note in notes if note.site == "middle"]
    assert found.startswith(says)


def test_layers_that_are_named_stay() -> None:
    notes = BinaryLayers(("mid*",))(named(network())).notes
    assert [note.reason for note in notes if note.site == "middle"] == ["not binary: --keep-float 'mid*'"]


def test_a_binary_network_is_compiled_bit_for_bit(tmp_path: Path) -> None:
    path = save(network(), tmp_path / "m.onnx")
    np.savez(tmp_path / "a.npz", image=np.random.default_rng(0).random((2, 3, 8, 8), np.float32))
    options = CompileOptions("native", calibrate=(tmp_path / "a.npz",), residual="fp32")
    made = OnnxCompilation(options, path)
    made.check(tmp_path / "out")
    assert made.write(tmp_path / "out").untrained
    found = verify(tmp_path / "out")
    assert (found.ok, found.equal, found.binary_layers, found.int8_layers) == (True, True, 4, 3)


def test_a_network_without_any_is_refused(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Relu", net.conv("image", 3, 8, name="stem"))
    net.conv(net.add("Relu", net.conv(x, 8, 8, group=8, name="deep")), 8, 4, 1, name="last")
    model = net.model({"image": (1, 3, 8, 8)}, [net.nodes[-1].output[0]])
    made = OnnxCompilation(CompileOptions("native", dense="fp32"), save(model, tmp_path / "m.onnx"))
    with pytest.raises(
        InputError, match="no convolution here can be binary: 1 times: it is a stem"
    ) as caught:
        _ = made.exported
    assert "1 times: it has groups: too few products" in str(caught.value)


def test_a_file_with_scales_is_for_8_bits(tmp_path: Path) -> None:
    net = Net()
    step = net.constant(np.array(0.1, np.float32)), net.constant(np.array(3, np.uint8))
    net.add("DequantizeLinear", net.add("QuantizeLinear", "x", *step), *step, out="y")
    path = save(net.model({"x": (1, 4)}, ["y"]), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="has scales of its own, for 8 bits: say --scheme int8"):
        OnnxCompilation(CompileOptions("native", dense="fp32"), path).check(tmp_path / "out")


def test_a_residual_network_keeps_its_depthwise_layer() -> None:
    notes = {note.site: note.reason for note in BinaryLayers()(named(residual_network())).notes}
    assert notes["deep"].startswith("it has groups")
    assert notes["point"] == "residual: identity"

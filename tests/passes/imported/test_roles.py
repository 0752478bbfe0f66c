"""What a layer of an ONNX graph is for: a small graph for each rule."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import pytest
from onnx import ModelProto, TensorProto, helper

from bhpe_compile.passes.imported.name_layers import NameLayers
from bhpe_compile.passes.imported.roles import Role, find_roles
from tests.onnx_graphs import Net, landmarks, mobile, residual_network
from tests.passes.imported.graphs import read, whole

Roles = dict[str, Role]


ACTIVATIONS = (
    *("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Selu"),
    *("Gelu", "Erf", "Mish", "Softplus", "Softsign", "Softmax", "Swish", "Celu"),
)
LINEAR = (
    *("Conv", "ConvTranspose", "Gemm", "BatchNormalization", "Identity", "Dropout", "Resize"),
    *("AveragePool", "MaxPool", "GlobalAveragePool"),
)


def conv(net: Net, x: str, name: str) -> str:
    return net.conv(x, 4, 4, 1, name=name)


def norm(net: Net, x: str) -> str:
    return net.add("BatchNormalization", x, *(net.constant(abs(whole(index, 4))) for index in range(4)))


def roles(net: Net, *outputs: str, inputs: tuple[str, ...] = ("x",)) -> Roles:
    model = read(net, dict.fromkeys(inputs, (1, 4, 6, 6)), outputs)
    NameLayers()(model)
    return find_roles(model.graph)


def block(
    main: Callable[[Net, str], str],
    short: Callable[[Net, str], str],
    join: str = "Add",
    swapped: bool = False,
) -> Roles:
    """A stem, two paths from behind it that meet, and a layer that computes the output."""
    net = Net()
    x = net.add("Relu", conv(net, "x", "stem"))
    paths = [main(net, x), short(net, x)]
    x = net.add(join, *(paths[::-1] if swapped else paths))
    return roles(net, conv(net, net.add("Relu", x), "last"))


ENDS: Roles = {"stem": "stem", "last": "output"}


def active(net: Net, x: str) -> str:
    return conv(net, net.add("Relu", conv(net, x, "one")), "two")


def test_a_chain() -> None:
    assert block(active, lambda net, x: x) == {**ENDS, "one": "core", "two": "core"}


@pytest.mark.parametrize("swapped", [False, True])
def test_a_shortcut_meets_a_path_with_an_activation(swapped: bool) -> None:
    found = block(active, lambda net, x: conv(net, x, "short"), swapped=swapped)
    assert found == {**ENDS, "one": "core", "two": "core", "short": "shortcut"}


def test_what_is_linear_may_stand_on_a_shortcut() -> None:
    def short(net: Net, x: str) -> str:
        x = net.add("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4)
        return norm(net, conv(net, net.add("Identity", norm(net, conv(net, x, "short"))), "more"))

    assert block(active, short) == {
        **ENDS,
        **{"one": "core", "two": "core", "short": "shortcut", "more": "shortcut"},
    }


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_activation_behind_it_ends_a_shortcut(kind: str) -> None:
    """Nodes of these kinds, which nobody runs: structure is all that is asked."""
    for place in ("behind", "before"):
        net = Net()
        x = net.add("Relu", conv(net, "x", "stem"))
        side = conv(net, net.add(kind, x) if place == "before" else x, "side")
        side = net.add(kind, side) if place == "behind" else side
        x = net.add("Add", active(net, x), side)
        model = ir.from_proto(_bare(net, conv(net, net.add("Relu", x), "last")))
        NameLayers()(model)
        assert find_roles(model.graph)["side"] == "core"


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("kind", [*LINEAR, "Transpose", "Mul"])
def test_every_linear_operator_may_stand_on_a_shortcut(kind: str, place: str) -> None:
    """Others may not: what they do is unknown."""
    net = Net()
    x = net.add("Relu", conv(net, "x", "stem"))
    more = [net.constant(whole(1, 4, 4, 1, 1))] if kind in ("Conv", "ConvTranspose", "Gemm") else []
    side = conv(net, net.add(kind, x, *more) if place == "before" else x, "side")
    side = net.add(kind, side, *more) if place == "behind" else side
    x = net.add("Add", active(net, x), side)
    model = ir.from_proto(_bare(net, conv(net, x, "last")))
    NameLayers()(model)
    assert find_roles(model.graph)["side"] == ("shortcut" if kind in LINEAR else "core")


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_every_activation_makes_the_other_path_active(kind: str) -> None:
    net = Net()
    x = net.add("Relu", conv(net, "x", "stem"))
    y = conv(net, net.add(kind, conv(net, x, "one")), "two")
    x = net.add("Add", y, conv(net, x, "short"))
    model = ir.from_proto(_bare(net, conv(net, x, "last")))
    NameLayers()(model)
    assert find_roles(model.graph)["short"] == "shortcut"


def _bare(net: Net, output: str) -> ModelProto:
    """The file without shapes: not every operator is in every version of ONNX."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", output))
    return helper.make_model(helper.make_graph(net.nodes, "net", [x], [y], net.constants))


def test_two_paths_without_activation_have_no_shortcut() -> None:
    found = block(lambda net, x: conv(net, x, "one"), lambda net, x: conv(net, x, "two"))
    assert found == {**ENDS, "one": "core", "two": "core"}


def test_paths_that_are_not_added_have_no_shortcut() -> None:
    found = block(active, lambda net, x: conv(net, x, "side"), join="Mul")
    assert found["side"] == "core"


def test_a_path_that_others_read_is_no_shortcut() -> None:
    net = Net()
    x = net.add("Relu", conv(net, "x", "stem"))
    side = conv(net, x, "side")
    y = net.add("Add", active(net, x), side)
    y = net.add("Add", y, net.add("Relu", side))
    assert roles(net, conv(net, net.add("Relu", y), "last"))["side"] == "core"


def test_a_path_from_somewhere_else_is_no_shortcut() -> None:
    """What it is added to does not begin where it does."""
    net = Net()
    x = net.add("Relu", conv(net, "x", "stem"))
    z = net.add("Relu", conv(net, "z", "other stem"))
    y = net.add("Add", conv(net, net.add("Relu", conv(net, x, "one")), "two"), conv(net, z, "side"))
    found = roles(net, conv(net, net.add("Relu", y), "last"), inputs=("x", "z"))
    assert found == {**ENDS, "other_stem": "stem", "one": "core", "two": "core", "side": "core"}


def test_a_sum_with_itself_is_no_shortcut() -> None:
    net = Net()
    x = net.add("Relu", conv(net, "x", "stem"))
    side = conv(net, x, "side")
    y = net.add("Relu", net.add("Add", side, side))
    assert roles(net, conv(net, y, "last"))["side"] == "core"


def test_stems_read_inputs_only() -> None:
    """Through operations without weights, of several inputs, and twice the same."""
    net = Net()
    both = net.add("Add", net.add("Relu", "x"), net.add("Mul", "z", "z"))
    stem = conv(net, net.add("Add", both, both), "stem")
    mixed = conv(net, net.add("Add", net.add("Relu", stem), "x"), "mixed")
    assert roles(net, conv(net, net.add("Relu", mixed), "last"), inputs=("x", "z")) == {
        **ENDS,
        "mixed": "core",
    }


def test_outputs_are_the_last_layers_on_some_way() -> None:
    """Behind operations without weights, of each output; a layer behind it on another way does not count."""
    net = Net()
    x = net.add("Relu", conv(net, "x", "stem"))
    early = conv(net, x, "early")
    late = conv(net, net.add("Relu", conv(net, net.add("Relu", early), "between")), "late")
    other = conv(net, x, "other")
    both = net.add("Add", net.add("Sigmoid", late), net.add("Tanh", other))
    assert roles(net, net.add("Sigmoid", early), both) == {
        "stem": "stem",
        **dict.fromkeys(("early", "late", "other"), "output"),
        "between": "core",
    }


def test_an_output_that_is_an_input() -> None:
    net = Net()
    y = conv(net, net.add("Relu", conv(net, "x", "stem")), "last")
    assert roles(net, "x", y) == ENDS


def test_the_only_layer_is_a_stem() -> None:
    net = Net()
    assert roles(net, conv(net, "x", "only")) == {"only": "stem"}


def test_layers_that_are_no_convolutions_are_heads() -> None:
    net = Net()
    x = net.add("Relu", conv(net, "x", "stem"))
    x = net.add("ConvTranspose", x, net.constant(whole(1, 4, 4, 2, 2)), strides=[2, 2], name="up")
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    for name in ("first", "second"):
        x = net.add("Gemm", net.add("Relu", x), net.constant(whole(2, 4, 4)), name=name)
    assert roles(net, x) == {"stem": "stem", "up": "head", "first": "head", "second": "output"}


def test_whole_networks() -> None:
    found = []
    for model in (landmarks(), residual_network(), mobile()):
        graph = ir.from_proto(model)
        NameLayers()(graph)
        found.append(find_roles(graph.graph))
    assert found[0] == {
        "stem": "stem",
        **dict.fromkeys(("deep", "point", "groups"), "core"),
        "head": "output",
    }
    assert found[1] == {
        "stem": "stem",
        **dict.fromkeys(("deep", "point", "last"), "core"),
        "head": "output",
    }
    assert {name for name, role in found[2].items() if role != "core"} == {"stem", "last"}

"""FuseEpilogue: what a convolution absorbs, in which order, and why it stops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.fuse_epilogue import FuseEpilogue
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from tests.passes.lower.evaluate import evaluate, reference
from tests.passes.lower.graphs import Builder, kinds, node_of, run, second_run, small_network

SHAPE = (1, 16, 4, 6)
Follow = Callable[[Builder, str], str]


def fused(*steps: Follow, kernel: str = "binary") -> tuple[ir.Model, str]:
    """A convolution `conv` of the image and what follows, after the pass; and the pass's reason about it."""
    b = Builder(1)
    y = b.input("image", SHAPE)
    if kernel == "binary":
        y = b.binary_conv(y, "conv", 16, 16)
    else:
        weight = b.normal(16, 16, 1, 1, std=0.25).astype(np.float16).astype(np.float32)
        y = b.add("Conv", [y, b.constant("conv.weight", weight)], "conv", kernel_shape=[1, 1])
    for step in steps:
        y = step(b, y)
    model = run(b.build(y), SelectKernels())
    result = FuseEpilogue()(model)
    (note,) = (n for n in result.notes if n.site == "conv")
    assert result.modified == any(n.applied for n in result.notes)
    assert note.applied == note.reason.startswith("absorbed ")
    return model, note.reason


def relu(b: Builder, y: str) -> str:
    return b.add("Relu", [y], f"relu{len(b.nodes)}")


def rprelu(b: Builder, y: str) -> str:
    return b.rprelu(y, f"act{len(b.nodes)}", 16)


def affine(b: Builder, y: str) -> str:
    name = f"affine{len(b.nodes)}"
    scale = b.constant(f"{name}.s", 1 + b.normal(16, 1, 1, std=0.1))
    return b.add("ChannelAffine", [y, scale, b.constant(f"{name}.b", b.normal(16, 1, 1))], name, "bhpe")


def plus(b: Builder, y: str) -> str:
    return b.add("Add", [y, "image"], f"plus{len(b.nodes)}")


def plus_after(b: Builder, y: str) -> str:
    """The image stands first."""
    return b.add("Add", ["image", y], f"plus{len(b.nodes)}")


def prelu(b: Builder, y: str, *shape: int) -> str:
    name = f"prelu{len(b.nodes)}"
    return b.add("PRelu", [y, b.constant(f"{name}.slopes", b.normal(*(shape or (16, 1, 1)), std=0.7))], name)


def leaky_relu(b: Builder, y: str, **facts: float) -> str:
    return b.add("LeakyRelu", [y], f"leaky{len(b.nodes)}", **facts)


def clip(b: Builder, y: str, low: float | None = -0.5, high: float | None = 0.75) -> str:
    name = f"clip{len(b.nodes)}"
    ends = [
        "" if end is None else b.constant(f"{name}.{word}", np.array(end, np.float32))
        for word, end in (("low", low), ("high", high))
    ]
    return b.add("Clip", [y, *ends], name)


def softmax(b: Builder, y: str) -> str:
    return b.add("Softmax", [y], "end", axis=1)


STOPS: dict[str, tuple[tuple[Follow, ...], str]] = {
    "nothing": ((), "nothing to absorb: end of the chain"),
    "another operator": ((softmax,), "nothing to absorb: Softmax follows"),
    "everything": (
        (affine, plus, rprelu, plus_after, softmax),
        "absorbed ChannelAffine, Add, RPReLU, Add; Softmax follows",
    ),
    "two affines": ((affine, affine), "absorbed ChannelAffine, ChannelAffine; end of the chain"),
    "affine after a residual": (
        (plus, affine),
        "absorbed Add; the affine comes after a residual or an activation",
    ),
    "affine after an activation": (
        (relu, affine),
        "absorbed Relu; the affine comes after a residual or an activation",
    ),
    "affine after a shortcut": (
        (relu, plus, affine),
        "absorbed Relu, Add; the affine comes after a residual or an activation",
    ),
    "two activations": ((rprelu, rprelu), "absorbed RPReLU; a second activation"),
    "relu twice": ((relu, relu), "absorbed Relu; a second activation"),
    "relu after rprelu": ((rprelu, relu), "absorbed RPReLU; a second activation"),
    "rprelu after relu": ((relu, rprelu), "absorbed Relu; a second activation"),
    "relu after a shortcut": ((plus, plus, relu), "absorbed Add, Add; a second activation"),
    "rprelu after a shortcut": ((plus, plus, rprelu), "absorbed Add, Add; a second activation"),
    "residual and shortcut": ((plus, plus), "absorbed Add, Add; end of the chain"),
    "a second shortcut": ((plus, plus, plus), "absorbed Add, Add; a second shortcut"),
    "a second shortcut after an activation": ((relu, plus, plus), "absorbed Relu, Add; a second shortcut"),
    "a constant": (
        (lambda b, y: b.add("Add", [y, b.constant("one", b.normal(*SHAPE))], "one"),),
        "nothing to absorb: a constant is added",
    ),
    "a constant first": (
        (lambda b, y: b.add("Add", [b.constant("one", b.normal(*SHAPE)), y], "one"),),
        "nothing to absorb: a constant is added",
    ),
    "itself": ((lambda b, y: b.add("Add", [y, y], "twice"),), "nothing to absorb: several readers"),
    "broadcast": (
        (lambda b, y: b.add("Add", [y, b.add("GlobalAveragePool", ["image"], "mean")], "sum"),),
        "nothing to absorb: shapes are broadcast",
    ),
    "computed scale": (
        (lambda b, y: affine_of(b, y, computed=True),),
        "nothing to absorb: the affine's parameters are computed at run time",
    ),
    "a shift that is left": (
        (lambda b, y: b.rprelu(y, "p", 16, shift=0.25),),
        "nothing to absorb: the activation subtracts what no bias took over",
    ),
    "computed slope": (
        (lambda b, y: rprelu_of(b, y),),
        "nothing to absorb: the activation's parameters are computed at run time",
    ),
    "other activations": ((prelu, softmax), "absorbed PRelu; Softmax follows"),
    "prelu twice": ((prelu, prelu), "absorbed PRelu; a second activation"),
    "leaky relu after clip": ((clip, leaky_relu), "absorbed Clip; a second activation"),
    "clip after leaky relu": ((leaky_relu, clip), "absorbed LeakyRelu; a second activation"),
    "clip after a shortcut": ((plus, plus, clip), "absorbed Add, Add; a second activation"),
    "prelu after a shortcut": ((plus, plus, prelu), "absorbed Add, Add; a second activation"),
    "slopes of pixels": (
        (lambda b, y: prelu(b, y, 16, 4, 6),),
        "nothing to absorb: its slopes are computed at run time, or differ by pixel",
    ),
    "slopes of rows": (
        (lambda b, y: prelu(b, y, 1, 4, 1),),
        "nothing to absorb: its slopes are computed at run time, or differ by pixel",
    ),
    "computed slopes": (
        (lambda b, y: b.add("PRelu", [y, b.add("Abs", [b.constant("s", b.normal(16, 1, 1))], "made")], "p"),),
        "nothing to absorb: its slopes are computed at run time, or differ by pixel",
    ),
    "computed limits": (
        (lambda b, y: b.add("Clip", [y, b.add("Abs", [b.constant("s", np.float32(1))], "made")], "c"),),
        "nothing to absorb: its limits are computed at run time",
    ),
}


def affine_of(b: Builder, y: str, computed: bool) -> str:
    scale = b.constant("a.s", b.normal(16, 1, 1))
    made = b.add("Abs", [scale], "made") if computed else scale
    return b.add("ChannelAffine", [y, made, b.constant("a.b", b.normal(16, 1, 1))], "a", "bhpe")


def rprelu_of(b: Builder, y: str) -> str:
    gamma = b.constant("p.gamma", np.zeros((16, 1, 1), np.float32))
    beta, zeta = (b.constant(f"p.{role}", b.normal(16, 1, 1)) for role in ("beta", "zeta"))
    return b.add("RPReLU", [y, gamma, b.add("Abs", [beta], "made"), zeta], "p", "bhpe")


@pytest.mark.parametrize("case", STOPS)
def test_where_it_stops_and_why(case: str) -> None:
    steps, reason = STOPS[case]
    assert fused(*steps)[1] == reason


@pytest.mark.parametrize("case", STOPS)
def test_dense_layers_stop_at_the_same(case: str) -> None:
    steps, reason = STOPS[case]
    assert fused(*steps, kernel="dense")[1] == reason


def test_an_affine_after_another_is_composed_with_it() -> None:
    b = Builder(5)
    y = affine(b, b.binary_conv(b.input("image", SHAPE), "conv", 16, 16))
    constants = {i.name: i for i in b.initializers}
    model = b.build(y)
    given = {n: g.array_of(model.graph.initializers[n]) for n in constants}
    old, new = (given["conv.scale"], given["conv.bias"]), (given["affine1.s"], given["affine1.b"])
    run(model, SelectKernels(), FuseEpilogue())
    operands = g.operands_of(node_of(model, "conv"))
    s, shift = (np.asarray(v, np.float64).reshape(-1) for v in new)
    scale, bias = (np.asarray(v, np.float64) for v in old)
    # in float64, then rounded once
    np.testing.assert_array_equal(g.array_of(operands["scale"]), (scale * s).astype(np.float32))
    np.testing.assert_array_equal(g.array_of(operands["bias"]), (bias * s + shift).astype(np.float32))
    assert kinds(model) == {"BinaryConv2d": 1}
    assert model.graph.outputs[0].name == y


def test_parameters_of_an_activation() -> None:
    """beta and zeta become operands, and are the very constants of model.onnx, as is the bias."""
    b = Builder(5)
    model = b.build(b.rprelu(b.binary_conv(b.input("image", SHAPE), "conv", 16, 16), "act", 16))
    given = {role: model.graph.initializers[f"conv.{role}"] for role in ("scale", "bias")}
    given |= {role: model.graph.initializers[f"act.{role}"] for role in ("beta", "zeta")}
    run(model, SelectKernels(), FuseEpilogue())
    node = node_of(model, "conv")
    operands = g.operands_of(node)
    for role, value in given.items():
        assert operands[role] is value, role
    assert g.text(node, "activation") == "leaky"


def slopes(*values: float) -> str:
    """The activation chosen for these slopes of the first channels; the others are 0."""
    b = Builder()
    model = b.build(b.rprelu(b.binary_conv(b.input("image", SHAPE), "conv", 16, 16), "act", 16))
    beta = np.zeros((16, 1, 1), np.float32)
    beta[: len(values), 0, 0] = values
    model.graph.initializers["act.beta"].const_value = ir.tensor(beta)
    return g.text(node_of(run(model, SelectKernels(), FuseEpilogue()), "conv"), "activation")


def test_only_where_no_slope_is_above_one_it_is_a_maximum() -> None:
    """max(v, beta * v) is RPReLU's choice up to a slope of 1, for negative slopes as well."""
    assert slopes(1.0, -3.0, 0.25) == "leaky"
    assert slopes(0.5, 1.5) == "rprelu"
    assert slopes(1.5, 2.5) == "rprelu"


def constant_of(node: ir.Node, role: str) -> list[float]:
    array = g.array_of(g.operand(node, role))
    assert array is not None
    assert array.dtype == np.float32
    return array.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("alpha", "found"), [(None, ("leaky", 0.01)), (0.25, ("leaky", 0.25)), (1.5, ("rprelu", 1.5))]
)
def test_a_leaky_relu_is_an_activation_with_one_slope(alpha: float | None, found: tuple[str, float]) -> None:
    facts = {} if alpha is None else {"alpha": alpha}
    node = node_of(fused(lambda b, y: leaky_relu(b, y, **facts))[0], "conv")
    activation, slope = found
    assert g.text(node, "activation") == activation
    assert constant_of(node, "beta") == [float(np.float32(slope))] * 16
    assert constant_of(node, "zeta") == [0.0] * 16


def test_the_slopes_of_a_prelu_are_those_of_its_channels() -> None:
    for shape in ((16, 1, 1), (1, 16, 1, 1), (1,), (1, 1, 1)):
        model, _ = fused(lambda b, y, shape=shape: prelu(b, y, *shape))  # type: ignore[misc]
        (given,) = [v for name, v in model.graph.initializers.items() if name.endswith(".slopes")]
        array = g.array_of(given)
        assert array is not None
        node = node_of(model, "conv")
        assert constant_of(node, "beta") == np.broadcast_to(array.reshape(-1), (16,)).tolist()
        assert constant_of(node, "zeta") == [0.0] * 16
        assert g.text(node, "activation") == ("leaky" if array.max() <= 1 else "rprelu")


@pytest.mark.parametrize(
    ("ends", "limits"),
    [((-1.0, 2.0), [-1, 2]), ((None, 6.0), [-np.inf, 6]), ((0.0, 6.0), [0, 6]), ((0.5, None), [0.5, np.inf])],
)
def test_the_limits_of_a_clip(ends: tuple[float | None, float | None], limits: list[float]) -> None:
    node = node_of(fused(lambda b, y: clip(b, y, *ends))[0], "conv")
    assert (g.text(node, "activation"), constant_of(node, "limits")) == ("clip", limits)


def test_a_clip_at_zero_is_a_relu() -> None:
    node = node_of(fused(lambda b, y: clip(b, y, 0.0, None))[0], "conv")
    assert (g.text(node, "activation"), "limits" in g.roles(node)) == ("relu", False)


@pytest.mark.parametrize("step", [plus, plus_after])
def test_what_is_added_first_is_the_residual_and_then_the_shortcut(step: Follow) -> None:
    model, _ = fused(step, relu, step)
    node = node_of(model, "conv")
    image = model.graph.inputs[0]
    assert g.operand(node, "residual") is image
    assert g.operand(node, "shortcut") is image
    facts = [
        g.text(node, "residual_kind"),
        g.integer(node, "residual_pool"),
        g.integer(node, "residual_clip"),
    ]
    assert facts == ["same", 0, 0]
    assert g.text(node, "activation") == "relu"


def test_after_an_activation_there_is_only_the_shortcut() -> None:
    model, _ = fused(relu, plus)
    node = node_of(model, "conv")
    assert "residual" not in g.roles(node)
    assert g.operand(node, "shortcut") is model.graph.inputs[0]


def test_residuals_of_every_form() -> None:
    model = run(small_network(), SelectKernels(), FuseEpilogue())
    assert not {"Add", "RPReLU", "ChannelAffine"} & set(kinds(model)) - {"Add"}
    conv2 = node_of(model, "block.conv2")
    assert {"residual", "beta", "shortcut"} <= set(g.roles(conv2))
    assert g.text(conv2, "residual_kind") == "repeat"
    assert g.integer(conv2, "residual_clip") == 1
    assert g.integer(conv2, "residual_pool") == 0
    assert g.text(node_of(model, "down.conv1"), "residual_kind") == "group_mean"


def test_it_stops_where_others_read_the_value() -> None:
    """A second reader, or the caller."""
    b = Builder()
    y = b.binary_conv(b.input("image", SHAPE), "conv", 16, 16)
    z = b.rprelu(y, "act", 16)
    model = run(b.build(y, z), SelectKernels())
    result = FuseEpilogue()(model)
    assert kinds(model)["RPReLU"] == 1
    assert not result.modified
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [
        ("conv", False, "nothing to absorb: end of the chain")
    ]
    b = Builder()
    y = b.binary_conv(b.input("image", SHAPE), "conv", 16, 16)
    model = run(b.build(b.rprelu(y, "one", 16), b.add("Abs", [y], "two")), SelectKernels())
    assert FuseEpilogue()(model).notes[0].reason == "nothing to absorb: several readers"


def test_binary_layers_choose_before_dense_ones() -> None:
    """Either could take the sum, though the dense one comes first in the graph."""
    b = Builder()
    x = b.input("image", SHAPE)
    dense, binary = b.dense_conv(x, "dense", 16, 16), b.binary_conv(x, "binary", 16, 16)
    model = run(b.build(b.add("Add", [dense, binary], "sum")), SelectKernels())
    reasons = {n.site: n.reason for n in FuseEpilogue()(model).notes}
    assert reasons == {
        "binary": "absorbed Add; end of the chain",
        "dense": "absorbed ChannelAffine; BinaryConv2d follows",
    }
    dense_out = g.result(node_of(model, "dense"), "out")
    assert g.operand(node_of(model, "binary"), "residual") is dense_out


def test_sums_of_vectors_stay() -> None:
    """Residuals are maps; the sum of two linear layers is left to TVM."""
    b = Builder()
    x = b.input("image", (1, 12))
    ends = []
    for name in ("one", "two"):
        weight = b.constant(f"{name}.weight", b.normal(5, 12).astype(np.float16).astype(np.float32))
        ends.append(b.add("Gemm", [x, weight, b.constant(f"{name}.bias", b.normal(5))], name, transB=1))
    model = run(b.build(b.add("Add", ends, "sum")), SelectKernels())
    assert [n.reason for n in FuseEpilogue()(model).notes] == ["nothing to absorb: shapes are broadcast"] * 2


FOLLOWS = {
    **{"affine": affine, "plus": plus, "after": plus_after, "relu": relu, "rprelu": rprelu},
    **{"prelu": prelu, "leaky": leaky_relu, "clip": clip},
}


@settings(max_examples=30)
@given(
    steps=st.lists(st.sampled_from(sorted(FOLLOWS)), max_size=6),
    kernel=st.sampled_from(["binary", "dense"]),
    slope=st.sampled_from([0.0, 1.5, -0.5]),
    seed=st.integers(0, 1000),
)
def test_equivalence_and_second_run(steps: list[str], kernel: str, slope: float, seed: int) -> None:
    """Any chain computes the same, fused or not; a second run changes nothing."""
    b = Builder(seed)
    y = b.input("image", SHAPE)
    y = b.binary_conv(y, "conv", 16, 16) if kernel == "binary" else b.dense_conv(y, "conv", 16, 16)
    for step in steps:
        y = b.rprelu(y, f"act{len(b.nodes)}", 16, slope) if step == "rprelu" else FOLLOWS[step](b, y)
    model = b.build(b.add("Abs", [y], "end"))
    image = b.normal(*SHAPE)
    (want,) = reference(model, image)
    run(model, SelectKernels(), FuseEpilogue())
    assert second_run(FuseEpilogue(), model) == (False, False)
    (got,) = evaluate(run(model, *lower_passes()[3:]), {"image": image})
    # one affine instead of several, in float32: values below 100
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=5e-5)

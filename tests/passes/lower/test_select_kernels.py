"""What gets which kernel, how odd binary output counts are padded, and what is refused, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.errors import InputError
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from tests.passes.lower.evaluate import evaluate, reference
from tests.passes.lower.graphs import Builder, node_of, pack_words, run, second_run

Add = Callable[[Builder, str], str]


def half(array: np.ndarray) -> np.ndarray:
    """Rounded as weights are stored."""
    return array.astype(np.float16).astype(np.float32)


def model_of(add: Add, shape: tuple[int, ...] = (1, 8, 6, 6)) -> ir.Model:
    b = Builder()
    return b.build(add(b, b.input("image", shape)))


def kernel(model: ir.Model) -> ir.Node:
    """The only kernel node."""
    (node,) = (n for n in model.graph if g.is_kernel(n))
    return node


def conv(**attributes: Any) -> Add:
    groups = attributes.get("group", 1)

    def add(b: Builder, x: str) -> str:
        weight = b.constant("odd.weight", half(b.normal(8, 8 // groups, 3, 3)))
        return b.add("Conv", [x, weight], "odd", **attributes)

    return add


def binary_deconv(b: Builder, x: str) -> str:
    values = {"threshold": b.normal(8), "weight": pack_words(b.rng.random((8, 8, 4, 4)) < 0.5)}
    values |= {"scale": b.normal(8), "bias": b.normal(8)}
    inputs = [x, *(b.constant(f"odd.{role}", array) for role, array in values.items())]
    facts: dict[str, Any] = {"strides": [2, 2], "pads": [1] * 4, "channels": 8}
    return b.add("PackedBinaryConvTranspose2d", inputs, "odd", "bhpe", **facts)


def gemm(transposed: bool = True, **attributes: Any) -> Add:
    def add(b: Builder, x: str) -> str:
        weight = b.constant("odd.weight", half(b.normal(*((5, 8) if transposed else (8, 5)))))
        return b.add("Gemm", [x, weight, b.constant("odd.bias", b.normal(5))], "odd", **attributes)

    return add


def deconv(**attributes: Any) -> Add:
    def add(b: Builder, x: str) -> str:
        return b.add(
            "ConvTranspose", [x, b.constant("odd.weight", half(b.normal(8, 8, 4, 4)))], "odd", **attributes
        )

    return add


def max_pool(**attributes: Any) -> Add:
    return lambda b, x: b.add("MaxPool", [x], "odd", kernel_shape=[3, 3], **attributes)


def computed_weight(b: Builder, x: str) -> str:
    weight = b.add("Abs", [b.constant("w", half(b.normal(8, 8, 3, 3)))], "made")
    return b.add("Conv", [x, weight], "odd", kernel_shape=[3, 3])


def float_deconv(b: Builder, x: str) -> str:
    weight = b.constant("odd.weight", np.full((8, 8, 4, 4), 0.1, np.float32))
    return b.add("ConvTranspose", [x, weight], "odd", kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4)


LEFT = {
    "deconv that float16 cannot hold": (float_deconv, "its weights are no float16 numbers"),
    "groups": (conv(group=2), "it has groups"),
    "weights computed": (computed_weight, "its weights are computed at run time"),
    "output padding": (deconv(strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]), "only 4x4, stride 2"),
    "grouped deconv": (deconv(strides=[2, 2], pads=[1] * 4, group=2), "it has groups"),
    "pool dilation": (max_pool(dilations=[2, 2]), "its windows are dilated"),
}


def assert_left(model: ir.Model, reason: str) -> None:
    """The node "odd" stays, and a note says that it will be slow, and why."""
    before = [node.op_type for node in model.graph]
    result = SelectKernels()(model)
    (note,) = [note for note in result.notes if note.site == "odd"]
    assert (result.modified, note.applied) == (False, False)
    assert note.reason.startswith("computed slowly, by TVM's default schedule: ")
    assert reason in note.reason
    assert [node.op_type for node in model.graph] == before


@pytest.mark.parametrize("case", LEFT)
def test_what_has_no_kernel_is_left_to_tvm_and_noted(case: str) -> None:
    add, reason = LEFT[case]
    assert_left(model_of(add), reason)


WINDOWS = {
    "dilation": (conv(dilations=[2, 2]), {"dilation": 2}),
    "strides that differ": (conv(strides=[1, 2]), {"stride": [1, 2]}),
    "pads that differ": (conv(pads=[1, 0, 1, 0]), {"padding": [1, 0, 1, 0]}),
    "dilations that differ": (conv(dilations=[1, 2]), {"dilation": [1, 2]}),
    "depthwise": (conv(group=8), {"kernel": 3}),
    "pool ceil": (max_pool(ceil_mode=1, strides=[2, 2]), {"kernel": 3}),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_windows_of_any_geometry_have_a_kernel(case: str) -> None:
    add, facts = WINDOWS[case]
    model = model_of(add)
    SelectKernels()(model)
    node = kernel(model)
    assert node.op_type == {"depthwise": g.DEPTHWISE, "pool ceil": "MaxPool2d"}.get(case, "DenseConv2d")
    found = g.facts_of(node)
    assert {
        name: found[name] if isinstance(found[name], int) else list(found[name]) for name in facts
    } == facts


def test_weights_that_float16_cannot_hold_stay_float32() -> None:
    def add(value: float) -> Add:
        weight = np.full((8, 8, 1, 1), value, np.float32)
        return lambda b, x: b.add("Conv", [x, b.constant("w", weight)], "odd", kernel_shape=[1, 1])

    kinds = []
    for value in (0.5, 0.1):
        model = model_of(add(value))
        SelectKernels()(model)
        kinds.append(describe(kernel(model)).weight_dtype)
    assert kinds == ["float16", "float32"]


@pytest.mark.parametrize(
    ("add", "transposed"),
    [(gemm(transB=1, alpha=2.0), 1), (gemm(transB=1, beta=0.5), 1), (gemm(False), 0)],
    ids=["alpha", "beta", "not transposed"],
)
def test_other_gemms_are_left(add: Add, transposed: int) -> None:
    model = model_of(add, (1, 8))
    assert g.integer(next(iter(model.graph)), "transB") == transposed
    assert_left(model, "only Gemm with transB=1 and alpha=beta=1")


def test_gemm_is_a_flat_convolution_with_its_bias() -> None:
    model = model_of(gemm(transB=1), (1, 8))
    want = g.array_of(model.graph.initializers["odd.bias"])
    SelectKernels()(model)
    node = kernel(model)
    assert node.op_type == "DenseConv2d"
    assert [g.integer(node, n) for n in ("flat", "kernel", "stride", "padding", "channels")] == [
        1,
        1,
        1,
        0,
        8,
    ]
    operands = g.operands_of(node)
    np.testing.assert_array_equal(g.array_of(operands["bias"]), want)
    np.testing.assert_array_equal(g.array_of(operands["scale"]), np.ones(5))


def test_conv_without_bias_gets_the_neutral_affine() -> None:
    model = model_of(conv(kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))
    SelectKernels()(model)
    node = kernel(model)
    operands = g.operands_of(node)
    np.testing.assert_array_equal(g.array_of(operands["scale"]), np.ones(8))
    np.testing.assert_array_equal(g.array_of(operands["bias"]), np.zeros(8))
    assert [g.integer(node, n) for n in ("flat", "kernel", "stride", "padding", "channels")] == [
        0,
        3,
        2,
        1,
        8,
    ]


@pytest.mark.parametrize(
    ("add", "shape", "kind"),
    [
        (deconv(kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4), (1, 8, 6, 6), "DenseConvTranspose2d"),
        (max_pool(strides=[2, 2], pads=[1] * 4), (1, 8, 6, 6), "MaxPool2d"),
        (binary_deconv, (1, 8, 6, 6), "BinaryConvTranspose2d"),
    ],
)
def test_kernel_and_note_of_each_kind(add: Add, shape: tuple[int, ...], kind: str) -> None:
    result = SelectKernels()(model_of(add, shape))
    assert kernel(result.graph).op_type == kind
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("odd", True, f"computed by {kind}")]


def mean(*axes: int, **facts: Any) -> Add:
    return lambda b, x: b.add("ReduceMean", [x, b.constant("axes", np.array(axes))], "odd", **facts)


@pytest.mark.parametrize(
    "add",
    [mean(2, 3), mean(-1, -2), mean(3, 2, keepdims=0), lambda b, x: b.add("GlobalAveragePool", [x], "odd")],
    ids=["axes", "from behind", "flat", "pool"],
)
def test_means_over_all_pixels_have_a_kernel(add: Add) -> None:
    model = model_of(add)
    SelectKernels()(model)
    node = kernel(model)
    assert (node.op_type, g.roles(node)) == ("MapMean", ("x",))


@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2), (1, 2, 3), (0, 1)])
def test_other_means_are_left_alone(axes: tuple[int, ...]) -> None:
    model = model_of(mean(*axes))
    assert not SelectKernels()(model).modified


def test_means_of_other_ranks_or_types_or_axes_at_run_time_are_left_alone() -> None:
    assert not SelectKernels()(model_of(mean(2, 3), (1, 8, 6, 6, 2))).modified
    model = model_of(mean(2, 3))
    model.graph[0].outputs[0].dtype = ir.DataType.DOUBLE
    assert not SelectKernels()(model).modified
    model = model_of(mean(2, 3))
    model.graph.initializers["axes"].const_value = None
    assert not SelectKernels()(model).modified


def test_other_operations_are_left_alone() -> None:
    model = model_of(lambda b, x: b.add("Sigmoid", [x], "other"))
    result = SelectKernels()(model)
    assert not result.modified
    assert result.notes == ()
    assert [n.op_type for n in model.graph] == ["Sigmoid"]


def binary_linear(b: Builder, x: str, channels: int, out: int) -> str:
    parameters = [
        b.constant("two.threshold", b.normal(channels, std=0.1)),
        b.constant("two.weight", pack_words(b.rng.random((out, channels)) < 0.5)),
        b.constant("two.scale", b.normal(out)),
        b.constant("two.bias", b.normal(out)),
    ]
    return b.add("PackedBinaryLinear", [x, *parameters], "two", "bhpe", channels=channels)


@pytest.mark.parametrize("out", [1, 7, 8, 20])
@pytest.mark.parametrize("flat", [False, True])
def test_any_number_of_outputs_is_one_kernel(out: int, flat: bool) -> None:
    b = Builder(out)
    if flat:
        model = b.build(binary_linear(b, b.input("image", (1, 40)), 40, out))
    else:
        model = b.build(b.binary_conv(b.input("image", (1, 24, 5, 4)), "two", 24, out, 3, 1, 1))
    SelectKernels()(model)
    assert [n.op_type for n in model.graph] == ["BinaryConv2d"]
    assert g.shape_of(g.operands_of(kernel(model))["scale"]) == (out,)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 0), (4, 1, 1), (3, 2, 1)])
@pytest.mark.parametrize("binary", [False, True])
def test_other_transposed_convolutions_are_left_and_binary_ones_refused(
    kernel: int, stride: int, padding: int, binary: bool
) -> None:
    def add(b: Builder, x: str) -> str:
        facts: dict[str, Any] = {"strides": [stride] * 2, "pads": [padding] * 4}
        if not binary:
            weight = b.constant("odd.weight", half(b.normal(8, 8, kernel, kernel)))
            return b.add("ConvTranspose", [x, weight], "odd", kernel_shape=[kernel] * 2, **facts)
        values = {"threshold": b.normal(8), "weight": pack_words(b.rng.random((8, 8, kernel, kernel)) < 0.5)}
        values |= {"scale": b.normal(8), "bias": b.normal(8)}
        inputs = [x, *(b.constant(f"odd.{role}", array) for role, array in values.items())]
        return b.add("PackedBinaryConvTranspose2d", inputs, "odd", "bhpe", channels=8, **facts)

    if not binary:
        assert_left(model_of(add), "only 4x4, stride 2, padding 1 has a kernel")
        return
    with pytest.raises(InputError, match="layer odd"):
        SelectKernels()(model_of(add))


@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 1, 0, 1]])
def test_binary_windows_are_square_and_padded_alike(pads: list[int]) -> None:
    def add(b: Builder, x: str) -> str:
        values = {"threshold": b.normal(8), "weight": pack_words(b.rng.random((8, 8, 3, 3)) < 0.5)}
        values |= {"scale": b.normal(8), "bias": b.normal(8)}
        inputs = [x, *(b.constant(f"odd.{role}", array) for role, array in values.items())]
        return b.add("PackedBinaryConv2d", inputs, "odd", "bhpe", channels=8, strides=[1, 1], pads=pads)

    if len(set(pads)) == 1:
        assert SelectKernels()(model_of(add)).modified
        return
    with pytest.raises(InputError, match="layer odd: binary layers have square windows"):
        SelectKernels()(model_of(add))


def eight_bit(add: Add, low: float = -2.0, high: float = 3.0) -> ir.Model:
    model = model_of(add)
    QuantizeDense({"odd": (low, high)})(model)
    return model


@pytest.mark.parametrize("add", [conv(), deconv(strides=[2, 2], pads=[1] * 4)], ids=["conv", "deconv"])
def test_constants_of_8_bit_layers_are_copied(add: Add) -> None:
    """Step, zero point, levels, scale and bias stand in model.onnx; nothing is derived from them here."""
    model = eight_bit(add)
    layer = next(n for n in model.graph if n.name == "odd")
    _, step, zero, levels, scale, bias = layer.inputs
    transposed = layer.op_type == "Int8ConvTranspose2d"
    run(model, SelectKernels())
    kernel = node_of(model, "odd")
    assert kernel.op_type == ("Int8ConvTranspose2d" if transposed else "Int8Conv2d")
    operands = g.operands_of(kernel)
    assert operands["x"] is model.graph.inputs[0]
    assert (operands["weight"], operands["scale"], operands["bias"]) == (levels, scale, bias)
    arrays = {role: g.array_of(value) for role, value in operands.items()}
    assert (g.array_of(step), g.array_of(zero)) == (np.float32(5 / 255), 102)
    np.testing.assert_array_equal(arrays["quantization"], np.array([np.float32(5 / 255), 102], np.float32))
    assert arrays["zero"] is not None
    assert (arrays["zero"].dtype, arrays["zero"].item()) == (np.int32, 102)
    facts = [g.integer(kernel, word) for word in ("kernel", "stride", "padding", "flat", "channels")]
    assert facts == ([4, 2, 1, 0, 8] if transposed else [3, 1, 0, 0, 8])
    assert g.text(kernel, "activation") == "none"


@pytest.mark.parametrize("role", ["step", "zero"])
def test_steps_computed_at_run_time_are_refused(role: str) -> None:
    model = eight_bit(conv())
    model.graph.initializers[f"odd.{role}"].const_value = None
    with pytest.raises(
        InputError,
        match=r"^layer odd: its step or zero point is computed at run time\nin pass select-kernels, at odd$",
    ):
        SelectKernels()(model)


def test_a_binary_linear_layer_is_a_1x1_convolution() -> None:
    b = Builder(2)
    model = b.build(binary_linear(b, b.input("image", (1, 40)), 40, 5))
    SelectKernels()(model)
    node = kernel(model)
    facts = [g.integer(node, word) for word in ("kernel", "stride", "padding", "flat", "channels")]
    assert facts == [1, 1, 0, 1, 40]
    assert g.roles(node) == ("x", "input_threshold", "weight", "scale", "bias")
    assert (g.text(node, "activation"), g.text(node, "layer")) == ("none", "two")


def test_facts_of_pools() -> None:
    node = kernel(run(model_of(max_pool(strides=[2, 2], pads=[1] * 4)), SelectKernels()))
    assert [g.integer(node, word) for word in ("kernel", "stride", "padding")] == [3, 2, 1]
    node = kernel(run(model_of(max_pool()), SelectKernels()))
    assert [g.integer(node, word) for word in ("kernel", "stride", "padding")] == [3, 1, 0]


def test_a_gemm_of_transposed_inputs_is_left() -> None:
    def add(b: Builder, x: str) -> str:
        return b.add("Gemm", [x, b.constant("odd.weight", half(b.normal(5, 8)))], "odd", transA=1, transB=1)

    assert_left(model_of(add, (8, 1)), "only Gemm with transB=1 and alpha=beta=1")


def test_a_second_output_of_a_pool_is_left() -> None:
    """The places of the maxima have no kernel."""
    model = model_of(max_pool())
    node = next(iter(model.graph))
    node.resize_outputs(2)
    assert_left(model, "it also tells where the largest values are")


def test_operators_of_other_domains_are_left_alone() -> None:
    """Though they are called like one of ONNX's."""
    model = model_of(lambda b, x: b.add("MaxPool", [x], "odd", kernel_shape=[3, 3]))
    next(iter(model.graph)).domain = "elsewhere"
    result = SelectKernels()(model)
    assert (result.modified, result.notes) == (False, ())


@settings(max_examples=25)
@given(
    kind=st.sampled_from(["dense", "int8", "binary", "up", "pool"]),
    channels=st.integers(1, 40),
    out=st.integers(1, 9),
    kernel_size=st.sampled_from([1, 2, 3]),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    size=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    seed=st.integers(0, 1000),
)
def test_equivalence_and_second_run(
    kind: str,
    channels: int,
    out: int,
    kernel_size: int,
    stride: int,
    padding: int,
    size: tuple[int, int],
    seed: int,
) -> None:
    """The kernels compute what ONNX Runtime computes of the layers; a second run changes nothing."""
    b = Builder(seed)
    x = b.input("image", (1, channels, *size))
    geometry = {"strides": [stride] * 2, "pads": [min(padding, kernel_size - 1)] * 4}
    if kind == "binary":
        y = b.binary_conv(x, "layer", channels, out, kernel_size, stride, padding)
    elif kind == "up":
        weight = b.constant("layer.weight", half(b.normal(channels, out, 4, 4)))
        y = b.add(
            "ConvTranspose",
            [x, weight, b.constant("layer.bias", b.normal(out))],
            "layer",
            strides=[2, 2],
            pads=[1] * 4,
        )
    elif kind == "pool":
        y = b.add("MaxPool", [x], "layer", kernel_shape=[kernel_size] * 2, **geometry)
    else:
        weight = b.constant("layer.weight", half(b.normal(out, channels, kernel_size, kernel_size, std=0.3)))
        y = b.add("Conv", [x, weight, b.constant("layer.bias", b.normal(out))], "layer", **geometry)
    model = b.build(y)
    if kind == "int8":
        QuantizeDense({"layer": (-2.0, 2.5)})(model)
    image = b.normal(1, channels, *size)
    (want,) = reference(model, image)
    run(model, SelectKernels())
    assert second_run(SelectKernels(), model) == (False, False)
    (got,) = evaluate(run(model, *lower_passes()[2:]), {"image": image})
    if kind in ("dense", "up"):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=5e-5)  # float32 sums in another order
    else:
        np.testing.assert_array_equal(got, want)

"""The folded graph in torch: every operation gives the bits of ONNX Runtime, optimized or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bhpe_compile.exchange.frozen import Frozen, UnsupportedNodeError
from bhpe_compile.passes.fold import fold_passes
from tests.check.artefacts import SIZE, exact_network
from tests.passes.fold.graphs import Builder, run

Array = NDArray[Any]
LEVELS = (
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
)
FEW = settings(max_examples=20)


def check(model: ir.Model, *inputs: Array) -> None:
    """torch and ONNX Runtime, with all and with no graph optimizations: the same bits. So does torch where the inputs
    are one picture of several."""
    frozen = Frozen(model)
    found = frozen(*(torch.from_numpy(one) for one in inputs))
    if all(len(one) == 1 for one in inputs):
        several = [torch.from_numpy(np.concatenate([one[:, ::-1], one, one * 2])) for one in inputs]
        for name, value in frozen.pictures(*several).items():
            torch.testing.assert_close(value.chunk(3)[1], found[name], rtol=0, atol=0, equal_nan=True)
    for level in LEVELS:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 3
        content = ir.to_proto(model).SerializeToString()
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        feeds = dict(zip([one.name for one in session.get_inputs()], inputs, strict=True))
        names = [one.name for one in session.get_outputs()]
        for name, want in zip(names, session.run(None, feeds), strict=True):
            np.testing.assert_array_equal(found[name].numpy(), want, err_msg=f"{name}, {level}")


def values(seed: int, *shape: int) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3, shape)).astype(np.float32)


@FEW
@given(
    kind=st.sampled_from(["BinaryConv2d", "BinaryConvTranspose2d", "BinaryLinear"]),
    channels=st.integers(1, 70),
    out=st.integers(1, 9),
    kernel=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 999),
)
def test_binary_layers(
    kind: str, channels: int, out: int, kernel: int, size: tuple[int, int], seed: int
) -> None:
    """With norm and RPReLU, folded; packed words of which some bits are spare."""
    b = Builder(seed)
    shape = (2, channels) if kind == "BinaryLinear" else (2, channels, *size)
    y = b.batch_norm(b.binary(kind, b.input("x", shape), "layer", out, kernel=kernel), "norm")
    model = b.build(b.rprelu(y, "act"))
    for one in fold_passes():
        one(model)
    check(model, values(seed, *shape))


@FEW
@given(
    transposed=st.booleans(),
    channels=st.integers(1, 40),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    low=st.floats(-4, 0),
    seed=st.integers(0, 999),
)
def test_8_bit_layers(transposed: bool, channels: int, size: tuple[int, int], low: float, seed: int) -> None:
    b = Builder(seed)
    y = b.dense(b.input("x", (1, channels, *size)), "layer", 5, transposed=transposed, bias=True)
    model = b.build(y)
    for one in fold_passes({"layer": (low, 3.0)}, half=True):
        one(model)
    check(model, values(seed, 1, channels, *size))


@pytest.mark.parametrize("channels", [58, 59, 600])
def test_sums_beyond_what_float32_holds(channels: int) -> None:
    """255 * 127 * 9 * 58 is just above 2^24: from there on sums are taken in float64."""
    b = Builder(1)
    y = b.dense(b.input("x", (1, channels, 4, 4)), "layer", 3)
    model = b.build(y)
    weight = model.graph.initializers["layer.weight"]
    weight.const_value = ir.tensor(np.full((3, channels, 3, 3), 0.5, np.float32), name="layer.weight")
    for one in fold_passes({"layer": (0.0, 1.0)}):
        one(model)
    check(model, np.random.default_rng(2).random((1, channels, 4, 4), np.float32))


def test_a_whole_network() -> None:
    check(exact_network(), np.random.default_rng(3).random((1, 3, SIZE, SIZE), np.float32))


def ints(b: Builder, name: str, *numbers: int) -> ir.Value:
    return b.constant(name, np.array(numbers, np.int64))


def number(b: Builder, value: float) -> ir.Value:
    return b.constant(f"number{value}", np.array(value, np.float32))


Make = Callable[[Builder, ir.Value], tuple[str, list[Any], tuple[int, ...], dict[str, Any], str]]
N = (1, 4, 6, 2)
OPERATIONS: dict[str, Make] = {
    "abs": lambda b, x: ("Abs", [x], N, {}, ""),
    "add": lambda b, x: ("Add", [x, x], N, {}, ""),
    "add number": lambda b, x: ("Add", [x, number(b, 0.1)], N, {}, ""),
    "sub": lambda b, x: ("Sub", [x, number(b, 0.3)], N, {}, ""),
    "mul": lambda b, x: ("Mul", [x, number(b, 0.7)], N, {}, ""),
    "div": lambda b, x: ("Div", [x, number(b, 3.0)], N, {}, ""),
    "max": lambda b, x: ("Max", [x, number(b, 0.2)], N, {}, ""),
    "max of three": lambda b, x: ("Max", [x, number(b, 0.2), number(b, 0.4)], N, {}, ""),
    "min": lambda b, x: ("Min", [x, number(b, 0.2)], N, {}, ""),
    "min of one": lambda b, x: ("Min", [x], N, {}, ""),
    "neg": lambda b, x: ("Neg", [x], N, {}, ""),
    "relu": lambda b, x: ("Relu", [x], N, {}, ""),
    "round": lambda b, x: ("Round", [x], N, {}, ""),
    "floor": lambda b, x: ("Floor", [x], N, {}, ""),
    "identity": lambda b, x: ("Identity", [x], N, {}, ""),
    "clip": lambda b, x: ("Clip", [x, number(b, -1), number(b, 1)], N, {}, ""),
    "clip below": lambda b, x: ("Clip", [x, number(b, -1)], N, {}, ""),
    "clip above": lambda b, x: ("Clip", [x, None, number(b, 1)], N, {}, ""),
    "concat": lambda b, x: ("Concat", [x, x], (1, 8, 6, 2), {"axis": 1}, ""),
    "concat last": lambda b, x: ("Concat", [x, x], (1, 4, 6, 4), {"axis": -1}, ""),
    "transpose": lambda b, x: ("Transpose", [x], (1, 6, 2, 4), {"perm": [0, 2, 3, 1]}, ""),
    "transpose all": lambda b, x: ("Transpose", [x], (2, 6, 4, 1), {}, ""),
    "reshape": lambda b, x: ("Reshape", [x, ints(b, "shape", 0, -1, 3)], (1, 16, 3), {}, ""),
    "unsqueeze": lambda b, x: ("Unsqueeze", [x, ints(b, "axes", -1, 0)], (1, *N, 1), {}, ""),
    "expand": lambda b, x: ("Expand", [x, ints(b, "shape", 3, 4, 1, 2)], (3, 4, 6, 2), {}, ""),
    "gather": lambda b, x: ("Gather", [x, ints(b, "index", 3, -1, 0)], (1, 3, 6, 2), {"axis": 1}, ""),
    "slice": lambda b, x: (
        "Slice",
        [
            x,
            ints(b, "from", 1, -1),
            ints(b, "to", 1 << 40, -(1 << 40)),
            ints(b, "axes", 1, 2),
            ints(b, "by", 2, -1),
        ],
        (1, 2, 6, 2),
        {},
        "",
    ),
    "max pool": lambda b, x: (
        "MaxPool",
        [x],
        (1, 4, 4, 2),
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 1, 1]},
        "",
    ),
    "mean of pixels": lambda b, x: ("AveragePool2x2", [x], (1, 4, 3, 1), {}, "bhpe"),
    "affine": lambda b, x: (
        "ChannelAffine",
        [x, b.constant("s", b.normal(4, 1, 1)), b.constant("b", b.normal(4, 1, 1))],
        N,
        {},
        "bhpe",
    ),
    "to half and back": lambda b, x: (
        "Cast",
        [b.add("Cast", [x], "half", N, to=int(ir.DataType.FLOAT16))],
        N,
        {"to": int(ir.DataType.FLOAT)},
        "",
    ),
    "where": lambda b, x: (
        "Where",
        [b.add("Greater", [x, number(b, 0)], "up", N), x, number(b, 2)],
        N,
        {},
        "",
    ),
    "where less": lambda b, x: (
        "Where",
        [b.add("Less", [x, number(b, 0)], "low", N), x, number(b, 2)],
        N,
        {},
        "",
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=5)
@given(seed=st.integers(0, 999))
def test_operations(name: str, seed: int) -> None:
    b = Builder(seed)
    x = b.input("x", N)
    op, inputs, shape, attributes, domain = OPERATIONS[name](b, x)
    y = b.add(op, inputs, "it", shape, domain, **attributes)
    found = values(seed, *N)
    found.reshape(-1)[:4] = 0.5, 1.5, 2.5, -0.5
    for node in b.graph:
        if node.op_type in ("Greater", "Less"):
            node.outputs[0].type = ir.TensorType(ir.DataType.BOOL)
        if node.op_type == "Cast" and node.name == "half":
            node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
    check(b.build(y), found)


@pytest.mark.parametrize("op", ["Erf", "LayerNormalization"])
def test_what_libraries_round_their_own_way(op: str) -> None:
    """Values of order 1 in float32: 1e-6."""
    b = Builder(3)
    x = b.input("x", N)
    more = [b.constant("scale", b.normal(2)), b.constant("shift", b.normal(2))]
    attributes = {"axis": -1, "epsilon": 1e-3}
    inputs, facts = ([x], {}) if op == "Erf" else ([x, *more], attributes)
    model = b.build(b.add(op, inputs, "it", N, **facts))
    found = values(4, *N)
    got = next(iter(Frozen(model)(torch.from_numpy(found)).values())).numpy()
    np.testing.assert_allclose(got, run(model, found)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("attributes", [{"axis": 1}, {"axis": -1, "keepdims": 0}, {}])
def test_which_one_is_largest(attributes: dict[str, int]) -> None:
    b = Builder(3)
    x = b.input("x", N)
    axis = attributes.get("axis", 0)
    shape = [1 if index == axis % 4 else size for index, size in enumerate(N)]
    if not attributes.get("keepdims", 1):
        shape.pop(axis)
    y = b.add("ArgMax", [x], "it", shape, **attributes)
    y.type = ir.TensorType(ir.DataType.INT64)
    check(b.build(y), np.rint(values(5, *N)))


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Sinh", {}),
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
        ("MaxPool", {"kernel_shape": [2, 2], "ceil_mode": 1}),
        ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    ],
)
def test_what_has_no_form_is_refused_before_anything_runs(op: str, attributes: dict[str, Any]) -> None:
    b = Builder(1)
    model = b.build(b.add(op, [b.input("x", N)], "it", N, **attributes))
    with pytest.raises(UnsupportedNodeError, match=r"^node it: "):
        Frozen(model)


@pytest.mark.parametrize("attributes", [{"transA": 1}, {"alpha": 2.0}, {"beta": 0.5}])
def test_a_gemm_of_another_form_is_refused(attributes: dict[str, Any]) -> None:
    b = Builder(1)
    weight, bias = b.constant("w", b.normal(4, 4)), b.constant("c", b.normal(4))
    model = b.build(b.add("Gemm", [b.input("x", (4, 4)), weight, bias], "it", (4, 4), **attributes))
    with pytest.raises(UnsupportedNodeError, match=r"^node it: Gemm"):
        Frozen(model)

"""NarrowStorage: which casts kernels take in, as writers and as readers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from bhpe_compile.passes.base import Note
from bhpe_compile.passes.fold.half_residuals import HalfResiduals
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.narrow_storage import NarrowStorage
from tests.passes.lower.evaluate import evaluate, reference
from tests.passes.lower.graphs import Builder, bidrb, kinds, node_of, run, second_run, small_network

SHAPE = (1, 16, 4, 6)


def before(model: ir.Model) -> ir.Model:
    """All lower passes before this one."""
    for one in lower_passes():
        if isinstance(one, NarrowStorage):
            break
        one(model)
    return model


def half(b: Builder, x: str, name: str) -> tuple[str, str]:
    """The value as float16, and back as float32."""
    narrow = b.add("Cast", [x], f"{name}.half", to=TensorProto.FLOAT16)
    return narrow, b.add("Cast", [narrow], f"{name}.back", to=TensorProto.FLOAT)


def block(b: Builder, x: str, rounded: str, name: str) -> str:
    """A binary layer of `x` with `rounded` as its residual."""
    return b.add("Add", [b.binary_conv(x, name, 16, 16), rounded], f"{name}.sum")


def dtype_of(value: ir.Value | None) -> ir.DataType | None:
    assert value is not None
    return value.dtype


def notes_of(model: ir.Model) -> list[tuple[str, bool, str]]:
    result = NarrowStorage()(model)
    assert result.modified == any(n.applied for n in result.notes)
    return [(n.site, n.applied, n.reason) for n in result.notes]


def check_equal(b: Builder, model: ir.Model) -> None:
    """Lower and compare: a last bit of a float32 sum may move a float16 rounding, 2^-10 of values below 8."""
    image = b.normal(*SHAPE)
    expected = reference(model, image)
    run(before(model), NarrowStorage())
    for got, want in zip(evaluate(model, {"image": image}), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2.0**-7)


def pair() -> tuple[Builder, ir.Model]:
    """A dense layer whose float16 value is the residual of a binary one."""
    b = Builder(1)
    made = b.dense_conv(b.input("image", SHAPE), "made", 16, 16)
    _, rounded = half(b, made, "made")
    return b, b.build(block(b, made, rounded, "block"))


def test_the_writer_rounds_and_the_reader_widens() -> None:
    _, model = pair()
    before(model)
    assert kinds(model)["Cast"] == 2
    assert notes_of(model) == [("made", True, "writes float16")]
    assert kinds(model)["Cast"] == 0
    out = g.result(node_of(model, "made"), "out")
    assert dtype_of(out) == ir.DataType.FLOAT16
    assert g.operand(node_of(model, "block"), "residual") is out
    assert second_run(NarrowStorage(), model) == (False, False)


def test_a_pair_is_equivalent() -> None:
    check_equal(*pair())


def test_the_small_network_has_no_cast_left() -> None:
    """8-bit levels, pooling, residuals and shortcuts read float16."""
    model = small_network()
    QuantizeDense(dict.fromkeys(("stem", "block.shortcut"), (-3.0, 3.0)))(model)
    HalfResiduals()(model)
    before(model)
    assert kinds(model)["Cast"] == 8
    assert NarrowStorage()(model).modified
    assert kinds(model)["Cast"] == 0
    for layer in ("stem", "block.conv1", "block.shortcut"):
        assert dtype_of(g.result(node_of(model, layer), "out")) == ir.DataType.FLOAT16
    pool = next(n for n in model.graph if n.op_type == "MaxPool2d")
    assert [dtype_of(v) for v in (g.operand(pool, "x"), g.result(pool, "out"))] == [ir.DataType.FLOAT16] * 2
    quantize = next(
        n for n in model.graph if n.op_type == "Quantize" and g.text(n, "layer") == "block.shortcut"
    )
    assert dtype_of(g.operand(quantize, "x")) == ir.DataType.FLOAT16
    assert dtype_of(g.operand(node_of(model, "block.conv2"), "shortcut")) == ir.DataType.FLOAT16
    assert second_run(NarrowStorage(), model) == (False, False)


def test_a_value_no_kernel_writes_keeps_its_cast() -> None:
    """The kernels that read it take the float16 all the same."""
    b = Builder(4)
    dense = b.dense_conv(b.input("image", SHAPE), "dense", 16, 16)
    made = b.add("Mul", [dense, b.constant("two", np.float32(2))], "twice")
    _, rounded = half(b, made, "made")
    model = before(b.build(block(b, made, rounded, "block")))
    assert notes_of(model) == [
        ("made.half", False, "no kernel of ours writes it: rounded by a loop of its own")
    ]
    assert kinds(model)["Cast"] == 1
    assert dtype_of(g.operand(node_of(model, "block"), "residual")) == ir.DataType.FLOAT16
    assert second_run(NarrowStorage(), model) == (False, False)


def test_a_rounded_value_that_is_an_output_stays() -> None:
    b = Builder(4)
    twice = b.add("Mul", [b.input("image", SHAPE), b.constant("two", np.float32(2))], "twice")
    _, rounded = half(b, twice, "made")
    model = before(b.build(rounded))
    assert [applied for _, applied, _ in notes_of(model)] == [False]
    assert kinds(model)["Cast"] == 2
    producer = model.graph.outputs[0].producer()
    assert producer is not None
    assert producer.op_type == "Cast"


def test_a_kernel_that_writes_no_float16() -> None:
    """Crops are float32."""
    b = Builder(4)
    box = b.constant("box", np.array([[0, 0, 6, 4]], np.float32))
    cut = b.add("Crop", [b.input("image", SHAPE), box], "cut", "bhpe", height=4, width=6)
    _, rounded = half(b, cut, "cut")
    model = before(b.build(block(b, cut, rounded, "block")))
    assert [n[1:] for n in notes_of(model)] == [
        (False, "no kernel of ours writes it: rounded by a loop of its own")
    ]


def test_a_float32_value_that_is_read_as_well_stays() -> None:
    """By an operator that is no kernel of ours."""
    b = Builder(5)
    made = b.dense_conv(b.input("image", SHAPE), "made", 16, 16)
    _, rounded = half(b, made, "made")
    sums = b.add("Mul", [block(b, rounded, rounded, "block"), made], "product")
    model = before(b.build(sums))
    assert notes_of(model) == [("made.half", False, "its float32 value is read as well")]
    assert dtype_of(g.result(node_of(model, "made"), "out")) == ir.DataType.FLOAT
    assert dtype_of(g.operand(node_of(model, "block"), "residual")) == ir.DataType.FLOAT16
    assert kinds(model)["Cast"] == 2  # the bits are packed from the value that was rounded


def test_readers_that_are_no_kernels_keep_the_second_cast() -> None:
    b = Builder(6)
    made = b.dense_conv(b.input("image", SHAPE), "made", 16, 16)
    _, rounded = half(b, made, "made")
    model = before(b.build(block(b, made, rounded, "block"), b.add("Softmax", [rounded], "other", axis=1)))
    assert notes_of(model) == [("made", True, "writes float16")]
    assert kinds(model)["Cast"] == 1
    assert dtype_of(g.operand(node_of(model, "block"), "residual")) == ir.DataType.FLOAT16
    (cast,) = (n for n in model.graph if n.op_type == "Cast")
    assert cast.inputs[0] is g.result(node_of(model, "made"), "out")
    assert second_run(NarrowStorage(), model) == (False, False)


def test_what_a_convolution_convolves_is_not_read_as_float16() -> None:
    """Only residuals, shortcuts, pooled maps and maps to quantize are; a dense layer's input keeps its cast."""
    b = Builder(7)
    made = b.dense_conv(b.input("image", SHAPE), "made", 16, 16)
    _, rounded = half(b, made, "made")
    model = before(b.build(b.dense_conv(rounded, "end", 16, 8)))
    assert notes_of(model) == [("made", True, "writes float16")]
    assert kinds(model)["Cast"] == 1
    assert dtype_of(g.operand(node_of(model, "end"), "x")) == ir.DataType.FLOAT


def test_a_result_of_the_network_keeps_its_casts() -> None:
    """Outputs are float32; so is the value between two casts that the caller reads."""
    b = Builder(8)
    made = b.dense_conv(b.input("image", SHAPE), "made", 16, 16)
    _, rounded = half(b, made, "made")
    model = before(b.build(block(b, made, rounded, "block"), rounded))
    NarrowStorage()(model)
    assert [dtype_of(o) for o in model.graph.outputs] == [ir.DataType.FLOAT] * 2
    assert kinds(model)["Cast"] == 1


def test_casts_to_other_types_are_none_of_its_business() -> None:
    b = Builder(9)
    made = b.dense_conv(b.input("image", SHAPE), "made", 16, 16)
    whole = b.add("Cast", [made], "whole", to=TensorProto.INT32)
    model = before(b.build(b.add("Cast", [whole], "back", to=TensorProto.FLOAT)))
    result = NarrowStorage()(model)
    assert (result.modified, result.notes) == (False, ())
    assert kinds(model)["Cast"] == 2


def test_notes_name_the_pass() -> None:
    _, model = pair()
    assert NarrowStorage()(before(model)).notes == (Note("narrow-storage", "made", True, "writes float16"),)


@settings(max_examples=20)
@given(
    producer=st.sampled_from(["dense", "binary", "pool", "exp", "twice"]),
    readers=st.lists(st.sampled_from(["block", "softmax", "dense", "pool", "float"]), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_equivalence_and_second_run(producer: str, readers: list[str], seed: int) -> None:
    b = Builder(seed)
    y = b.input("image", SHAPE)
    if producer == "dense":
        y = b.dense_conv(y, "made", 16, 16)
    elif producer == "binary":
        y = bidrb(b, y, "made", 16, 16, 1)
    elif producer == "pool":
        y = b.add("MaxPool", [y], "made", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    elif producer == "exp":
        y = b.add("Exp", [y], "made")
    else:
        y = b.add("Mul", [b.dense_conv(y, "dense", 16, 16), b.constant("two", np.float32(2))], "twice")
    _, rounded = half(b, y, "made")
    outputs = []
    for i, reader in enumerate(readers):
        name = f"{reader}{i}"
        if reader == "block":
            outputs.append(block(b, y, rounded, name))
        elif reader == "softmax":
            outputs.append(b.add("Softmax", [rounded], name, axis=1))
        elif reader == "dense":
            outputs.append(b.dense_conv(rounded, name, 16, 8))
        elif reader == "pool":
            outputs.append(b.add("MaxPool", [rounded], name, kernel_shape=[2, 2], strides=[2, 2]))
        else:
            outputs.append(b.add("Abs", [y], name))
    model = b.build(*outputs)
    check_equal(b, model)
    assert second_run(NarrowStorage(), model) == (False, False)

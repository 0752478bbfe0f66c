from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.nodes import integer
from bhpe_compile.passes.fold.pack_weights import PackWeights, pack_words
from tests.passes.fold.graphs import Builder, array, node_named, op_types, run, text

KINDS = ["BinaryConv2d", "BinaryConvTranspose2d", "BinaryLinear"]


def layer(kind: str, channels: int = 40, out: int = 3) -> ir.Model:
    b = Builder(10)
    x = b.input("x", (1, channels) if kind == "BinaryLinear" else (1, channels, 3, 4))
    return b.build(b.binary(kind, x, "layer", out))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("BinaryConv2d", (3, 2, 3, 3)),
        ("BinaryConvTranspose2d", (3, 2, 4, 4)),
        ("BinaryLinear", (3, 2)),
    ],
)
def test_weights_become_words(kind: str, shape: tuple[int, ...]) -> None:
    model = layer(kind)
    result = PackWeights()(model)
    assert result.modified
    assert op_types(model) == [f"Packed{kind}"]
    node = node_named(model, "layer")
    packed = array(node.inputs[2])
    assert packed.shape == shape
    assert packed.dtype == np.uint32
    assert integer(node, "channels") == 40
    assert [key[1] for key in model.functions] == [f"Packed{kind}"]
    assert [note.site for note in result.notes] == ["layer"]


def test_bit_i_of_word_g_is_channel_32g_plus_i() -> None:
    positive = np.zeros((1, 40, 1, 2), bool)
    positive[0, [0, 5, 31], 0, 0] = True
    positive[0, [32, 39], 0, 1] = True
    assert pack_words(positive)[0, :, 0, :].tolist() == [[1 | 1 << 5 | 1 << 31, 0], [0, 1 | 1 << 7]]


def test_zero_counts_as_positive() -> None:
    """As everywhere: w >= 0 is +1, minus zero included."""
    model = layer("BinaryLinear", 3, 1)
    node = node_named(model, "layer")
    weight = node.inputs[2]
    assert weight is not None
    weight.const_value = ir.tensor(np.array([[0.0, -0.0, -1e-30]], np.float32), name=weight.name)
    PackWeights()(model)
    assert array(node.inputs[2]).tolist() == [[0b011]]


def test_weights_computed_at_run_time_are_refused() -> None:
    model = layer("BinaryLinear")
    extra = ir.Value(name="w", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([3, 40]))
    model.graph.inputs.append(extra)
    node_named(model, "layer").replace_input_with(2, extra)
    before = text(model)
    result = PackWeights()(model)
    assert not result.modified
    assert text(model) == before
    assert [n.reason for n in result.notes] == ["its weights are computed at run time"]


@settings(max_examples=20)
@given(st.sampled_from(KINDS), st.integers(1, 70), st.integers(1, 5))
def test_no_bit_changes(kind: str, channels: int, out: int) -> None:
    model = layer(kind, channels, out)
    x = Builder(11).normal(*[int(d) for d in model.graph.inputs[0].shape or ()])  # type: ignore[arg-type]
    before = run(model, x)[0]
    PackWeights()(model)
    np.testing.assert_array_equal(run(model, x)[0], before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_changes_nothing(kind: str) -> None:
    model = layer(kind)
    PackWeights()(model)
    after = text(model)
    result = PackWeights()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), after)

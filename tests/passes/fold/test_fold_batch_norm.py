from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bhpe_compile.passes.fold.fold_batch_norm import FoldBatchNorm
from tests.passes.fold.graphs import Builder, array, node_named, op_types, run, text

BINARY = ["BinaryConv2d", "BinaryConvTranspose2d", "BinaryLinear"]
DENSE = ["Conv", "ConvTranspose"]


def normed(
    kind: str, *, norm: bool = True, bias: bool = True, seed: int = 8, epsilon: float = 1e-3
) -> ir.Model:
    b = Builder(seed)
    x = b.input("x", (2, 4) if kind == "BinaryLinear" else (1, 4, 5, 5))
    if kind in BINARY:
        y = b.binary(kind, x, "layer", 6)
    else:
        y = b.dense(x, "layer", 6, transposed=kind == "ConvTranspose", bias=bias)
    return b.build(b.batch_norm(y, "norm", epsilon) if norm else y)


def picture(model: ir.Model, seed: int = 9) -> NDArray[np.float32]:
    return Builder(seed).normal(*[int(d) for d in model.graph.inputs[0].shape or ()])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", BINARY)
def test_binary_layers_absorb_it(kind: str) -> None:
    model = normed(kind)
    weight = array(node_named(model, "layer").inputs[2])
    output = model.graph.outputs[0].name
    result = FoldBatchNorm()(model)
    assert result.modified
    assert op_types(model) == [kind]
    assert model.graph.outputs[0].name == output
    assert array(node_named(model, "layer").inputs[2]) is weight
    assert [note.site for note in result.notes] == ["layer"]


@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize(("norm", "bias"), [(True, True), (True, False), (False, True)])
def test_dense_layers_get_an_affine_behind_them(kind: str, norm: bool, bias: bool) -> None:
    model = normed(kind, norm=norm, bias=bias)
    weight = array(node_named(model, "layer").inputs[1])
    output = model.graph.outputs[0].name
    result = FoldBatchNorm()(model)
    assert result.modified
    assert op_types(model) == [kind, "ChannelAffine"]
    layer = node_named(model, "layer")
    assert len(layer.inputs) == 2
    assert array(layer.inputs[1]) is weight
    affine = node_named(model, "layer.affine")
    assert [array(v).shape for v in affine.inputs[1:]] == [(6, 1, 1), (6, 1, 1)]
    assert model.graph.outputs[0].name == output


def test_a_dense_layer_without_norm_and_bias_is_left_alone() -> None:
    model = normed("Conv", norm=False, bias=False)
    before = text(model)
    result = FoldBatchNorm()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), before)


@pytest.mark.parametrize("kind", ["BinaryConv2d", "Conv"])
def test_a_value_others_read_keeps_its_norm(kind: str) -> None:
    model = normed(kind)
    model.graph.outputs.append(node_named(model, "layer").outputs[0])
    before = text(model)
    result = FoldBatchNorm()(model)
    assert not result.modified
    assert text(model) == before
    assert [n.reason for n in result.notes] == ["others read the value in front of the batch norm"]


@pytest.mark.parametrize("kind", ["BinaryConv2d", "Conv"])
def test_parameters_computed_at_run_time_are_refused(kind: str) -> None:
    model = normed(kind)
    extra = ir.Value(name="mean", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([6]))
    model.graph.inputs.append(extra)
    node_named(model, "norm").replace_input_with(3, extra)
    before = text(model)
    result = FoldBatchNorm()(model)
    assert not result.modified
    assert text(model) == before
    (note,) = result.notes
    assert note.site == "layer"
    assert note.reason == "parameters are computed at run time"


@settings(max_examples=20)
@given(st.sampled_from([*BINARY, *DENSE]), st.booleans(), st.booleans(), st.integers(0, 1000))
def test_values_stay(kind: str, norm: bool, bias: bool, seed: int) -> None:
    model = normed(kind, norm=norm, bias=bias, seed=seed)
    x = picture(model)
    before = run(model, x)[0]
    FoldBatchNorm()(model)
    # float32: (k s) d + (k (b - m) + beta) for k ((s d + b) - m) + beta; values of order 10, 2^-24 each step
    np.testing.assert_allclose(run(model, x)[0], before, rtol=1e-5, atol=3e-5)


def test_folded_parameters_are_rounded_once() -> None:
    """Computed in float64: nothing but the last rounding is lost."""
    model = normed("BinaryConv2d")
    layer, norm = node_named(model, "layer"), node_named(model, "norm")
    s, b = (array(v).astype(np.float64) for v in layer.inputs[3:5])
    gamma, beta, mean, var = (array(v).astype(np.float64) for v in norm.inputs[1:5])
    k = gamma / np.sqrt(var + np.float64(np.float32(1e-3)))
    FoldBatchNorm()(model)
    np.testing.assert_array_equal(array(layer.inputs[3]), (k * s).astype(np.float32))
    np.testing.assert_array_equal(array(layer.inputs[4]), (k * (b - mean) + beta).astype(np.float32))


@pytest.mark.parametrize("kind", [*BINARY, *DENSE])
def test_a_second_run_changes_nothing(kind: str) -> None:
    model = normed(kind)
    FoldBatchNorm()(model)
    after = text(model)
    result = FoldBatchNorm()(model)
    assert (result.modified, result.notes, text(model)) == (False, (), after)

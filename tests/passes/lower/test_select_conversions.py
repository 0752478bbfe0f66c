"""Casts between float32 and float16 become kernels; others are left alone, and so is the result."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bhpe_compile.kernels import ConvertFloats
from bhpe_compile.passes.lower.channel_last import ChannelLast
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.select_conversions import SelectConversions
from tests.passes.lower.evaluate import evaluate
from tests.passes.lower.graphs import second_run

SHAPE = (1, 3, 5, 7)


def casts(first: int, shape: tuple[int, ...] = SHAPE) -> ir.Model:
    """float32 -> `first` -> float32."""
    nodes = [
        helper.make_node("Cast", ["image"], ["between"], "there", to=first),
        helper.make_node("Cast", ["between"], ["out"], "back", to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "out")]
    graph = helper.make_graph(nodes, "casts", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def test_before_and_after() -> None:
    model = casts(TensorProto.FLOAT16)
    image = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    result = SelectConversions()(model)
    assert [(note.site, note.applied) for note in result.notes] == [("there", True), ("back", True)]
    first, second = model.graph
    assert describe(first) == ConvertFloats(SHAPE, "float16")
    assert describe(second) == ConvertFloats(SHAPE, "float32")
    (found,) = evaluate(model, {"image": image})
    np.testing.assert_array_equal(found, image.astype(np.float16).astype(np.float32))
    assert not ChannelLast()(model).modified  # any layout is right for it
    assert [note.reason for note in result.notes] == ["computed by ConvertFloats"] * 2
    assert [node.outputs[0].dtype for node in model.graph] == [ir.DataType.FLOAT16, ir.DataType.FLOAT]
    assert model.graph.outputs[0].name == "out"


@given(shape=st.lists(st.integers(1, 5), max_size=5).map(tuple), seed=st.integers(0, 1000))
def test_equivalence_and_second_run(shape: tuple[int, ...], seed: int) -> None:
    model = casts(TensorProto.FLOAT16, shape)
    image = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    assert SelectConversions()(model).modified
    (found,) = evaluate(model, {"image": image})
    np.testing.assert_array_equal(found, image.astype(np.float16).astype(np.float32))
    assert second_run(SelectConversions(), model) == (False, False)


@pytest.mark.parametrize("to", [TensorProto.INT64, TensorProto.FLOAT])
def test_other_casts_stay(to: int) -> None:
    model = casts(to)
    result = SelectConversions()(model)
    assert (result.modified, [note.applied for note in result.notes]) == (False, [False, False])
    assert {note.reason for note in result.notes} == {"it is no conversion between float32 and float16"}
    assert [node.op_type for node in model.graph] == ["Cast", "Cast"]

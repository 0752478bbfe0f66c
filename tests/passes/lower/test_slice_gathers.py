"""Gather with one constant index becomes a slice; any other Gather is left alone, with the reason."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from bhpe_compile.passes.base import Note
from bhpe_compile.passes.lower.slice_gathers import SliceGathers
from tests.passes.lower.graphs import Builder, second_run

SHAPE = (2, 3, 4, 5)


def index_of(b: Builder, name: str, index: int | list[int]) -> str:
    """An int64 initializer; a scalar stays a scalar."""
    b.initializers.append(numpy_helper.from_array(np.array(index, np.int64), name))
    return name


def gather(index: int | list[int], axis: int | None) -> ir.Model:
    b = Builder()
    x = b.input("image", SHAPE)
    attributes = {} if axis is None else {"axis": axis}
    return b.build(b.add("Gather", [x, index_of(b, "index", index)], "pick", **attributes))


def run(model: ir.Model, **more: np.ndarray) -> np.ndarray:
    image = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"image": image, **more})[0]


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@settings(max_examples=30)
@given(data=st.data(), axis=st.integers(-4, 3))
def test_same_values_for_every_axis_and_index(data: st.DataObject, axis: int) -> None:
    """Indices and axes count from the end when negative; values are copied, so they are equal."""
    index = data.draw(st.integers(-SHAPE[axis], SHAPE[axis] - 1))
    model = gather(index, axis)
    want = run(model)
    result = SliceGathers()(model)
    assert result.modified
    assert result.notes == (Note("slice-gathers", "pick", True, f"slice at {index}"),)
    assert kinds(model) == ["Slice", "Reshape"]
    assert [o.name for o in model.graph.outputs] == ["pick.y"]
    np.testing.assert_array_equal(run(model), want)
    assert second_run(SliceGathers(), model) == (False, False)


def test_axis_defaults_to_the_first() -> None:
    model = gather(1, None)
    want = run(model)
    SliceGathers()(model)
    np.testing.assert_array_equal(run(model), want)


REFUSED = (Note("slice-gathers", "pick", False, "its index is not one constant"),)


@pytest.mark.parametrize("index", [[1], [2, 0]])
def test_vectors_of_indices_stay_and_say_why(index: list[int]) -> None:
    """A vector of one index, too: only scalars are rewritten."""
    model = gather(index, 2)
    want = run(model)
    result = SliceGathers()(model)
    assert not result.modified
    assert result.notes == REFUSED
    assert kinds(model) == ["Gather"]
    np.testing.assert_array_equal(run(model), want)


def test_an_index_known_at_run_time_stays_and_says_why() -> None:
    model = gather(0, 2)
    index = model.graph.initializers.pop("index")
    index.const_value = None
    model.graph.inputs.append(index)
    result = SliceGathers()(model)
    assert not result.modified
    assert result.notes == REFUSED
    want = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)[:, :, 3]
    np.testing.assert_array_equal(run(model, index=np.array(3, np.int64)), want)


def test_two_gathers_of_one_value_do_not_share_names() -> None:
    b = Builder()
    x = b.input("image", SHAPE)
    first, last = index_of(b, "i", 0), index_of(b, "j", -1)
    a, c = b.add("Gather", [x, first], "a", axis=1), b.add("Gather", [x, last], "b", axis=1)
    model = b.build(b.add("Sub", [c, a], "difference"))
    want = run(model)
    SliceGathers()(model)
    assert sorted(kinds(model)) == ["Reshape", "Reshape", "Slice", "Slice", "Sub"]
    names = [o.name for node in model.graph for o in node.outputs]
    assert len(names) == len(set(names))
    np.testing.assert_array_equal(run(model), want)

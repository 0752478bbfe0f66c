"""A fixed-point layer becomes two kernels: one splits its input, one multiplies."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.errors import InputError
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from bhpe_compile.passes.lower.select_linear import linear_kernel
from tests.passes.lower.evaluate import evaluate, reference
from tests.passes.lower.graphs import Builder, second_run


def layer(batch: int = 2, features: int = 8, outputs: int = 5, seed: int = 0) -> ir.Model:
    b = Builder(seed)
    x = b.input("image", (batch, features))
    levels = b.constant("layer.levels", b.rng.integers(-127, 128, (outputs, features)).astype(np.int8))
    numbers = [b.constant(f"layer.{role}", b.normal(outputs, std=0.01)) for role in ("scale", "shift")]
    return b.build(b.add("FixedPointLinear", [x, levels, *numbers], "layer", "bhpe"))


def test_before_and_after() -> None:
    model = layer()
    given, out = list(model.graph[0].inputs), model.graph.outputs[0].name
    result = SelectKernels()(model)
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [
        ("layer", True, "computed by FixedPointLinear")
    ]
    split, linear = model.graph
    assert (split.op_type, linear.op_type) == ("FixedPointSplit", "FixedPointLinear")
    assert all(g.is_kernel(node) for node in (split, linear))
    assert (g.roles(split), list(split.inputs)) == (("x",), given[:1])
    assert g.roles(linear) == ("x", "weight", "scale", "bias")
    assert list(linear.inputs) == [split.outputs[0], *given[1:]]
    assert {g.text(one, "layer") for one in (split, linear)} == {"layer"}
    planes = split.outputs[0]
    assert (g.shape_of(planes), planes.dtype) == ((2, 3, 8), ir.DataType.UINT8)
    assert g.shape_of(linear.outputs[0]) == (2, 5)
    assert [planes.name, linear.outputs[0].name] == ["layer.planes", out]


def test_the_value_between_two_layers_has_a_name_of_its_own() -> None:
    model = layer()
    made = linear_kernel(model.graph, model.graph[0])
    assert made is not None
    assert made.outputs[0].name == f"{model.graph.outputs[0].name}_k"


@pytest.mark.parametrize(("role", "word"), [("levels", "weight"), ("scale", "scale"), ("shift", "bias")])
def test_parameters_at_run_time_are_refused(role: str, word: str) -> None:
    model = layer()
    model.graph.initializers[f"layer.{role}"].const_value = None
    with pytest.raises(InputError, match=rf"^layer layer: its {word} is computed at run time"):
        SelectKernels()(model)


def test_no_input_is_refused() -> None:
    model = layer()
    model.graph[0].replace_input_with(0, None)
    with pytest.raises(InputError, match=r"^layer layer: no input\n"):
        SelectKernels()(model)


def test_others_are_no_match() -> None:
    model = layer()
    node = model.graph[0]
    for domain, kind in (("", "FixedPointLinear"), ("bhpe", "Linear")):
        node.domain, node.op_type = domain, kind
        assert linear_kernel(model.graph, node) is None
    assert len(list(model.graph)) == 1


@settings(max_examples=15)
@given(sizes=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 9)), seed=st.integers(0, 99))
def test_equivalence_and_second_run(sizes: tuple[int, int, int], seed: int) -> None:
    """Of integers, in both forms: equal to the bit."""
    model = layer(*sizes, seed)
    image = np.random.default_rng(seed).normal(size=sizes[:2]).astype(np.float32)
    (want,) = reference(model, image)
    assert SelectKernels()(model).modified
    (got,) = evaluate(model, {"image": image})
    np.testing.assert_array_equal(got, want)
    assert second_run(SelectKernels(), model) == (False, False)

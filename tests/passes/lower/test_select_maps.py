"""Operators between heat maps and crops become the kernels of their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.select_kernels import SelectKernels
from bhpe_compile.passes.lower.select_maps import map_kernel
from tests.passes.lower.evaluate import evaluate, reference
from tests.passes.lower.graphs import Builder, run, second_run

KINDS: dict[str, tuple[tuple[int, ...], dict[str, int], dict[str, int]]] = {
    "CellMean": ((1, 8, 6, 4), {}, {}),
    "Crop": ((1, 8, 6, 4), {"height": 2, "width": 3}, {"out_height": 2, "out_width": 3}),
    "HeatMap": ((1, 8, 6, 4), {"depth": 4}, {"depth": 4}),
    "Logistic": ((3, 5), {}, {}),
    "RotationVector": ((3, 6), {}, {}),
    "SamplePoints": ((1, 8, 6, 4), {}, {}),
    "SoftArgmax": ((1, 8, 6, 4), {"depth": 4, "axes": 3}, {"depth": 4, "axes": 3}),
}
"""The shape of what each reads, its attributes, and those of its kernel."""

MORE = {
    "Crop": ("boxes", np.array([[0.5, 0, 3, 4.25]], np.float32)),
    "SamplePoints": ("points", np.array([[[0, 1.5], [2.25, 3], [3, 5]]], np.float32)),
}
"""The role and the value of the second input."""


def model_of(kind: str) -> ir.Model:
    shape, facts, _ = KINDS[kind]
    b = Builder(3)
    inputs = [b.input("image", shape)]
    if kind in MORE:
        inputs.append(b.constant("more", MORE[kind][1]))
    return b.build(b.add(kind, inputs, "odd", "bhpe", **facts))


def facts_of(node: ir.Node) -> dict[str, Any]:
    return {name: value for name, value in g.facts_of(node).items() if name not in ("layer", "layout")}


@pytest.mark.parametrize("kind", KINDS)
def test_before_and_after(kind: str) -> None:
    model = model_of(kind)
    read, out = list(model.graph[0].inputs), model.graph.outputs[0]
    shape = g.shape_of(out)
    result = SelectKernels()(model)
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("odd", True, f"computed by {kind}")]
    (node,) = model.graph
    assert g.is_kernel(node, kind)
    assert g.text(node, "layer") == "odd"
    assert g.roles(node) == (("x", MORE[kind][0]) if kind in MORE else ("x",))
    assert list(node.inputs) == read
    assert facts_of(node) == KINDS[kind][2]
    assert g.shape_of(node.outputs[0]) == shape


def test_the_new_value_has_a_name_of_its_own() -> None:
    model = model_of("Logistic")
    made = map_kernel(model.graph[0])
    assert made is not None
    assert made.outputs[0].name == f"{model.graph.outputs[0].name}_k"


def test_others_are_no_match() -> None:
    node = model_of("HeatMap").graph[0]
    for domain, kind in (("", "HeatMap"), ("bhpe", "RPReLU")):
        node.domain, node.op_type = domain, kind
        assert map_kernel(node) is None


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3)
@given(seed=st.integers(0, 99))
def test_equivalence_and_second_run(kind: str, seed: int) -> None:
    model = model_of(kind)
    image = np.random.default_rng(seed).normal(size=KINDS[kind][0]).astype(np.float32)
    if kind in ("HeatMap", "SoftArgmax"):  # as a network makes them: shares of one
        image = np.abs(image)
    (want,) = reference(model, image)
    assert SelectKernels()(model).modified
    assert second_run(SelectKernels(), model) == (False, False)
    (got,) = evaluate(run(model, *lower_passes()[2:]), {"image": image})
    # exponentials and sums of floats in another order, values up to 10
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)

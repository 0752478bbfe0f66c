from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bhpe_compile.passes.fold.fold_batch_norm import FoldBatchNorm
from bhpe_compile.passes.fold.fold_shift import FoldShift
from tests.passes.fold.graphs import Builder, array, node_named, op_types, run, text

KINDS = ["BinaryConv2d", "BinaryConvTranspose2d", "BinaryLinear", "Conv"]


def activated(kind: str = "BinaryConv2d", *, residual: bool = False, seed: int = 3) -> ir.Model:
    """A layer (of a Conv, the affine behind it), what is added to it if anything is, and an RPReLU."""
    b = Builder(seed)
    x = b.input("x", (2, 4) if kind == "BinaryLinear" else (1, 4, 5, 5))
    y = b.dense(x, "layer", 4, bias=True) if kind == "Conv" else b.binary(kind, x, "layer", 4)
    if residual:
        y = b.add("Add", [y, x], "sum", [int(d) for d in y.shape or ()])  # type: ignore[arg-type]
    model = b.build(b.rprelu(y, "act"))
    FoldBatchNorm()(model)
    return model


def quarters(model: ir.Model, seed: int) -> NDArray[np.float32]:
    """Give every constant of a channel quarters (scales powers of two), whose sums are exact; a picture of quarters."""
    rng = np.random.default_rng(seed)
    for name, value in model.graph.initializers.items():
        role = name.rpartition(".")[2]
        if value.const_value is None or role in ("weight", "threshold"):
            continue
        shape = array(value).shape
        found = rng.integers(-8, 9, shape) / 4
        if role == "scale":
            found = 2.0 ** rng.integers(-2, 2, shape)
        value.const_value = ir.tensor(found.astype(np.float32), name=name)
    shape = [int(d) for d in model.graph.inputs[0].shape or ()]  # type: ignore[arg-type]
    return (rng.integers(-8, 9, shape) / 4).astype(np.float32)


def place(kind: str) -> tuple[str, int]:
    """The node with the bias, and where it stands among its inputs."""
    return ("layer.affine", 2) if kind == "Conv" else ("layer", 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("residual", [False, True])
def test_the_bias_takes_the_shift(kind: str, residual: bool) -> None:
    residual = residual and kind in ("BinaryConv2d", "Conv")
    model = activated(kind, residual=residual)
    before = op_types(model)
    name, index = place(kind)
    act = node_named(model, "act")
    bias, gamma = array(node_named(model, name).inputs[index]), array(act.inputs[1])
    others = [array(value) for value in act.inputs[2:]]
    result = FoldShift()(model)
    want = (bias.astype(np.float64) - gamma.reshape(bias.shape)).astype(np.float32)
    assert op_types(model) == before
    np.testing.assert_array_equal(array(node_named(model, name).inputs[index]), want)
    assert array(act.inputs[1]).shape == gamma.shape
    assert not array(act.inputs[1]).any()
    assert all(array(value) is one for value, one in zip(act.inputs[2:], others, strict=True))
    why = "its bias takes what the activation subtracts"
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [(name, True, why)]


def read_twice() -> ir.Model:
    b = Builder(4)
    x = b.input("x", (1, 4, 5, 5))
    y = b.binary("BinaryConv2d", x, "layer", 4)
    return b.build(b.rprelu(y, "act"), b.add("Relu", [y], "other", (1, 4, 5, 5)))


def layer_read_twice() -> ir.Model:
    b = Builder(4)
    x = b.input("x", (1, 4, 5, 5))
    y = b.binary("BinaryConv2d", x, "layer", 4)
    total = b.add("Add", [y, x], "sum", (1, 4, 5, 5))
    return b.build(b.rprelu(total, "act"), b.add("Relu", [y], "other", (1, 4, 5, 5)))


def behind_a_pool() -> ir.Model:
    b = Builder(4)
    pool = b.add("MaxPool", [b.input("x", (1, 4, 5, 5))], "pool", (1, 4, 4, 4), kernel_shape=[2, 2])
    return b.build(b.rprelu(pool, "act"))


def of_the_input() -> ir.Model:
    b = Builder(4)
    return b.build(b.rprelu(b.input("x", (1, 4, 5, 5)), "act"))


REFUSED = {
    "read twice": (read_twice, "others read what the activation reads"),
    "its layer is read twice": (layer_read_twice, "no layer adds to what the activation reads"),
    "behind a pool": (behind_a_pool, "no layer computes what the activation reads"),
    "of the input": (of_the_input, "no layer computes what the activation reads"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_left_alone(case: str) -> None:
    make, reason = REFUSED[case]
    model = make()
    before = text(model)
    result = FoldShift()(model)
    assert (result.modified, text(model)) == (False, before)
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("act", False, reason)]


@pytest.mark.parametrize("role", ["act.gamma", "layer.bias"])
def test_parameters_computed_at_run_time_stay(role: str) -> None:
    model = activated()
    next(v for n in model.graph for v in n.inputs if v is not None and v.name == role).const_value = None
    result = FoldShift()(model)
    reason = "parameters are computed at run time"
    assert [(n.site, n.applied, n.reason) for n in result.notes] == [("act", False, reason)]
    assert not result.modified


@settings(max_examples=30)
@given(kind=st.sampled_from(KINDS), residual=st.booleans(), seed=st.integers(0, 999))
def test_equivalence_and_second_run(kind: str, residual: bool, seed: int) -> None:
    """Of quarters, whose sums round nothing, both forms give the same bits (a Conv of floats, up to its own sums)."""
    model = activated(kind, residual=residual and kind in ("BinaryConv2d", "Conv"), seed=seed)
    x = quarters(model, seed)
    if kind == "Conv":  # whole weights: its sums are exact, too
        weight = model.graph.initializers["layer.weight"]
        weight.const_value = ir.tensor(np.rint(8 * array(weight)).astype(np.float32), name="layer.weight")
    before = run(model, x)[0]
    modified = FoldShift()(model).modified
    np.testing.assert_array_equal(run(model, x)[0], before)
    after = text(model)
    assert FoldShift()(model).modified is False
    assert text(model) == after
    assert modified or not array(node_named(model, "act").inputs[1]).any()

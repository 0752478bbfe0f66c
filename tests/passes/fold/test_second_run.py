"""Every fold pass, run twice on random networks: the second run says nothing happened, and nothing did."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.base import Pass
from bhpe_compile.passes.fold import fold_passes
from bhpe_compile.passes.fold.drop_dead_hardtanh import DropDeadHardtanh
from bhpe_compile.passes.fold.explicit_padding import ExplicitPadding
from bhpe_compile.passes.fold.fold_batch_norm import FoldBatchNorm
from tests.passes.fold.graphs import Builder, op_types, run, text

STEPS = ("pad", "clip", "norm", "rprelu", "identity", "residual", "conv", "up", "dense", "pool", "groups")


def network(steps: list[str], seed: int) -> ir.Model:
    """`steps` one after the other on [1, 4, 4, 4]; neither order nor repetition need make sense."""
    b = Builder(seed)
    y = source = b.input("x", (1, 4, 4, 4))
    for i, step in enumerate(steps):
        name, shape = f"{step}{i}", [int(d) for d in y.shape or ()]  # type: ignore[arg-type]
        if step == "pad":
            amounts = b.constant(f"{name}.amounts", np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
            y = b.add("Pad", [y, amounts], name, [*shape[:2], shape[2] + 1, shape[3] + 1])
        elif step == "clip":
            y = b.clip(y, name)
        elif step == "norm":
            y = b.batch_norm(y, name)
        elif step == "rprelu":
            y = b.rprelu(y, name)
        elif step == "identity":
            y = b.add("Identity", [y], name, shape)
        elif step == "residual":
            y = b.add("Add", [y, y], name, shape)
        elif step == "conv":
            y = b.binary("BinaryConv2d", y, name, 4)
        elif step == "pool":
            half = [*shape[:2], shape[2] // 2, shape[3] // 2]
            y = b.add("AveragePool", [y], name, half, kernel_shape=[2, 2], strides=[2, 2]) if min(half) else y
        elif step == "groups":
            parts = b.constant(f"{name}.parts", np.array([1, 2, 2, *shape[2:]], np.int64))
            split = b.add("Reshape", [y, parts], f"{name}.split", (1, 2, 2, *shape[2:]))
            axes = b.constant(f"{name}.axes", np.array([1], np.int64))
            mean = b.add("ReduceMean", [split, axes], f"{name}.mean", [1, 2, *shape[2:]], keepdims=0)
            y = b.add("Concat", [mean, mean], name, shape, axis=1)
        elif step == "up":
            y = b.binary("BinaryConvTranspose2d", y, name, 4)
        else:
            y = b.dense(y, name, 4, bias=True)
    return b.build(y if y is not source else b.add("Relu", [y], "only", (1, 4, 4, 4)))


chains = st.lists(st.sampled_from(STEPS), max_size=8)


@pytest.mark.parametrize("one", fold_passes(), ids=lambda one: one.name)
@settings(max_examples=40)
@given(steps=chains, seed=st.integers(0, 1000))
def test_alone(one: Pass[ir.Model], steps: list[str], seed: int) -> None:
    model = network(steps, seed)
    before = text(model)
    first = one(model)
    after = text(model)
    assert first.modified or after == before, "a pass that changes something has to say so"
    assert (one(model).modified, text(model)) == (False, after)


@settings(max_examples=25)
@given(steps=chains.filter(lambda steps: "identity" not in steps), seed=st.integers(0, 1000))
def test_in_order(steps: list[str], seed: int) -> None:
    """All passes, then all again. (An Identity, which clean-up takes last, would hide a Pad from the first.)"""
    model = network(steps, seed)
    for one in fold_passes():
        one(model)
    after = text(model)
    again = {one.name: one(model).modified for one in fold_passes()}
    assert again == dict.fromkeys(again, False)
    assert text(model) == after


@pytest.mark.parametrize(
    ("one", "steps"),
    [
        (ExplicitPadding(), ["pad", "pad", "dense"]),
        (DropDeadHardtanh(), ["clip", "clip", "conv"]),
        (FoldBatchNorm(), ["conv", "norm", "norm"]),
        (FoldBatchNorm(), ["dense", "norm", "norm"]),
    ],
    ids=["pad", "clip", "binary norm", "dense norm"],
)
def test_stacks_fold_at_once(one: Pass[ir.Model], steps: list[str]) -> None:
    model = network(steps, 0)
    x = Builder(20).normal(1, 4, 4, 4)
    before = run(model, x)[0]
    assert one(model).modified
    assert len(set(op_types(model)) & {"Pad", "Clip", "BatchNormalization"}) == 0
    assert not one(model).modified
    # signs see the same bits; two norms become one affine: float32, values of order 10
    np.testing.assert_allclose(run(model, x)[0], before, rtol=1e-5, atol=3e-5)

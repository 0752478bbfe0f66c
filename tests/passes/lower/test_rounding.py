"""QuantizeActivations and NarrowStorage: 8-bit and float16 values between kernels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.base import Pass
from bhpe_compile.passes.fold.half_residuals import HalfResiduals
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.narrow_storage import NarrowStorage
from bhpe_compile.passes.lower.quantize_activations import QuantizeActivations
from bhpe_compile.targets.isa import AVX512
from tests.passes.lower.evaluate import evaluate
from tests.passes.lower.graphs import Builder, small_network
from tests.passes.lower.test_passes import kinds, node_of, reference

RANGES = dict.fromkeys(("stem", "block.shortcut", "down", "up"), (-3.0, 3.0))


def rounded_network(seed: int = 0) -> ir.Model:
    """The small network with 8-bit dense layers and float16 residuals, not yet lowered."""
    model = small_network(seed=seed)
    QuantizeDense(RANGES)(model)
    HalfResiduals()(model)
    return model


def lowered(model: ir.Model, until: type[Pass[ir.Model]] | None = None) -> ir.Model:
    """All lower passes, or those before `until`."""
    for one in lower_passes():
        if until is not None and isinstance(one, until):
            break
        one(model)
    return model


def strided() -> ir.Model:
    b = Builder(2)
    x = b.input("image", (1, 6, 9, 7))
    model = b.build(b.dense_conv(x, "down", 6, 8, 1, 2), b.dense_conv(x, "up", 6, 8, 3, 2, 1))
    QuantizeDense(RANGES)(model)
    return model


def test_a_kernel_of_its_own_writes_the_levels() -> None:
    model = lowered(strided(), QuantizeActivations)
    assert kinds(model)["Quantize"] == 0
    assert QuantizeActivations()(model).modified
    found = {g.text(n, "layer"): n for n in model.graph if n.op_type == "Quantize"}
    # a strided 1x1 convolution reads every second pixel; a 3x3 one all of them and a border; one pixel more, since
    # 6 and 18 values of a kernel row are read in groups of 4
    assert [g.shape_of(found[name].outputs[0]) for name in ("down", "up")] == [(1, 5, 5, 6), (1, 11, 10, 6)]
    assert g.integer(node_of(model, "down"), "stride") == 1
    assert g.integer(node_of(model, "up"), "stride") == 2
    assert not QuantizeActivations()(model).modified


def test_float_layers_are_left_alone() -> None:
    model = lowered(small_network(), QuantizeActivations)
    assert QuantizeActivations()(model).notes == ()
    assert NarrowStorage()(model).notes == ()


def test_kernels_store_float16_themselves() -> None:
    model = lowered(rounded_network(), NarrowStorage)
    assert kinds(model)["Cast"] == 8
    assert NarrowStorage()(model).modified
    assert kinds(model)["Cast"] == 0
    for layer in ("stem", "block.conv1", "block.shortcut"):
        out = g.result(node_of(model, layer), "out")
        assert out is not None
        assert out.dtype == ir.DataType.FLOAT16
    shortcut = g.operand(node_of(model, "block.conv2"), "shortcut")
    assert shortcut is not None
    assert shortcut.dtype == ir.DataType.FLOAT16
    assert not NarrowStorage()(model).modified


def test_a_value_no_kernel_writes_keeps_its_cast() -> None:
    b = Builder(4)
    x = b.input("image", (1, 8, 4, 4))
    y = b.add("Exp", [x], "exp")
    model = b.build(b.add("Add", [b.binary_conv(y, "layer", 8, 8), y], "sum"))
    HalfResiduals()(model)
    lowered(model, NarrowStorage)
    result = NarrowStorage()(model)
    assert [note.applied for note in result.notes] == [False]
    assert "no kernel of ours writes it" in result.notes[0].reason


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99))
def test_equivalence(seed: int) -> None:
    model = rounded_network(seed)
    image = np.random.default_rng(seed).standard_normal((1, 3, 16, 12)).astype(np.float32)
    expected = reference(model, image)
    got = evaluate(lowered(model), {"image": image})
    for value, want in zip(got, expected, strict=True):
        # the stem's sums differ in the last bits, which may move a level, a float16 rounding or a sign
        assert (np.abs(value - want) > 2e-2).mean() <= 0.02


@pytest.mark.parametrize("size", [(1, 1), (5, 4)])
def test_transposed_convolutions(size: tuple[int, int]) -> None:
    b = Builder(5)
    x = b.input("image", (1, 6, *size))
    weight = b.constant("up.weight", b.normal(6, 8, 4, 4, std=0.1).astype(np.float16).astype(np.float32))
    facts = {"strides": [2, 2], "pads": [1] * 4, "kernel_shape": [4, 4]}
    model = b.build(b.add("ConvTranspose", [x, weight], "up", **facts))
    QuantizeDense(RANGES)(model)
    image = b.normal(1, 6, *size)
    expected = reference(model, image)[0]
    got = evaluate(lowered(model), {"image": image})[0]
    # exact integers here, float32 sums there
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_linear_layers_with_8_bit_weights() -> None:
    b = Builder(6)
    x = b.input("image", (1, 3, 4, 4))
    flat = b.add("Reshape", [x, b.constant("shape", np.array([1, 48]))], "flat")
    weight = b.constant("out.weight", b.normal(6, 48, std=0.1).astype(np.float16).astype(np.float32))
    model = b.build(b.add("Gemm", [flat, weight, b.constant("out.bias", b.normal(6))], "out", transB=1))
    QuantizeDense({})(model)
    image = b.normal(1, 3, 4, 4)
    expected = reference(model, image)[0]
    lowered(model)
    assert describe(node_of(model, "out")).parameters(AVX512)[1].dtype == "int8"
    # float32 sums in another order
    np.testing.assert_allclose(evaluate(model, {"image": image})[0], expected, rtol=1e-5, atol=1e-6)

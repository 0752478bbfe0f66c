"""Which 8-bit instruction a network's weights allow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from bhpe_compile.passes.base import Note
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.fold.quantize_linear import QuantizeLinear
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.byte_pairs import TAKEN, fitted_target
from bhpe_compile.targets import PRESETS, get_target
from bhpe_compile.targets.isa import AVX2, AVX2_BYTES
from tests.passes.lower.graphs import Builder, run, text

X86 = get_target("x86")
LAYERS = ("one", "deep", "two", "up")


def network(pair_safe: bool, seed: int = 0) -> ir.Model:
    """Every kind of layer whose weights are multiplied in pairs, and a depthwise one, as kernels."""
    b = Builder(seed)
    x = b.dense_conv(b.input("image", (1, 3, 6, 8)), "one", 3, 10, 3, 1, 1)
    weight = b.constant("deep.weight", b.normal(10, 1, 3, 3).astype(np.float16).astype(np.float32))
    x = b.add("Conv", [x, weight], "deep", pads=[1] * 4, group=10, kernel_shape=[3, 3])
    x = b.dense_conv(x, "two", 10, 7)
    weight = b.constant("up.weight", b.normal(7, 4, 4, 4).astype(np.float16).astype(np.float32))
    x = b.add("ConvTranspose", [x, weight], "up", pads=[1] * 4, strides=[2, 2], kernel_shape=[4, 4])
    x = b.add("Flatten", [x], "flat")
    weight = b.constant("linear.weight", b.normal(5, 4 * 12 * 16))
    x = b.add("Gemm", [x, weight, b.constant("linear.bias", b.normal(5))], "linear", transB=1)
    model = b.build(x)
    QuantizeLinear(pair_safe=pair_safe)(model)
    QuantizeDense(dict.fromkeys(LAYERS, (-2.0, 2.0)), pair_safe=pair_safe)(model)
    return run(model, *lower_passes(isa=AVX2))


def spoiled(layer: str) -> ir.Model:
    """The same with one pair of weights that does not fit, in one layer."""
    model = network(True)
    nodes = (
        n for n in model.graph if g.is_kernel(n) and g.text(n, "layer") == layer and "weight" in g.roles(n)
    )
    weight = g.operand(next(nodes), "weight")
    levels = g.array_of(weight)
    assert levels is not None
    levels = levels.copy()
    if layer == "up":
        levels[:, 0] = 65  # [Cin, Cout, ...]
    else:
        levels[0] = 65
    weight.const_value = ir.tensor(levels, name=weight.name)
    return model


def test_every_pair_fits() -> None:
    model = network(True)
    before = text(model)
    target, note = fitted_target(model, X86)
    assert target == replace(X86, isa=AVX2_BYTES)
    assert note == TAKEN
    assert text(model) == before
    assert fitted_target(model, target) == (target, TAKEN)


def test_weights_of_any_steps_are_multiplied_as_words() -> None:
    target, note = fitted_target(network(False), X86)
    assert target is X86
    assert note is not None
    assert (note.site, note.applied) == ("one", False)


@pytest.mark.parametrize("layer", ["one", "two", "up", "linear"])
def test_one_pair_too_large(layer: str) -> None:
    target, note = fitted_target(spoiled(layer), X86)
    assert target is X86
    reason = "two weights of it sum to too much for products of bytes: words are multiplied"
    assert note == Note("byte-pairs", layer, False, reason)


def test_depthwise_layers_do_not_matter() -> None:
    assert fitted_target(spoiled("deep"), X86)[0].isa == AVX2_BYTES


def test_a_network_without_such_layers() -> None:
    b = Builder()
    model = run(b.build(b.dense_conv(b.input("image", (1, 8, 4, 4)), "float", 8, 8)), *lower_passes())
    assert fitted_target(model, X86) == (X86, None)


@pytest.mark.parametrize("name", [name for name, one in PRESETS.items() if one.isa.in_pairs is None])
def test_other_targets_gain_nothing_and_it_is_said(name: str) -> None:
    reason = f"{name} multiplies any weights alike: --pair-safe gains nothing there, and costs accuracy"
    expected = Note("byte-pairs", "", False, reason)
    assert fitted_target(network(True), PRESETS[name]) == (PRESETS[name], expected)

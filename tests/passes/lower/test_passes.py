"""All passes of the lowering together: equivalence with ONNX Runtime on the graph before, and a second run.

Kernel nodes are evaluated by their NumPy references, everything else by the ONNX reference implementation. What each
pass does is tested in the file of its name.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.fold.half_residuals import HalfResiduals
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from tests.passes.lower.evaluate import evaluate, reference
from tests.passes.lower.graphs import Builder, bidrb, kinds, run, small_network, text


def test_bits_are_written_by_the_producers() -> None:
    model = run(small_network(), *lower_passes())
    assert kinds(model)["PackBits"] == 0
    pool = next(n for n in model.graph if n.op_type == "MaxPool2d")
    assert list(g.results_of(pool)) == ["out", "bits"]
    assert all("input_threshold" not in g.roles(n) for n in model.graph if g.is_kernel(n, "BinaryConv2d"))


@settings(max_examples=25)
@given(
    channels=st.sampled_from([4, 8, 16, 20, 24, 64]),
    out=st.sampled_from([4, 8, 16, 20, 32, 40, 64, 96]),
    stride=st.sampled_from([1, 2]),
    height=st.sampled_from([4, 6, 8]),
    seed=st.integers(0, 1000),
)
def test_equivalence_and_idempotence(channels: int, out: int, stride: int, height: int, seed: int) -> None:
    """Any BiDRB kind computes the same before and after all passes; a second run changes nothing."""
    if max(channels, out) % min(channels, out):
        out = channels
    b = Builder(seed)
    x = b.input("image", (1, channels, height, 6))
    y = bidrb(b, x, "conv", channels, out, stride)
    model = b.build(y)
    image = b.normal(1, channels, height, 6)
    expected = reference(model, image)
    run(model, *lower_passes())
    (got,) = evaluate(model, {"image": image})
    np.testing.assert_array_equal(got, expected[0])
    before = text(model)
    again = [one(model).modified for one in lower_passes()]
    assert not any(again)
    assert text(model) == before


def test_whole_small_network_is_equivalent() -> None:
    model = small_network(height=32, width=32)
    image = np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)
    expected = reference(model, image)
    run(model, *lower_passes())
    for got, want in zip(evaluate(model, {"image": image}), expected, strict=True):
        # the stem's float sums differ in the last bits, which may flip a sign: at most 1 in 1000 values moves
        moved = np.abs(got - want) > 1e-4
        assert moved.mean() <= 1e-3


@settings(max_examples=10)
@given(seed=st.integers(0, 99))
def test_rounded_network_is_equivalent(seed: int) -> None:
    """With 8-bit dense layers and float16 residuals nothing is left in float: every bit is the same."""
    model = small_network(seed=seed)
    QuantizeDense(dict.fromkeys(("stem", "block.shortcut"), (-3.0, 3.0)))(model)
    HalfResiduals()(model)
    image = np.random.default_rng(seed).standard_normal((1, 3, 16, 12)).astype(np.float32)
    expected = reference(model, image)
    got = evaluate(run(model, *lower_passes()), {"image": image})
    for value, want in zip(got, expected, strict=True):
        np.testing.assert_array_equal(value, want)

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.exchange.nodes import only_use
from bhpe_compile.passes.fold.half_residuals import HalfResiduals
from bhpe_compile.passes.fold.pack_weights import PackWeights
from bhpe_compile.passes.half_maps import does_not_fit
from tests.passes.fold.graphs import Builder, array, node_named, op_types, run, text

SHAPE = (1, 8, 4, 6)


def block(seed: int = 0, *, shortcut: bool = False, pool: bool = False) -> ir.Model:
    """conv -> [max pool] -> binary layer + local residual -> RPReLU [+ dense shortcut]."""
    b = Builder(seed)
    x = b.dense(b.input("x", SHAPE), "stem", 8)
    if pool:
        x = b.add("MaxPool", [x], "pool", SHAPE, kernel_shape=[3, 3], pads=[1] * 4)
    y = b.add("Add", [b.binary("BinaryConv2d", x, "layer", 8), b.clip(x, "clip")], "sum", SHAPE)
    y = b.rprelu(y, "act")
    if shortcut:
        y = b.add("Add", [y, b.dense(x, "shortcut", 8)], "total", SHAPE)
    model = b.build(y)
    PackWeights()(model)
    return model


def test_what_binary_layers_share_with_others_is_rounded_for_the_others() -> None:
    model = block()
    assert HalfResiduals()(model).modified
    stem = node_named(model, "stem").outputs[0]
    assert node_named(model, "layer").inputs[0] is stem  # signs are taken before the rounding
    cast = node_named(model, "stem.y.half.cast")
    assert cast.inputs[0] is stem
    back = only_use(cast.outputs[0])
    assert back is not None
    assert node_named(model, "clip").inputs[0] is back.outputs[0]
    assert [cast.outputs[0].dtype, back.outputs[0].dtype] == [ir.DataType.FLOAT16, ir.DataType.FLOAT]


def test_shortcuts_and_pooled_maps() -> None:
    model = block(shortcut=True, pool=True)
    result = HalfResiduals()(model)
    reasons = {note.site: note.reason.partition(": ")[2] for note in result.notes}
    assert reasons == {
        "stem": "it is max-pooled",
        "pool": "binary layers read its signs, others its values",
        "shortcut": "it is the shortcut of a binary layer",
    }
    assert op_types(model).count("Cast") == 6


def test_a_transposed_convolution_is_pooled_as_well() -> None:
    b = Builder(2)
    up = b.dense(b.input("x", SHAPE), "up", 8, transposed=True)
    model = b.build(b.add("MaxPool", [up], "pool", (1, 8, 8, 12), kernel_shape=[3, 3], pads=[1] * 4))
    (note,) = HalfResiduals()(model).notes
    assert (note.site, note.reason) == ("up", "up.y is kept in float16: it is max-pooled")


@pytest.mark.parametrize("kind", ["BinaryConv2d", "dense"])
def test_maps_read_once_stay(kind: str) -> None:
    b = Builder(1)
    x = b.dense(b.input("x", SHAPE), "stem", 8)
    model = b.build(b.dense(x, "next", 8) if kind == "dense" else b.binary(kind, x, "next", 8))
    PackWeights()(model)
    before = text(model)
    assert not HalfResiduals()(model).modified
    assert text(model) == before


@settings(max_examples=25)
@given(seed=st.integers(0, 99), shortcut=st.booleans(), pool=st.booleans())
def test_equivalence_and_second_run(seed: int, shortcut: bool, pool: bool) -> None:
    """Rounding where the pass says so, done by hand, gives the same numbers; a second run changes nothing."""
    model, plain = block(seed, shortcut=shortcut, pool=pool), block(seed, shortcut=shortcut, pool=pool)
    assert HalfResiduals()(model).modified
    x = Builder(seed + 1).normal(*SHAPE)
    exact, rounded = run(plain, x)[0], run(model, x)[0]
    if pool:  # signs behind a rounded map may flip: only the casts themselves are looked at
        assert {n.op_type for n in model.graph} - {n.op_type for n in plain.graph} == {"Cast"}
    else:
        # float16 has 11 bits; two roundings of values below 16
        np.testing.assert_allclose(rounded, exact, rtol=0, atol=2 * 16 * 2.0**-11)
        assert shortcut or (rounded != exact).any()
    after = text(model)
    assert not HalfResiduals()(model).modified
    assert text(model) == after


def test_onnxruntime_keeps_the_rounding() -> None:
    """Its optimizer must not drop a cast to float16 and back."""
    b = Builder(3)
    x = b.input("x", SHAPE)
    y = b.rprelu(x, "act")
    nothing = np.zeros(8, np.float32)
    z = b.binary("BinaryConv2d", y, "layer", 8, scale=nothing, bias=nothing)
    model = b.build(b.add("Add", [z, y], "sum", SHAPE))
    PackWeights()(model)
    HalfResiduals()(model)
    image = b.normal(*SHAPE)
    parameters = [array(v) for v in node_named(model, "act").inputs[1:]]
    shifted = image - parameters[0]
    value = np.where(shifted > 0, shifted, parameters[1] * shifted) + parameters[2]
    np.testing.assert_array_equal(run(model, image)[0], value.astype(np.float16).astype(np.float32))


def test_maps_that_float16_does_not_hold_stay() -> None:
    model = block(shortcut=True, pool=True)
    result = HalfResiduals({"pool.y": 1e5, "elsewhere": 1e5})(model)
    applied = {note.site: note.applied for note in result.notes}
    assert applied == {"stem": True, "pool": False, "shortcut": True}
    (refused,) = (note.reason for note in result.notes if not note.applied)
    assert refused == "pool.y stays float32: it reaches 1e+05, float16 holds 0.00098 to 65504"
    assert op_types(model).count("Cast") == 4
    assert not HalfResiduals({"stem.y": 1e5})(block()).modified


@pytest.mark.parametrize(
    ("largest", "fits"),
    [(0, True), (1e-6, False), (9e-4, False), (1e-3, True), (1.6e4, True), (1.7e4, False), (np.inf, False)],
)
def test_what_float16_holds(largest: float, fits: bool) -> None:
    assert does_not_fit(largest) is not fits

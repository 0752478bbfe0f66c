"""Epilogues: what they refuse, which arguments they take, how they are named, and what they compute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.kernels import Epilogue, Residual
from bhpe_compile.kernels.epilogue import Levels, values_fit
from bhpe_compile.kernels.kernel import Parameter, unpack_bits
from bhpe_compile.targets.isa import NEON
from tests.kernels.strategies import epilogues

FITS = [("same", 8, 8), ("repeat", 4, 8), ("repeat", 8, 8), ("group_mean", 24, 8), ("group_mean", 8, 8)]
REFUSED = [
    ("same", 4, 8),
    ("same", 16, 8),
    ("repeat", 16, 8),
    ("repeat", 3, 8),
    ("group_mean", 4, 8),
    ("group_mean", 12, 8),
]


@pytest.mark.parametrize(("kind", "channels", "out"), FITS)
def test_residuals_that_fit(kind: Any, channels: int, out: int) -> None:
    Residual(kind, channels).check(out)
    Epilogue(Residual(kind, channels)).check(out)


@pytest.mark.parametrize(("kind", "channels", "out"), REFUSED)
def test_residuals_that_do_not_fit(kind: Any, channels: int, out: int) -> None:
    match = rf"^residual {kind}: {channels} channels do not fit {out}$"
    with pytest.raises(ValueError, match=match):
        Residual(kind, channels).check(out)
    with pytest.raises(ValueError, match=match):
        Epilogue(Residual(kind, channels)).check(out)


def test_what_an_epilogue_refuses() -> None:
    with pytest.raises(ValueError, match=r"^an epilogue must store floats, bits or both$"):
        Epilogue(store=False).check(8)
    with pytest.raises(ValueError, match=r"^packed output needs a multiple of 8 channels, not 12$"):
        Epilogue(bits=True).check(12)
    with pytest.raises(
        ValueError, match=r"^packed output repeats residuals of a multiple of 8 channels, not 4$"
    ):
        Epilogue(Residual("repeat", 4), bits=True).check(8)
    of_table = Levels(0, 3, of_table=True)
    for wrong in (
        Epilogue(activation="leaky", levels=of_table),
        Epilogue(activation="table", shortcut=True, levels=of_table),
    ):
        with pytest.raises(ValueError, match=r"^levels of a table need one, and nothing behind it$"):
            wrong.check(8)
    Epilogue(activation="table", levels=of_table).check(8)
    Epilogue(activation="table", shortcut=True, levels=Levels(0, 3)).check(8)
    Epilogue(store=False, levels=Levels(0, 3)).check(8)
    Epilogue().check(12)
    Epilogue(store=False, bits=True).check(16)
    Epilogue(Residual("repeat", 8), bits=True).check(16)
    Epilogue(Residual("repeat", 4)).check(8)
    Epilogue(Residual("same", 8), bits=True).check(8)
    Epilogue(Residual("group_mean", 8 * 3), bits=True).check(8)


@pytest.mark.parametrize(
    ("epilogue", "free"),
    [
        (Epilogue(), True),
        (Epilogue(bits=True), True),
        (Epilogue(bits=True, bits_border=1), False),
        (Epilogue(bits=False, bits_border=1), True),
        (Epilogue(Residual("same", 8)), True),
        (Epilogue(Residual("same", 8, pool=True)), False),
        (Epilogue(Residual("same", 8, pool=True), bits=True), False),
    ],
)
def test_pixels_are_numbered_through_where_rows_make_no_difference(epilogue: Epilogue, free: bool) -> None:
    assert epilogue.is_per_pixel(8) == free


FULL = Epilogue(
    Residual("repeat", 8, pool=True, clip=True, dtype="float16"),
    "rprelu",
    shortcut=True,
    bits=True,
    bits_border=2,
    out_dtype="float16",
    shortcut_dtype="float16",
)


def test_arguments_in_calling_order() -> None:
    affine = [Parameter("scale", (16,), "float32"), Parameter("bias", (16,), "float32")]
    assert Epilogue().parameters(2, 3, 5, 16) == (
        *affine,
        Parameter("out", (2, 3, 5, 16), "float32", is_output=True),
    )
    assert FULL.parameters(2, 3, 5, 16) == (
        *affine,
        Parameter("residual", (2, 6, 10, 8), "float16"),
        Parameter("beta", (16,), "float32"),
        Parameter("zeta", (16,), "float32"),
        Parameter("shortcut", (2, 3, 5, 16), "float16"),
        Parameter("threshold", (16,), "float32"),
        Parameter("out", (2, 3, 5, 16), "float16", is_output=True),
        Parameter("bits", (2, 7, 9, 4), "uint8", is_output=True),
    )
    roles = [
        p.role
        for p in replace(FULL, bits_at_zero=True, store=False, activation="leaky").parameters(1, 1, 1, 16)
    ]
    assert roles == ["scale", "bias", "residual", "beta", "zeta", "shortcut", "bits"]
    roles = [p.role for p in replace(FULL, activation="relu", bits=False).parameters(1, 1, 1, 16)]
    assert roles == ["scale", "bias", "residual", "shortcut", "out"]
    clipped = replace(FULL, activation="clip", bits=False).parameters(1, 1, 1, 16)
    assert clipped[3] == Parameter("limits", (2,), "float32")
    levels = Epilogue(activation="table", store=False, levels=Levels(1, 9)).parameters(2, 3, 5, 16)
    assert levels == (
        *affine,
        Parameter("table", (256,), "uint8"),
        Parameter("grid", (3,), "float32"),
        Parameter("requantization", (2,), "float32"),
        Parameter("levels", (2, 5, 9, 16), "uint8", is_output=True),
    )
    assert Epilogue(levels=Levels(1, 9)).parameters(2, 3, 5, 16, NEON)[-1].dtype == NEON.int8.dtype
    plain = Epilogue(Residual("same", 16), shortcut=True).parameters(1, 2, 3, 16)
    assert [p.shape for p in plain[2:]] == [(1, 2, 3, 16)] * 3
    assert [p.dtype for p in plain[2:]] == ["float32"] * 3


@pytest.mark.parametrize(
    ("epilogue", "word"),
    [
        (Epilogue(), "_store"),
        (Epilogue(out_dtype="float16"), "_storeh"),
        (Epilogue(store=False, bits=True, bits_border=1), "_bits1"),
        (Epilogue(bits=True, bits_at_zero=True), "_store_signs0"),
        (Epilogue(activation="leaky"), "_leaky_store"),
        (Epilogue(shortcut=True), "_shortcut_store"),
        (Epilogue(shortcut=True, shortcut_dtype="float16"), "_shortcuth_store"),
        (Epilogue(Residual("same", 8)), "_same8_store"),
        (Epilogue(Residual("group_mean", 8, pool=True)), "_groupmean8p_store"),
        (Epilogue(Residual("repeat", 8, clip=True)), "_repeat8c_store"),
        (FULL, "_repeat8pch_rprelu_shortcuth_storeh_bits2"),
    ],
)
def test_names(epilogue: Epilogue, word: str) -> None:
    """Everything that decides the code is in the name."""
    assert epilogue.symbol() == word


def residual_of(one: Residual, source: np.ndarray, at: tuple[int, int, int], c: int, out: int) -> np.float64:
    """One value of a residual, by its definition."""
    n, y, x = at

    def pixel(channel: int) -> np.float64:
        part = (
            source[n, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2, channel] if one.pool else source[n, y, x, channel]
        )
        values = np.asarray(part, np.float64)
        return np.mean(np.clip(values, -1, 1) if one.clip else values)

    if one.kind == "repeat":
        return pixel(c % one.channels)
    if one.kind == "group_mean":
        return np.mean([pixel(k) for k in range(c, one.channels, out)])
    return pixel(c)


@settings(max_examples=80)
@given(data=st.data(), channels=st.sampled_from([8, 16]), seed=st.integers(0, 1000))
def test_reference(data: st.DataObject, channels: int, seed: int) -> None:
    """Every step by its definition, value by value."""
    epilogue = data.draw(epilogues(channels))
    generator = np.random.default_rng(seed)
    shape = (2, 2, 3, channels)
    dot = generator.integers(-50, 50, shape)
    arrays = {
        p.role: generator.standard_normal(p.shape).astype(p.dtype)
        for p in epilogue.parameters(2, 2, 3, channels)
        if not p.is_output
    }
    found = epilogue.reference(dot, arrays)
    assert set(found) == {name for name, on in (("out", epilogue.store), ("bits", epilogue.bits)) if on}
    value = np.zeros(shape)
    for at in np.ndindex(shape):
        c = at[3]
        v = float(dot[at]) * arrays["scale"][c] + arrays["bias"][c]
        if epilogue.residual is not None:
            v += residual_of(epilogue.residual, arrays["residual"], at[:3], c, channels)
        if epilogue.activation == "relu":
            v = max(v, 0.0)
        elif epilogue.activation == "rprelu":
            v = (v if v > 0 else arrays["beta"][c] * v) + arrays["zeta"][c]
        elif epilogue.activation == "leaky":
            v = max(v, arrays["beta"][c] * v) + arrays["zeta"][c]
        value[at] = v + (arrays["shortcut"][at] if epilogue.shortcut else 0.0)
    if epilogue.store:
        assert found["out"].dtype == np.float32
        # float32 sums of values below 200
        np.testing.assert_allclose(found["out"], value, rtol=1e-5, atol=1e-4)
    if epilogue.bits:
        border = epilogue.bits_border
        threshold = np.zeros(channels) if epilogue.bits_at_zero else arrays["threshold"]
        bits = found["bits"]
        assert bits.shape == (2, 2 + 2 * border, 3 + 2 * border, 4)
        inner = unpack_bits(bits[:, border : border + 2, border : border + 3], channels)
        sure = np.abs(value - threshold) > 1e-3
        np.testing.assert_array_equal(inner[sure], (value >= threshold)[sure])
        assert bits.sum() == bits[:, border : border + 2, border : border + 3].sum()


def test_equality_is_above() -> None:
    """Of a threshold, of zero, of minus zero; and a value of zero is not positive."""
    arrays = {"scale": np.ones(8, np.float32), "bias": np.zeros(8, np.float32)}
    dot = np.array([-1, 0, 1, 2, -2, 0, 3, 4]).reshape(1, 1, 1, 8)
    zero = Epilogue(store=False, bits=True, bits_at_zero=True).reference(dot, arrays)
    assert unpack_bits(zero["bits"], 8).ravel().tolist() == [False, True, True, True, False, True, True, True]
    arrays["threshold"] = np.full(8, 2, np.float32)
    two = Epilogue(store=False, bits=True).reference(dot, arrays)
    assert unpack_bits(two["bits"], 8).ravel().tolist() == [
        False,
        False,
        False,
        True,
        False,
        False,
        True,
        True,
    ]
    arrays |= {"beta": np.full(8, 5, np.float32), "zeta": np.ones(8, np.float32)}
    steep = Epilogue(activation="rprelu").reference(dot, arrays)["out"].ravel().tolist()
    assert steep == [-4, 1, 2, 3, -9, 1, 4, 5]
    assert Epilogue(activation="leaky").reference(dot, arrays)["out"].ravel().tolist() == [
        0,
        1,
        6,
        11,
        -1,
        1,
        16,
        21,
    ]


def test_results_are_rounded_to_float16_and_bits_are_not() -> None:
    arrays = {"scale": np.ones(8, np.float32), "bias": np.full(8, 1 + 2**-13, np.float32)}
    arrays["threshold"] = np.full(8, 1 + 2**-14, np.float32)
    found = Epilogue(bits=True, out_dtype="float16").reference(np.zeros((1, 1, 1, 8)), arrays)
    assert found["out"].dtype == np.float16
    assert np.all(found["out"] == 1)
    assert unpack_bits(found["bits"], 8).all()


def test_clips_tables_and_levels() -> None:
    """Value by value: table[rint(v) + 3], times 0.5 about 10; levels of a table are its entries, others are rounded;
    what lies around the map is the zero point."""
    dot = np.array([-300, -4, -3, 0, 1, 2, 252, 300]).reshape(1, 1, 1, 8)
    arrays = {"scale": np.ones(8, np.float32), "bias": np.full(8, 0.25, np.float32)}
    arrays["limits"] = np.array([-2, 1.75], np.float32)
    clipped = Epilogue(activation="clip").reference(dot, arrays)["out"]
    assert clipped.ravel().tolist() == [-2, -2, -2, 0.25, 1.25, 1.75, 1.75, 1.75]
    table = np.arange(256)[::-1].astype(np.uint8)
    arrays |= {"table": table, "grid": np.array([3, 0.5, 10], np.float32)}
    arrays["requantization"] = np.array([2, 7], np.float32)
    entries = [255, 255, 255, 252, 251, 250, 0, 0]
    values = [(entry - 10) / 2 for entry in entries]
    both = Epilogue(activation="table", levels=Levels(1, 4, of_table=True)).reference(dot, arrays)
    assert both["out"].ravel().tolist() == values
    assert both["levels"].shape == (1, 3, 4, 8)
    assert both["levels"][0, 1, 1].tolist() == entries
    both["levels"][0, 1, 1] = 7
    assert (both["levels"] == 7).all()
    rounded = Epilogue(activation="table", store=False, levels=Levels(0, 1)).reference(dot, arrays)
    assert list(rounded) == ["levels"]
    want = [min(max(round(value / 2) + 7, 0), 255) for value in values]
    assert rounded["levels"].ravel().tolist() == want


@pytest.mark.parametrize(
    ("levels", "word"),
    [
        (Levels(1, 9), "_levels1w9d"),
        (Levels(0, 8, divides=False), "_levels0w8"),
        (Levels(0, 8, of_table=True), "_levels0w8t"),
        (Levels(0, 8, fits=True), "_levels0w8df"),
    ],
)
def test_names_of_levels(levels: Levels, word: str) -> None:
    assert levels.symbol() == word
    assert Epilogue(store=False, levels=levels).symbol() == word


@pytest.mark.parametrize(
    ("levels", "free"), [(Levels(0, 8), True), (Levels(1, 10), False), (Levels(0, 9), False)]
)
def test_levels_with_a_border_or_spare_pixels_go_row_by_row(levels: Levels, free: bool) -> None:
    assert Epilogue(levels=levels).is_per_pixel(8) == free


def test_whether_values_fit() -> None:
    """The largest sum times the scale, and what is added; a table bounds what is behind it only."""
    arrays = {
        "scale": np.array([1e-3, -1e-2]),
        "bias": np.array([5.0, -7.0]),
        "requantization": np.array([1e-3, 0.0]),
        "beta": np.array([0.5, 1e4]),
        "zeta": np.zeros(2),
        "limits": np.array([-1.0, 1e12]),
    }
    assert values_fit("none", 5e7, arrays)
    assert not values_fit("none", 6e7, arrays)
    assert values_fit("table", 5e10, arrays)
    assert not values_fit("leaky", 5e7, arrays)
    assert not values_fit("clip", 1.0, arrays)
    assert not values_fit("none", 1.0, arrays | {"bias": np.array([np.nan, 0])})

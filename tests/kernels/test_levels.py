"""Kernels that write 8-bit levels themselves, clip, or look levels up in a table: equal to NumPy, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bhpe_compile.kernels import DenseConv2d, Epilogue, Int8Conv2d, Int8DepthwiseConv2d, Levels, Residual
from bhpe_compile.kernels.int8_layout import stored
from bhpe_compile.targets.isa import AVX512, VectorIsa
from tests.kernels.native import NATIVE_INT8, Array, run, weight_levels

PLAIN = Levels(0, 10)
BORDERED = Levels(2, 15, divides=False)
TABLE = Epilogue(activation="table", store=False, levels=replace(BORDERED, of_table=True))

CASES = {
    "divided": Epilogue(activation="relu", store=False, levels=PLAIN),
    "whole steps, and floats": Epilogue(activation="leaky", levels=BORDERED),
    "clipped": Epilogue(activation="clip", store=False, levels=BORDERED),
    "clipped floats": Epilogue(activation="clip"),
    "residual and shortcut": Epilogue(Residual("same", 72), shortcut=True, levels=Levels(1, 12)),
    "table": TABLE,
    "table and floats": replace(TABLE, store=True),
    "table, then a sum": Epilogue(activation="table", shortcut=True, levels=Levels(1, 14)),
    "table of floats": Epilogue(activation="table"),
    "beside bits": Epilogue(bits=True, bits_border=1, levels=PLAIN),
}
OUT_ZERO = 31


def kernels(epilogue: Epilogue, channels: int) -> list[Int8Conv2d | Int8DepthwiseConv2d]:
    """A 1x1 layer whose pixels may be numbered through, one of windows, and a depthwise one; outputs of 6 x 10."""
    return [
        Int8Conv2d(2, 6, 10, 12, channels, 1, 1, 0, 0, epilogue),
        Int8Conv2d(1, 6, 10, 5, channels, 3, 1, 1, 2, epilogue, row_pixels=16),
        Int8DepthwiseConv2d(1, 12, 20, channels, channels, 3, 2, 1, 1, 22, epilogue),
    ]


def arguments(
    kernel: Int8Conv2d | Int8DepthwiseConv2d, isa: VectorIsa, zero: int, seed: int
) -> dict[str, Array]:
    """Everything the kernel reads; sums fall on and around the levels, many of them half way between two."""
    generator = np.random.default_rng(seed)
    size = (kernel.batch, kernel.height + 2 * kernel.in_border, kernel.stored_width, kernel.in_channels)
    inner = kernel.in_channels if isinstance(kernel, Int8Conv2d) else 1
    count = inner * kernel.taps
    channels = kernel.out_channels
    shape = (channels, inner, kernel.kernel, kernel.kernel)
    of_pairs = isinstance(kernel, Int8Conv2d)  # depthwise layers take any weights everywhere
    given: dict[str, Array] = {
        "weight": weight_levels(isa if of_pairs else AVX512, generator, shape),
        "zero": np.array(zero),
        "scale": np.full(channels, 2.0 ** -np.ceil(np.log2(255 * np.sqrt(count)))),
        "bias": generator.integers(-40, 160, channels) / 2,
        "beta": generator.uniform(0, 1, channels),
        "zeta": generator.integers(-4, 4, channels) / 2,
        "limits": np.array([-20.5, 77.5]),
        "table": generator.permutation(256),
        "grid": np.array([zero, 0.37, OUT_ZERO]),
        "threshold": np.zeros(channels),
        "requantization": requantization(kernel.epilogue, zero),
    }
    listed = {p.role: p for p in kernel.parameters(isa) if not p.is_output}
    arrays = kernel.constants(isa, {role: a for role, a in given.items() if role in listed or role == "zero"})
    x = np.full(size, zero)
    b = kernel.in_border
    x[:, b : b + kernel.height, b : b + kernel.width] = generator.integers(
        0, 256, (kernel.batch, kernel.height, kernel.width, kernel.in_channels)
    )
    arrays["x"] = stored(x, zero, isa.int8)
    for role in ("residual", "shortcut"):
        if role in listed:
            arrays[role] = (generator.integers(-200, 200, listed[role].shape) / 4).astype(np.float32)
    return {role: array for role, array in arrays.items() if role in listed}


def requantization(epilogue: Epilogue, zero: int) -> Array:
    """Step and zero point of what is written."""
    if epilogue.levels is not None and epilogue.levels.of_table:
        return np.array([0.37, OUT_ZERO])
    divides = epilogue.levels is not None and epilogue.levels.divides
    return np.array([0.5 if divides else 1.0, zero])


@pytest.mark.parametrize("isa", NATIVE_INT8)
@pytest.mark.parametrize("case", CASES)
def test_levels_are_those_of_numpy(isa: VectorIsa, case: str) -> None:
    epilogue = CASES[case]
    for seed, kernel in enumerate(kernels(epilogue, 72)):
        for zero in (0, 113, 255):
            arrays = arguments(kernel, isa, zero, seed)
            got = run(kernel, isa, arrays)
            for role, array in kernel.reference(**arrays).items():
                if role == "levels":
                    assert zero != 113 or len(np.unique(array)) > 20  # not all clipped
                    array = stored(array, int(arrays["requantization"][1]), isa.int8)
                np.testing.assert_array_equal(got[role], array, err_msg=f"{role} {kernel.symbol()}")


@pytest.mark.parametrize("isa", NATIVE_INT8)
@pytest.mark.parametrize("channels", [12, 13, 24, 48])
def test_few_channels(isa: VectorIsa, channels: int) -> None:
    """Registers of several pixels at once, and vectors of eight, four and one lane."""
    for seed, kernel in enumerate(kernels(TABLE, channels)):
        arrays = arguments(kernel, isa, 77, seed)
        wanted = stored(kernel.reference(**arrays)["levels"], OUT_ZERO, isa.int8)
        np.testing.assert_array_equal(run(kernel, isa, arrays)["levels"], wanted)


@pytest.mark.parametrize("isa", NATIVE_INT8)
def test_registers_of_several_pixels_beside_floats(isa: VectorIsa) -> None:
    """Tables in front of other levels, floats, halves and sums, 24 channels wide."""
    table = Epilogue(activation="table", store=False, levels=BORDERED)
    for epilogue in (
        table,
        replace(table, levels=None, store=True),
        replace(TABLE, store=True, out_dtype="float16"),
        replace(table, store=True, shortcut=True),
    ):
        kernel = Int8Conv2d(1, 6, 10, 5, 24, 3, 1, 1, 2, epilogue, row_pixels=16)
        arrays = arguments(kernel, isa, 77, 5)
        got = run(kernel, isa, arrays)
        for role, array in kernel.reference(**arrays).items():
            if role == "levels":
                array = stored(array, int(arrays["requantization"][1]), isa.int8)
            np.testing.assert_array_equal(got[role], array, err_msg=f"{role} {kernel.symbol()}")


DEPTHWISE = [
    # height, width, channels, kernel, stride, padding, border, spare pixels
    (7, 9, 64, 3, 1, 1, 1, 0),
    (6, 10, 144, 5, 1, 2, 2, 0),
    (5, 9, 80, 5, 2, 2, 3, 1),
    (9, 7, 96, 3, 2, (0, 1, 1, 0), 1, 0),
    (5, 11, 32, 3, 1, 1, 1, 0),
    (4, 13, 16, 5, 1, 2, 2, 0),
    (1, 8, 64, 3, 1, 1, 1, 0),
    (6, 8, 24, 3, 1, 1, 1, 0),
]
"""The first of them by rows of bytes where an instruction is for them, the last by another design everywhere."""


@pytest.mark.parametrize("isa", NATIVE_INT8)
@pytest.mark.parametrize("sizes", DEPTHWISE, ids=str)
@pytest.mark.parametrize("activation", ["table", "leaky"])
def test_depthwise(isa: VectorIsa, sizes: tuple[Any, ...], activation: Any) -> None:
    height, width, channels, window, stride, padding, border, spare = sizes
    of_table = activation == "table"
    rows = width + 2 * border + spare
    draft = Int8DepthwiseConv2d(
        2, height, width, channels, channels, window, stride, padding, border, rows, Epilogue()
    )
    levels = Levels(1, draft.columns.count + 3, divides=False, of_table=of_table, fits=True)
    kernel = replace(draft, epilogue=Epilogue(activation=activation, store=False, levels=levels))
    arrays = arguments(kernel, isa, 113, 3)
    reference = kernel.reference(**arrays)["levels"]
    plain = replace(draft, epilogue=replace(kernel.epilogue, store=True))
    if arrays["weight"].ndim == 1:  # the layout is undone on the way to the reference
        other = plain.reference(**arguments(plain, isa, 113, 3))["levels"]
        np.testing.assert_array_equal(reference, other)
    wanted = stored(reference, int(arrays["requantization"][1]), isa.int8)
    np.testing.assert_array_equal(run(kernel, isa, arrays)["levels"], wanted)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="levels of a table need one"):
        Epilogue(levels=replace(PLAIN, of_table=True)).check(8)
    with pytest.raises(ValueError, match="shorter"):
        Int8Conv2d(1, 6, 10, 5, 8, 3, 1, 1, 2, Epilogue(), row_pixels=13)


def test_pixels_are_numbered_through_where_levels_are() -> None:
    assert Epilogue(levels=Levels(0, 10)).is_per_pixel(10)
    assert not Epilogue(levels=Levels(0, 11)).is_per_pixel(10)
    assert not Epilogue(levels=Levels(1, 12)).is_per_pixel(10)


def test_other_kernels_write_levels_as_well() -> None:
    kernel = DenseConv2d(1, 4, 4, 3, 8, 1, 1, 0, Epilogue(levels=Levels(1, 6)))
    assert kernel.parameters(NATIVE_INT8[0].values[0])[-1].shape == (1, 6, 6, 8)

"""8-bit tensors as each instruction reads them, and the integer reference, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.kernels import int8_layout as layout
from bhpe_compile.kernels.window import Window, convolution, deconvolution_phase
from bhpe_compile.targets.int8_instructions import (
    INT8_INSTRUCTIONS,
    PMADDUBSW,
    PMADDWD,
    SDOT,
    SMLAL,
    SMULL,
    VPDPBUSD,
    Int8Instruction,
)

EACH = pytest.mark.parametrize("use", INT8_INSTRUCTIONS, ids=lambda use: use.name)


@EACH
def test_arrays_tell_their_instruction(use: Int8Instruction) -> None:
    x = np.zeros(1, use.dtype)
    assert layout.instruction_of(x, np.zeros((1, 1, use.lanes * use.group), np.int8)) == use


@pytest.mark.parametrize(("dtype", "width"), [("uint8", 16), ("float32", 64), ("int16", 64)])
def test_arrays_of_no_instruction_are_refused(dtype: str, width: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^no 8-bit layout has {dtype} inputs and weight vectors of {width}$"
    ):
        layout.instruction_of(np.zeros(1, dtype), np.zeros((1, 1, width), np.int8))


def test_the_largest_sum() -> None:
    """255 * 127 for each product: the limit leaves room for -128."""
    assert layout.MAX_PRODUCTS * 255 * 128 <= 2**31 < (layout.MAX_PRODUCTS + 1) * 255 * 128
    layout.check_products(layout.MAX_PRODUCTS, 1)
    layout.check_products(layout.MAX_PRODUCTS // 9, 9)
    with pytest.raises(ValueError, match=r"^65794 channels x 1 taps exceed 65793 in 32-bit sums$"):
        layout.check_products(layout.MAX_PRODUCTS + 1, 1)


@pytest.mark.parametrize(
    ("use", "words"), [(VPDPBUSD, [1, 2, 2, 4]), (PMADDWD, [2, 3, 4, 8]), (SMLAL, [3, 5, 7, 15])]
)
def test_groups_of_a_kernel_row(use: Int8Instruction, words: list[int]) -> None:
    sizes = [(1, 3), (1, 5), (1, 7), (3, 5)]
    assert [layout.row_words(taps, channels, use) for taps, channels in sizes] == words


@pytest.mark.parametrize(
    ("window", "channels", "border", "pixels"),
    [
        (convolution(7, 1, 1, 0), 4, 0, 7),
        (convolution(7, 1, 1, 0), 3, 0, 8),  # 3 values read as 4: one pixel of 3 more
        (convolution(7, 1, 1, 0), 1, 0, 10),
        (convolution(7, 1, 2, 0), 1, 0, 10),  # the last pixel is read, too
        (convolution(8, 1, 2, 0), 1, 0, 10),  # the last pixel read is the seventh
        (convolution(8, 1, 2, 0), 4, 0, 8),
        (convolution(7, 3, 1, 1), 4, 1, 9),
        (convolution(7, 3, 1, 1), 6, 1, 10),
        (convolution(7, 3, 1, 1), 4, 2, 11),
        (convolution(7, 3, 1, 1), 6, 2, 11),
        (deconvolution_phase(5, 0), 3, 1, 7),
        (deconvolution_phase(5, 1), 3, 1, 8),
    ],
)
def test_width_of_a_stored_row(window: Window, channels: int, border: int, pixels: int) -> None:
    assert layout.stored_width(window, channels, border) == pixels


@settings(max_examples=60)
@given(
    size=st.integers(1, 9),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    channels=st.integers(1, 9),
    more=st.integers(0, 1),
)
def test_no_group_reads_beyond_a_stored_row(
    size: int, kernel: int, stride: int, channels: int, more: int
) -> None:
    """And without the last pixel either the map and its border or a group would not fit."""
    padding = kernel // 2
    window = convolution(size, kernel, stride, padding)
    border = padding + more
    width = layout.stored_width(window, channels, border)
    ends = []
    for use in INT8_INSTRUCTIONS:
        values = layout.row_words(kernel, channels, use) * use.group
        ends += [((i * stride - padding + border) * channels + values) for i in range(window.count)]
    assert max(ends) <= width * channels
    assert size + 2 * border <= width
    assert size + 2 * border == width or max(ends) > (width - 1) * channels


@pytest.mark.parametrize(
    ("use", "found"),
    [
        (VPDPBUSD, [0, 10, 255]),
        (PMADDUBSW, [0, 10, 255]),
        (SDOT, [-128, -118, 127]),
        (SMULL, [-128, -118, 127]),
        (PMADDWD, [-10, 0, 245]),
        (SMLAL, [-10, 0, 245]),
    ],
)
def test_levels_in_memory(use: Int8Instruction, found: list[int]) -> None:
    levels = layout.stored(np.array([0, 10, 255], np.uint8), 10, use)
    assert levels.dtype == np.dtype(use.dtype)
    assert levels.tolist() == found


@EACH
@settings(max_examples=20)
@given(
    outputs=st.integers(1, 40),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    channels=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_weights_lie_group_by_group(
    use: Int8Instruction, outputs: int, rows: int, columns: int, channels: int, seed: int
) -> None:
    """`pair` values of one output side by side, then those of the next lane; zeros fill last groups and lanes."""
    weights = (
        np.random.default_rng(seed).integers(-127, 128, (outputs, rows * columns, channels)).astype(np.int8)
    )
    found = layout.pack_int8(weights, rows, use)
    words = -(-columns * channels // use.group)
    panels = -(-outputs // use.lanes)
    assert (found.shape, found.dtype) == ((panels, rows * words, use.lanes * use.group), np.int8)
    assert found.flags.c_contiguous
    flat = weights.reshape(outputs, rows, columns * channels)
    want = np.zeros((panels * use.lanes, rows, words * use.group), np.int8)
    want[:outputs, :, : columns * channels] = flat
    for panel, row, at in np.ndindex(found.shape):
        part, inside = divmod(at, use.lanes * use.pair)
        lane, offset = divmod(inside, use.pair)
        kernel_row, word = divmod(row, words)
        value = word * use.group + part * use.pair + offset
        assert found[panel, row, at] == want[panel * use.lanes + lane, kernel_row, value]
    back = layout.unpack_int8(found, outputs, rows, use)
    assert (back.dtype, back.shape) == (np.int8, (outputs, rows, words * use.group))
    np.testing.assert_array_equal(back, want[:outputs])


@EACH
def test_starts_of_sums(use: Int8Instruction) -> None:
    """(shift - zero) times the sum of an output's weights, where levels keep their zero point."""
    weights = np.random.default_rng(0).integers(-127, 128, (5, 9, 7)).astype(np.int8)
    found = (
        layout.pack_start(10, weights, use) if use.shift is not None else layout.pack_start(0, weights, use)
    )
    assert (found.shape, found.dtype) == ((-(-5 // use.lanes) * use.lanes,), np.int32)
    offset = 0 if use.shift is None else use.shift - 10
    np.testing.assert_array_equal(found[:5], offset * weights.astype(int).sum((1, 2)))
    assert not found[5:].any()


@EACH
@settings(max_examples=20)
@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    size=st.tuples(st.integers(3, 5), st.integers(3, 6)),
    channels=st.integers(1, 6),
    more=st.integers(0, 1),
    zero=st.integers(0, 255),
    seed=st.integers(0, 1000),
)
def test_reference(
    use: Int8Instruction,
    kernel: int,
    stride: int,
    size: tuple[int, int],
    channels: int,
    more: int,
    zero: int,
    seed: int,
) -> None:
    """With the start of its sums it is the sum of (level - zero) * weight over the map."""
    padding = kernel // 2
    border = padding + more
    rows, columns = (convolution(n, kernel, stride, padding) for n in size)
    generator = np.random.default_rng(seed)
    levels = generator.integers(0, 256, (2, *size, channels))
    weights = generator.integers(-127, 128, (3, kernel * kernel, channels)).astype(np.int8)
    width = layout.stored_width(columns, channels, border)
    memory = np.full((2, size[0] + 2 * border, width, channels), zero)
    memory[:, border : border + size[0], border : border + size[1]] = levels
    packed = layout.unpack_int8(layout.pack_int8(weights, kernel, use), 3, kernel, use)
    x = layout.stored(memory.astype(np.uint8), zero, use)
    found = layout.reference_dot(x, packed, channels, border, rows, columns)
    assert (found.shape, found.dtype) == ((2, rows.count, columns.count, 3), np.int64)
    start = layout.pack_start(zero if use.shift is not None else 0, weights, use)[:3]
    padded = np.zeros((2, size[0] + 2 * padding, size[1] + 2 * padding, channels), int)
    padded[:, padding : padding + size[0], padding : padding + size[1]] = levels - zero
    for y in range(rows.count):
        for xo in range(columns.count):
            part = padded[:, y * stride : y * stride + kernel, xo * stride : xo * stride + kernel].reshape(
                2, -1, channels
            )
            want = np.einsum("ntc,otc->no", part, weights.astype(int))
            np.testing.assert_array_equal(found[:, y, xo] + start, want)


def test_sums_of_pairs() -> None:
    """Neighbours along a kernel row, of its taps and channels one behind the other; the last of an odd row is alone."""
    taps = np.arange(1, 13).reshape(1, 4, 3)
    assert layout.pair_sums(taps, 4).tolist() == [[3, 3, 9, 6, 15, 9, 21, 12]]
    assert layout.pair_sums(taps, 2).tolist() == [[3, 7, 11, 15, 19, 23]]
    assert layout.pair_sums(taps.reshape(2, 2, 3), 1).tolist() == [[3, 7, 11], [15, 19, 23]]

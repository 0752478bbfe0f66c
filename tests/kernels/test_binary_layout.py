"""Packed binary weights, border tables and the integer reference, against loops over single bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bhpe_compile.kernels import binary_layout as layout
from bhpe_compile.kernels.kernel import pack_bits
from bhpe_compile.kernels.window import Window, convolution, deconvolution_phase
from bhpe_compile.targets.isa import AVX2, AVX512, ISAS, NEON, VectorIsa


def packed(signs: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """bool [Cout, taps, C] -> uint32 [Cout, taps, ceil(C/32)], bit by bit."""
    outputs, taps, channels = signs.shape
    words = np.zeros((outputs, taps, -(-channels // 32)), np.uint32)
    for o, t, c in np.argwhere(signs):
        words[o, t, c // 32] |= np.uint32(1 << (c % 32))
    return words


def random_signs(seed: int, *shape: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(shape) < 0.5


sizes = {
    "outputs": st.integers(1, 40),
    "taps": st.integers(1, 4),
    "channels": st.sampled_from([1, 7, 8, 31, 32, 33, 64, 90]),
}


@pytest.mark.parametrize(("bits", "words"), [(1, 1), (15, 1), (16, 1), (17, 2), (32, 2), (33, 3)])
def test_words_of_a_tap(bits: int, words: int) -> None:
    assert layout.words_of(bits, NEON) == words


def test_the_largest_sum() -> None:
    layout.check_channels(65535, 1)
    layout.check_channels(7281, 9)
    with pytest.raises(ValueError, match=r"^7282 channels x 9 taps exceed 65535 in 16-bit lanes$"):
        layout.check_channels(7282, 9)
    with pytest.raises(ValueError, match=r"^65536 channels x 1 taps"):
        layout.check_channels(65536, 1)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@settings(max_examples=15)
@given(**sizes, seed=st.integers(0, 1000))
def test_weights_lie_lane_by_lane(isa: VectorIsa, outputs: int, taps: int, channels: int, seed: int) -> None:
    """Bit i of word w of tap t in lane l of panel p is the sign of channel w * bits + i of output p * lanes + l."""
    signs = random_signs(seed, outputs, taps, channels)
    found = layout.pack_words(packed(signs), channels, isa)
    words, lanes = -(-channels // isa.word_bits), isa.popcount_lanes
    assert found.shape == (-(-outputs // lanes), taps * words, lanes)
    assert found.dtype == np.dtype(f"uint{isa.word_bits}")
    assert found.flags.c_contiguous
    bits = np.zeros((found.shape[0] * lanes, taps, words * isa.word_bits), bool)
    for p, row, lane in np.ndindex(found.shape):
        for i in range(isa.word_bits):
            bits[p * lanes + lane, row // words, row % words * isa.word_bits + i] = (
                found[p, row, lane] >> i & 1
            )
    np.testing.assert_array_equal(bits[:outputs, :, :channels], signs)
    assert not bits[outputs:].any()
    assert not bits[:, :, channels:].any()


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@settings(max_examples=15)
@given(**sizes, seed=st.integers(0, 1000))
def test_unpacked_weights_are_bytes(
    isa: VectorIsa, outputs: int, taps: int, channels: int, seed: int
) -> None:
    """Whole 32-bit words of every output, whatever the words of the target."""
    signs = random_signs(seed, outputs, taps, channels)
    found = layout.unpack_words(layout.pack_words(packed(signs), channels, isa), outputs, taps, channels)
    assert found.shape == (outputs, taps, 4 * -(-channels // 32))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, packed(signs).view(np.uint8).reshape(found.shape))


@st.composite
def windows(draw: st.DrawFn, taps: int) -> Window:
    if taps == 2 and draw(st.booleans()):
        return deconvolution_phase(draw(st.integers(1, 5)), draw(st.integers(0, 1)))
    padding = draw(st.integers(0, taps - 1))
    return convolution(draw(st.integers(taps, taps + 3)), taps, draw(st.integers(1, 2)), padding)


geometries = st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(
    lambda taps: st.tuples(windows(taps[0]), windows(taps[1]))
)


@settings(max_examples=40)
@given(geometry=geometries, channels=st.integers(1, 40), outputs=st.integers(1, 3), seed=st.integers(0, 1000))
def test_border_tables(geometry: tuple[Window, Window], channels: int, outputs: int, seed: int) -> None:
    """Padding is read as bits of 0; the table puts right what that counts too much."""
    rows, columns = geometry
    signs = random_signs(seed, outputs, rows.taps * columns.taps, channels)
    table = layout.border_table(packed(signs), channels, rows, columns)
    assert (table.shape, table.dtype) == ((rows.classes, columns.classes, outputs), np.int32)
    for y in range(rows.count):
        for x in range(columns.count):
            for o in range(outputs):
                want = 0
                for tap in range(signs.shape[1]):
                    kh, kw = divmod(tap, columns.taps)
                    inside = rows.valid(y)[kh] and columns.valid(x)[kw]
                    want += channels if inside else 2 * int(signs[o, tap].sum())
                assert table[rows.class_of(y), columns.class_of(x), o] == want


@settings(max_examples=40)
@given(
    geometry=geometries,
    channels=st.integers(1, 40),
    outputs=st.integers(1, 3),
    more=st.integers(0, 1),
    batch=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_reference(
    geometry: tuple[Window, Window], channels: int, outputs: int, more: int, batch: int, seed: int
) -> None:
    """The sum of products of signs inside the map; a tap outside contributes nothing."""
    rows, columns = geometry
    border = max(rows.pad, columns.pad) + more
    signs = random_signs(seed, outputs, rows.taps * columns.taps, channels)
    x = random_signs(seed + 1, batch, rows.size, columns.size, channels)
    weight = packed(signs).view(np.uint8).reshape(outputs, signs.shape[1], -1)
    found = layout.reference_dot(pack_bits(x, border), weight, channels, border, rows, columns)
    assert (found.shape, found.dtype) == ((batch, rows.count, columns.count, outputs), np.int64)
    values, weights = np.where(x, 1, -1), np.where(signs, 1, -1)
    padded = np.zeros((batch, rows.size + 9, columns.size + 9, channels), int)
    padded[:, 4 : 4 + rows.size, 4 : 4 + columns.size] = values
    for y in range(rows.count):
        for xo in range(columns.count):
            top, left = y * rows.stride - rows.pad + 4, xo * columns.stride - columns.pad + 4
            part = padded[:, top : top + rows.taps, left : left + columns.taps].reshape(batch, -1, channels)
            np.testing.assert_array_equal(found[:, y, xo], np.einsum("ntc,otc->no", part, weights))


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("channels", [3, 4])
def test_sums_begin_at_the_border_where_halves_are_integers(isa: VectorIsa, channels: int) -> None:
    """Of an even number of channels, and not where nibbles are counted (AVX2)."""
    begins = channels == 4 and isa is not AVX2
    assert layout.sums_from_border(channels, isa) == begins
    parameter = layout.border_parameter((2, 3), channels, 33, isa)
    assert parameter.role == "border"
    assert not parameter.is_output
    lanes = isa.popcount_lanes
    wide = -(-33 // lanes) * lanes
    want = ((2, 3, wide), f"uint{isa.word_bits}") if begins else ((2, 3, 33), "int32")
    assert (parameter.shape, parameter.dtype) == want
    table = 2 * np.random.default_rng(0).integers(0, 90, (2, 3, 33)).astype(np.int32)
    found = layout.pack_border(table, channels, isa)
    assert (found.shape, str(found.dtype)) == want
    if begins:
        np.testing.assert_array_equal(found[..., :33], (-(table // 2)).astype(want[1]))
        assert not found[..., 33:].any()
    else:
        np.testing.assert_array_equal(found, table)


def test_starts_are_minus_half_of_the_table() -> None:
    """dot = table - 2 * count = -2 * (count + start), modulo the width of a lane."""
    table = np.array([[[10, 0, 6]]], np.int32)
    assert layout.pack_border(table, 2, AVX512)[0, 0, :4].tolist() == [2**32 - 5, 0, 2**32 - 3, 0]
    assert layout.pack_border(table, 2, NEON)[0, 0, :4].tolist() == [2**16 - 5, 0, 2**16 - 3, 0]

"""Packed binary weights and border tables, as kernels read them, and the integer reference (NumPy only).

`taps` arrays here are uint32 [Cout, taps, ceil(Cin/32)]: bit i of word g is channel 32g + i, 1 for +1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.kernels.kernel import Array, Parameter, packed_bytes
from bhpe_compile.kernels.window import Window
from bhpe_compile.targets.isa import VectorIsa

MAX_ACCUMULATION = 65535
"""Largest popcount the 16-bit lanes of some targets hold: input channels times taps."""


def words_of(channels: int, isa: VectorIsa) -> int:
    """Words of `word_bits` channels a tap takes."""
    return -(-channels // isa.word_bits)


def check_channels(in_channels: int, taps: int) -> None:
    """Raise ValueError for sizes no binary kernel takes."""
    if in_channels * taps > MAX_ACCUMULATION:
        raise ValueError(f"{in_channels} channels x {taps} taps exceed {MAX_ACCUMULATION} in 16-bit lanes")


def pack_words(taps: Array, channels: int, isa: VectorIsa) -> Array:
    """[Cout, taps, ceil(Cin/32)] -> [ceil(Cout/V), taps * words, V] in words of the target."""
    dtype = np.dtype(f"uint{isa.word_bits}")
    lanes = isa.popcount_lanes
    words = np.ascontiguousarray(taps, np.uint32).view(dtype)[..., : words_of(channels, isa)]
    rows = words.reshape(words.shape[0], -1)
    padded = np.zeros((-(-rows.shape[0] // lanes) * lanes, rows.shape[1]), dtype)
    padded[: rows.shape[0]] = rows
    return np.ascontiguousarray(padded.reshape(-1, lanes, rows.shape[1]).transpose(0, 2, 1))


def unpack_words(packed: Array, out_channels: int, taps: int, channels: int) -> NDArray[np.uint8]:
    """The inverse of `pack_words`, as bytes: uint8 [Cout, taps, packed_bytes(Cin)]."""
    rows = np.ascontiguousarray(packed.transpose(0, 2, 1)).reshape(-1, packed.shape[1])[:out_channels]
    octets = rows.view(np.uint8).reshape(out_channels, taps, -1)
    result = np.zeros((out_channels, taps, packed_bytes(channels)), np.uint8)
    result[..., : octets.shape[-1]] = octets
    return result


def border_table(taps: Array, channels: int, rows: Window, columns: Window) -> NDArray[np.int32]:
    """int32 [row classes, column classes, Cout]: C * valid taps + 2 * popcount(w at the taps cut off)."""
    ones = np.bitwise_count(taps).sum(-1, dtype=np.int32).reshape(-1, rows.taps, columns.taps)
    table = np.zeros((rows.classes, columns.classes, taps.shape[0]), np.int32)
    for row, y in rows.members().items():
        for column, x in columns.members().items():
            valid = np.outer(rows.valid(y), columns.valid(x))
            table[row, column] = channels * valid.sum() + 2 * ones[:, ~valid].sum(-1)
    return table


def sums_from_border(channels: int, isa: VectorIsa) -> bool:
    """Whether sums begin at minus half of what the border table says, so that dot = -2 * sum everywhere: they do where
    words are counted in lanes of their own size, and all halves are integers."""
    return isa.counts != "nibbles" and channels % 2 == 0


def border_parameter(sizes: tuple[int, ...], channels: int, outputs: int, isa: VectorIsa) -> Parameter:
    """The argument that `pack_border` fills; `sizes` are the axes of a table before its output channels."""
    if not sums_from_border(channels, isa):
        return Parameter("border", (*sizes, outputs), "int32")
    lanes = isa.popcount_lanes
    return Parameter("border", (*sizes, -(-outputs // lanes) * lanes), f"uint{isa.word_bits}")


def pack_border(table: NDArray[np.int32], channels: int, isa: VectorIsa) -> Array:
    """Border tables as kernels read them: as they are, or what sums begin at, in whole vectors."""
    parameter = border_parameter(table.shape[:-1], channels, table.shape[-1], isa)
    if parameter.dtype == "int32":
        return table
    starts = np.zeros(parameter.shape, parameter.dtype)
    starts[..., : table.shape[-1]] = (-(table // 2)).astype(parameter.dtype)
    return starts


def reference_dot(
    x: Array, weight: NDArray[np.uint8], channels: int, border: int, rows: Window, columns: Window
) -> NDArray[np.int64]:
    """Sum over the valid taps of C - 2 * popcount(x xor w): int64 [N, rows.count, columns.count, Cout].

    x is uint8 [N, H+2*border, W+2*border, CB], weight uint8 [Cout, rows.taps * columns.taps, CB].
    """
    dot = np.zeros((x.shape[0], rows.count, columns.count, weight.shape[0]), np.int64)
    inside = x[:, border : border + rows.size, border : border + columns.size]
    for y in range(rows.count):
        for xo in range(columns.count):
            for tap, valid in enumerate(np.outer(rows.valid(y), columns.valid(xo)).flat):
                if valid:
                    kh, kw = divmod(tap, columns.taps)
                    pixel = inside[:, y * rows.stride - rows.pad + kh, xo * columns.stride - columns.pad + kw]
                    differ = np.bitwise_count(pixel[:, None, :] ^ weight[None, :, tap, :])
                    dot[:, y, xo] += channels - 2 * differ.sum(-1, dtype=np.int64)
    return dot

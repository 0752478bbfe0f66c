"""8-bit tensors as the kernels read them, and the integer reference (NumPy only).

An activation x is held as a level q = clamp(round(x / step) + zero, 0, 255), a weight as w in -127 .. 127:

    sum of x * w  ~  step * step_w * dot,      dot = sum of (q - zero) * w       exact in int32

Memory holds q - shift, where `shift` depends on the instruction (see `targets.int8_instructions.Int8Instruction`), so

    dot = sum of (q - shift) * w + start,      start = (shift - zero) * sum of w

Pixels outside the map hold level `zero`, the value 0: padding needs no special case. One kernel row of a pixel is
`taps * C` values in a row, read in groups; what a last group reads too much meets weights of 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.kernels.kernel import Array
from bhpe_compile.kernels.window import Window
from bhpe_compile.targets.int8_instructions import INT8_INSTRUCTIONS, Int8Instruction

WIDEST_GROUP = max(use.group for use in INT8_INSTRUCTIONS)

MOST_IN_PAIR = 128
"""The largest sum of two weights, in size, whose products with two levels an instruction may add in 16 bits."""

MAX_PRODUCTS = (1 << 31) // (255 * 128)
"""Products whose sum fits int32 whatever the levels."""


def instruction_of(x: Array, weight: Array) -> Int8Instruction:
    """The instruction that arrays are laid out for."""
    found = [
        use
        for use in INT8_INSTRUCTIONS
        if x.dtype == np.dtype(use.dtype) and weight.shape[-1] == use.lanes * use.group
    ]
    if len(found) != 1:
        raise ValueError(f"no 8-bit layout has {x.dtype} inputs and weight vectors of {weight.shape[-1]}")
    return found[0]


def check_products(in_channels: int, taps: int) -> None:
    """Raise ValueError where an accumulator could overflow."""
    if in_channels * taps > MAX_PRODUCTS:
        raise ValueError(f"{in_channels} channels x {taps} taps exceed {MAX_PRODUCTS} in 32-bit sums")


def row_words(taps: int, channels: int, use: Int8Instruction) -> int:
    """Groups that one kernel row of `taps` pixels takes."""
    return -(-taps * channels // use.group)


def stored_width(columns: Window, channels: int, border: int) -> int:
    """Pixels of a stored row: the map, its border, and what the widest last group of the last pixel reads."""
    last = (columns.count - 1) * columns.stride + border - columns.pad
    values = -(-columns.taps * channels // WIDEST_GROUP) * WIDEST_GROUP
    return max(columns.size + 2 * border, last + -(-values // channels))


def stored(levels: Array, zero: int, use: Int8Instruction) -> Array:
    """Levels 0 .. 255 as an instruction wants them in memory."""
    return (levels.astype(np.int16) - (zero if use.shift is None else use.shift)).astype(use.dtype)


def pack_int8(taps: Array, kernel_rows: int, use: Int8Instruction) -> NDArray[np.int8]:
    """int8 [Cout, taps, Cin] -> [ceil(Cout/V), kernel_rows * words, V * group]."""
    outputs, count, channels = taps.shape
    width = count // kernel_rows * channels
    words = row_words(count // kernel_rows, channels, use)
    lanes, group = use.lanes, use.group
    rows = np.zeros((-(-outputs // lanes) * lanes, kernel_rows, words * group), np.int8)
    rows[:outputs, :, :width] = taps.reshape(outputs, kernel_rows, width)
    split = rows.reshape(-1, lanes, kernel_rows * words, group // use.pair, use.pair)
    panels = split.transpose(0, 2, 3, 1, 4)
    return np.ascontiguousarray(panels.reshape(panels.shape[0], kernel_rows * words, lanes * group))


def unpack_int8(packed: Array, out_channels: int, kernel_rows: int, use: Int8Instruction) -> NDArray[np.int8]:
    """The inverse of `pack_int8`: int8 [Cout, kernel_rows, values of a row and zeros up to whole groups]."""
    lanes, group = use.lanes, use.group
    split = packed.reshape(packed.shape[0], -1, group // use.pair, lanes, use.pair)
    rows = split.transpose(0, 3, 1, 2, 4)
    return np.asarray(rows.reshape(packed.shape[0] * lanes, kernel_rows, -1)[:out_channels], np.int8)


def pairs_fit(packed: Array, use: Int8Instruction) -> bool:
    """Whether no sum that an instruction makes of two products saturates, whatever the levels.

    255 (a + b) is at most 32640 in size, and 16 bits hold -32768 .. 32767. Weights of different signs need no bound:
    one product alone is at most 255 * 127. packed: weight vectors in any number of dimensions, or weights alone.
    """
    if use.step is None or use.step.pairs is None:
        return True
    pairs = packed.reshape(-1, 2).astype(np.int16)
    return bool((np.abs(pairs.sum(1)) <= MOST_IN_PAIR).all())


def pair_sums(taps: Array, kernel_rows: int) -> Array:
    """Sums of the two weights of each pair, [Cout, pairs], of taps [Cout, taps, Cin] as `pack_int8` lays them."""
    rows = taps.reshape(len(taps), kernel_rows, -1)
    even = np.pad(rows, ((0, 0), (0, 0), (0, rows.shape[2] % 2)))
    return np.asarray(even.reshape(len(taps), -1, 2).sum(2))


def pack_start(zero: int, taps: Array, use: Int8Instruction) -> NDArray[np.int32]:
    """(shift - zero) * sum of w for each output, in whole vectors; taps int8 [Cout, taps, Cin]."""
    padded = np.zeros(-(-len(taps) // use.lanes) * use.lanes, np.int32)
    padded[: len(taps)] = ((use.shift or 0) - zero) * taps.astype(np.int64).sum((1, 2))
    return padded


def reference_dot(
    x: Array, weight: Array, channels: int, border: int, rows: Window, columns: Window
) -> NDArray[np.int64]:
    """Sums of products [N, rows, columns, Cout]: x [N, H+2b, W', C] as stored, weight [Cout, kernel rows, values]."""
    n = x.shape[0]
    flat = x.reshape(n, x.shape[1], -1).astype(np.int64)
    dot = np.zeros((n, rows.count, columns.count, weight.shape[0]), np.int64)
    values = weight.shape[2]
    for y in range(rows.count):
        for kh in range(rows.taps):
            line = flat[:, y * rows.stride - rows.pad + border + kh]
            for xo in range(columns.count):
                first = (xo * columns.stride - columns.pad + border) * channels
                dot[:, y, xo] += line[:, first : first + values] @ weight[:, kh].astype(np.int64).T
    return dot

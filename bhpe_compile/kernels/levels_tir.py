"""TIR of 8-bit levels: floats become levels as 8-bit convolutions read them, and levels become others by a table."""

from __future__ import annotations

from typing import Any

from bhpe_compile.kernels.tir import (
    Expr,
    T,
    cast,
    dtype_of,
    f32,
    local,
    maximum,
    minimum,
    nearest_int,
    ramp,
    splat,
    store,
)
from bhpe_compile.targets.isa import VectorIsa

FAR = 512.0
"""A level that no zero point brings back into 0 .. 255."""

PERMUTED = 64
"""Bytes of a register that is packed or permuted."""

MOST = 2.0**30
"""A level beyond all others that is still an int32: larger floats become the least one."""


def level_of(value: Expr, zero: Expr, lanes: int, isa: VectorIsa, shift: Expr | None = None) -> Expr:
    """clip(rint(value) + zero, 0, 255) - shift as int32, of float32 values in steps; zero and shift float32 scalars."""
    if isa.rounds:
        level = T.nearbyint(value) + splat(zero, lanes)
        level = maximum(level, f32(0, lanes), lanes, isa)
        level = minimum(level, f32(255, lanes), lanes, isa)
        if shift is not None:
            level = level - splat(shift, lanes)
        # int32 first: a conversion every vector unit has
        return cast("int32", lanes, level)
    # beyond these it is level 0 or 255 anyway
    value = minimum(maximum(value, f32(-FAR, lanes), lanes, isa), f32(FAR, lanes), lanes, isa)
    moved = nearest_int(value, lanes) + splat(T.Cast("int32", zero), lanes)
    moved = T.min(T.max(moved, splat(T.int32(0), lanes)), splat(T.int32(255), lanes))
    return moved if shift is None else moved - splat(T.Cast("int32", shift), lanes)


def shift_of(zero: Expr, isa: VectorIsa) -> Expr | None:
    """What memory holds levels less of, as float32; None: nothing."""
    shift = isa.int8.shift
    if shift is None:
        return zero
    return T.float32(shift) if shift else None


def nothing(zero: Expr, isa: VectorIsa) -> Expr:
    """Level `zero` as memory holds it: the value 0, of borders."""
    shift = isa.int8.shift
    return T.Cast(isa.int8.dtype, 0 if shift is None else zero - T.float32(shift))


def level_bytes(value: Expr, zero: Expr, lanes: int, isa: VectorIsa, ordered: bool = True) -> Expr:
    """clip(rint(value) + zero, 0, 255) as uint8, of float32 values in steps; zero a float32 scalar.

    ordered: lane by lane; else the packing leaves its own order, which that of `value` makes up for."""
    packing = isa.packing
    if packing is None or lanes != PERMUTED:
        return cast("uint8", lanes, level_of(value, zero, lanes, isa))
    quarter, half = lanes // 4, lanes // 2
    held, words = local(lanes, "float32"), local(lanes, "int16")
    store(held, 0, lanes, minimum(value, f32(MOST, lanes), lanes, isa))
    whole = [
        T.call_llvm_pure_intrin(
            dtype_of("int32", quarter),
            packing.whole,
            *(held[ramp(k * quarter, quarter)], splat(T.int32(0), quarter), T.int16(-1), T.int32(4)),
        )
        for k in range(4)
    ]
    moved = splat(T.Cast("int16", zero), half)
    for k in range(2):
        pair = T.call_llvm_pure_intrin(dtype_of("int16", half), packing.words, whole[2 * k], whole[2 * k + 1])
        added = T.call_llvm_pure_intrin(dtype_of("int16", half), packing.add, pair, moved)
        store(words, k * half, half, added)
    both = (words[ramp(k * half, half)] for k in range(2))
    bytes_of = T.call_llvm_pure_intrin(dtype_of("int8", lanes), packing.bytes, *both)
    if not ordered:
        return T.reinterpret(dtype_of("uint8", lanes), bytes_of)
    # each quarter holds four levels of every register: fours, transposed
    fours = local(quarter, "int32")
    store(fours, 0, quarter, T.reinterpret(dtype_of("int32", quarter), bytes_of))
    order = [4 * (i % 4) + i // 4 for i in range(quarter)]
    return T.reinterpret(dtype_of("uint8", lanes), T.Shuffle([fours[ramp(0, quarter)]], order))


def looked_up(table: Any, level: Expr, lanes: int, isa: VectorIsa) -> Expr:
    """table[level], of a table of 256 bytes, for uint8 levels."""
    if not isa.permute or lanes == 1:
        return table[cast("int32", lanes, level)]
    # a permutation chooses among two registers by seven bits, the eighth between two permutations
    held = local(PERMUTED, "uint8")
    store(held, 0, lanes, level)
    index = T.reinterpret(dtype_of("int8", PERMUTED), held[ramp(0, PERMUTED)])
    parts = [
        T.reinterpret(dtype_of("int8", PERMUTED), table[ramp(at, PERMUTED)]) for at in range(0, 256, PERMUTED)
    ]
    low, high = (
        T.call_llvm_pure_intrin(dtype_of("int8", PERMUTED), isa.permute, parts[at], index, parts[at + 1])
        for at in (0, 2)
    )
    found = T.Select(index < splat(T.int8(0), PERMUTED), high, low)
    store(held, 0, PERMUTED, T.reinterpret(dtype_of("uint8", PERMUTED), found))
    return held[ramp(0, lanes)]

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
"""Bytes of a register that a byte permutation takes."""


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


def looked_up(table: Any, level: Expr, lanes: int, isa: VectorIsa) -> Expr:
    """table[level], uint8 of a table of 256, for int32 levels 0 .. 255."""
    if not isa.permute or lanes == 1:
        return table[level]
    # a permutation chooses among two registers by seven bits, the eighth between two permutations
    held = local(PERMUTED, "uint8")
    store(held, 0, lanes, cast("uint8", lanes, level))
    index = T.reinterpret(dtype_of("int8", PERMUTED), held[ramp(0, PERMUTED)])
    parts = [T.reinterpret(dtype_of("int8", PERMUTED), table[ramp(at, PERMUTED)]) for at in range(0, 256, PERMUTED)]
    low, high = (
        T.call_llvm_pure_intrin(dtype_of("int8", PERMUTED), isa.permute, parts[at], index, parts[at + 1])
        for at in (0, 2)
    )
    found = T.Select(index < splat(T.int8(0), PERMUTED), high, low)
    store(held, 0, PERMUTED, T.reinterpret(dtype_of("uint8", PERMUTED), found))
    return held[ramp(0, lanes)]

"""TIR of 8-bit levels: floats become levels as 8-bit convolutions read them, and levels become others by a table."""

from __future__ import annotations

from typing import Any

from bhpe_compile.kernels.epilogue import MOST_STEPS
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
from bhpe_compile.targets.int8_instructions import Packing
from bhpe_compile.targets.isa import VectorIsa

FAR = 512.0
"""A level that no zero point brings back into 0 .. 255."""

PERMUTED = 64
"""Bytes of a register that is permuted."""

SIXTEEN = 16
"""Entries of a table that a shuffle of bytes chooses among."""

SATURATED_SUM = "llvm.sadd.sat"


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


def level_bytes(
    values: Any, zero: Expr, lanes: int, isa: VectorIsa, *, ordered: bool = True, fits: bool = False
) -> Expr:
    """clip(rint(value) + zero, 0, 255) as uint8, of a buffer of `lanes` float32 values in steps; zero a float32 scalar.

    ordered: lane by lane; else the packing leaves its own order, which that of the values makes up for. fits: no value
    is beyond `MOST_STEPS`."""
    packing = isa.packing(lanes)
    if packing is None:
        return cast("uint8", lanes, level_of(values[ramp(0, lanes)], zero, lanes, isa))
    words = _words(values, lanes, packing, isa, fits)
    moved = splat(T.Cast("int16", zero), lanes // len(words))
    words = [
        T.call_llvm_pure_intrin(dtype_of("int16", lanes // len(words)), SATURATED_SUM, one, moved)
        for one in words
    ]
    if packing.bytes is None:
        return cast(
            "uint8", lanes, _natural(_clipped(words[0], T.int16(0), T.int16(255), lanes), lanes, ordered)
        )
    bytes_of = T.call_llvm_pure_intrin(dtype_of("int8", lanes), packing.bytes, *words)
    if not ordered:
        return T.reinterpret(dtype_of("uint8", lanes), bytes_of)
    # each 16 bytes hold four levels of every register: fours, transposed
    count = lanes // 4
    fours = local(count, "int32")
    store(fours, 0, count, T.reinterpret(dtype_of("int32", count), bytes_of))
    order = [4 * (i % (count // 4)) + i // (count // 4) for i in range(count)]
    return T.reinterpret(dtype_of("uint8", lanes), T.Shuffle([fours[ramp(0, count)]], order))


def level_words(
    values: Any, zero: Expr, lanes: int, isa: VectorIsa, *, ordered: bool = True, fits: bool = False
) -> Expr:
    """The same less zero as int16, where `packs_words`."""
    packing = isa.packing(lanes)
    if packing is None:
        raise ValueError(f"no {lanes} levels are packed at once")
    (words,) = _words(values, lanes, packing, isa, fits)
    least = T.Cast("int16", T.float32(0) - zero)
    most = T.Cast("int16", T.float32(255) - zero)
    return _natural(_clipped(words, least, most, lanes), lanes, ordered)


def packs_words(lanes: int, isa: VectorIsa) -> bool:
    """Whether memory holds levels as words less zero, and `lanes` of them are packed at once."""
    packing = isa.packing(lanes)
    return packing is not None and packing.bytes is None and isa.int8.shift is None


def _words(values: Any, lanes: int, packing: Packing, isa: VectorIsa, fits: bool) -> list[Expr]:
    """rint(value), saturated, as registers of int16 in the order in which packing leaves them."""
    count = packing.floats
    masked = (splat(T.int32(0), count), T.int16(-1), T.int32(4)) if packing.masked else ()
    whole = []
    for at in range(0, lanes, count):
        value = values[ramp(at, count)]
        value = value if fits else minimum(value, f32(MOST_STEPS, count), count, isa)
        whole.append(T.call_llvm_pure_intrin(dtype_of("int32", count), packing.whole, value, *masked))
    return [
        T.call_llvm_pure_intrin(dtype_of("int16", 2 * count), packing.words, *whole[at : at + 2])
        for at in range(0, len(whole), 2)
    ]


def _clipped(words: Expr, least: Expr, most: Expr, lanes: int) -> Expr:
    return T.min(T.max(words, splat(least, lanes)), splat(most, lanes))


def _natural(words: Expr, lanes: int, ordered: bool) -> Expr:
    """Words of two registers as packing leaves them, four by turns -> lane by lane, if they are to be ordered."""
    if not ordered:
        return words
    count = lanes // 4
    held, fours = local(lanes, "int16"), local(count, "int64")
    store(held, 0, lanes, words)
    store(fours, 0, count, T.reinterpret(dtype_of("int64", count), held[ramp(0, lanes)]))
    order = [2 * i % count + 2 * i // count for i in range(count)]
    return T.reinterpret(dtype_of("int16", lanes), T.Shuffle([fours[ramp(0, count)]], order))


def looked_up(table: Any, level: Expr, lanes: int, isa: VectorIsa) -> Expr:
    """table[level], of a table of 256 bytes, for uint8 levels."""
    if isa.permute and lanes > 1:
        return _by_permutations(table, level, lanes, isa.permute)
    if isa.sixteenths and lanes % SIXTEEN == 0:
        return _by_sixteenths_each(table, level, lanes, isa.sixteenths)
    return table[cast("int32", lanes, level)]


def _by_permutations(table: Any, level: Expr, lanes: int, permute: str) -> Expr:
    """A permutation chooses among two registers by seven bits, the eighth between two permutations."""
    held = local(PERMUTED, "uint8")
    store(held, 0, lanes, level)
    kind = dtype_of("int8", PERMUTED)
    index = T.reinterpret(kind, held[ramp(0, PERMUTED)])
    parts = [T.reinterpret(kind, table[ramp(at, PERMUTED)]) for at in range(0, 256, PERMUTED)]
    low, high = (T.call_llvm_pure_intrin(kind, permute, parts[at], index, parts[at + 1]) for at in (0, 2))
    found = T.Select(index < splat(T.int8(0), PERMUTED), high, low)
    store(held, 0, PERMUTED, T.reinterpret(dtype_of("uint8", PERMUTED), found))
    return held[ramp(0, lanes)]


def _by_sixteenths_each(table: Any, level: Expr, lanes: int, shuffle: str) -> Expr:
    """Sixteen levels after the other."""
    if lanes == SIXTEEN:
        return _by_sixteenths(table, level, shuffle)
    held = local(lanes, "uint8")
    store(held, 0, lanes, level)
    for at in range(0, lanes, SIXTEEN):
        store(held, at, SIXTEEN, _by_sixteenths(table, held[ramp(at, SIXTEEN)], shuffle))
    return held[ramp(0, lanes)]


def _by_sixteenths(table: Any, level: Expr, shuffle: str) -> Expr:
    """A shuffle looks the low four bits up in sixteen entries, in the lower half of a register those of one sixteenth
    of the table, in the higher half those of the one eight sixteenths behind; the other four bits choose among them."""
    kind, both = dtype_of("int8", 2 * SIXTEEN), list(range(SIXTEEN))
    held, twice = local(SIXTEEN, "int8"), local(2 * SIXTEEN, "int8")
    store(held, 0, SIXTEEN, T.reinterpret(dtype_of("int8", SIXTEEN), level))
    index = held[ramp(0, SIXTEEN)]
    store(twice, 0, 2 * SIXTEEN, T.Shuffle([index, index], both * 2))
    indices = twice[ramp(0, 2 * SIXTEEN)]
    low = T.bitwise_and(indices, splat(T.int8(15), 2 * SIXTEEN))
    found = local(8 * 2 * SIXTEEN, "int8")
    for k in range(8):
        halves = (
            T.reinterpret(dtype_of("int8", SIXTEEN), table[ramp(SIXTEEN * (k + 8 * high), SIXTEEN)])
            for high in range(2)
        )
        entries = T.Shuffle(list(halves), list(range(2 * SIXTEEN)))
        store(found, k * 2 * SIXTEEN, 2 * SIXTEEN, T.call_llvm_pure_intrin(kind, shuffle, entries, low))
    words = T.reinterpret(dtype_of("int16", SIXTEEN), indices)
    count = 8
    for bit in (4, 5, 6):  # a byte's bit becomes its sign
        sign = T.reinterpret(kind, T.shift_left(words, splat(T.int16(7 - bit), SIXTEEN)))
        fewer = local(count // 2 * 2 * SIXTEEN, "int8")
        for k in range(count // 2):
            even, odd = (found[ramp((2 * k + i) * 2 * SIXTEEN, 2 * SIXTEEN)] for i in range(2))
            store(
                fewer, k * 2 * SIXTEEN, 2 * SIXTEEN, T.Select(sign < splat(T.int8(0), 2 * SIXTEEN), odd, even)
            )
        found, count = fewer, count // 2
    chosen = T.Select(
        index < splat(T.int8(0), SIXTEEN), found[ramp(SIXTEEN, SIXTEEN)], found[ramp(0, SIXTEEN)]
    )
    return T.reinterpret(dtype_of("uint8", SIXTEEN), chosen)

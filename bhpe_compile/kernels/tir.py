"""The few words the generators share for writing TIR through TVMScript's IR builder.

Buffers are indexed flat: `function` hands out one-dimensional views of the parameters, and a vector access is
`buffer[ramp(base, lanes)]`. One lane means a scalar, so tails use the same code as full vectors.
Register tiles are `local` buffers: the annotation, together with `PASS_CONFIG`, keeps them stack slots that
LLVM turns into registers; without it TVM hoists them into heap workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bhpe_compile.kernels.kernel import Parameter
from bhpe_compile.targets.isa import VectorIsa


class _Vocabulary:
    """`tvm.script.ir_builder.tirx`, imported at first use: describing a kernel needs no TVM, which takes seconds."""

    def __getattr__(self, name: str) -> Any:
        from tvm.script.ir_builder import tirx

        return getattr(tirx, name)


T: Any = _Vocabulary()
"""The builder's vocabulary, under the name TVM uses everywhere."""

PASS_CONFIG = {"tirx.disable_storage_rewrite": True}
"""Pass-context options every kernel of this package must be compiled with."""

Expr = Any
Buffers = Mapping[str, Any]


@contextmanager
def between(first: Expr, end: Expr) -> Iterator[Expr]:
    """The loop over first .. end - 1 for an outer loop.

    It counts from 0: where TVM makes a loop start at 0 itself, it forgets to do so in the bounds of loops inside.
    """
    with T.serial(0, end - first) as i:
        yield first + i


@dataclass(frozen=True)
class Share:
    """The share of its work that a call of a parallel kernel does: part `part` of `parts`, int32 scalars.

    Work is cut into units that write different bytes; no sum is ever cut, so results do not depend on `parts`.
    """

    part: Expr
    parts: Expr

    def of(self, units: int) -> tuple[Expr, Expr]:
        """The first of this part's units out of `units`, and the one behind its last; evaluated here."""
        first = T.bind(T.truncdiv(self.part * units, self.parts))
        return first, T.bind(T.truncdiv((self.part + 1) * units, self.parts))

    @contextmanager
    def loop(self, units: int) -> Iterator[Expr]:
        """The loop over this part's units."""
        with between(*self.of(units)) as unit:
            yield unit

    @contextmanager
    def rows(self, batch: int, height: int) -> Iterator[tuple[Expr, Expr]]:
        """The loop over this part's rows of `batch` maps, as (map, row)."""
        with self.loop(batch * height) as unit:
            yield (0, unit) if batch == 1 else (T.truncdiv(unit, height), T.truncmod(unit, height))

    @property
    def is_last(self) -> Expr:
        """Whether this is the last part."""
        return self.part == self.parts - 1


def function(
    symbol: str, parameters: Sequence[Parameter], body: Callable[..., None], *, parallel: bool = False
) -> Any:
    """A PrimFunc with these parameters; `body(views)` emits into it, given a flat view of each by role.

    parallel: with `part` and `parts` behind the parameters, for `body(views, share)`.
    """
    from tvm.script.ir_builder import IRBuilder

    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_name(symbol)
            T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
            arguments = {p.role: T.arg(p.role, T.buffer(p.shape, p.dtype)) for p in parameters}
            scalars = [T.arg(name, T.int32()) for name in ("part", "parts") if parallel]
            views = {role: flat(buffer) for role, buffer in arguments.items()}
            body(views, *([Share(*scalars)] if parallel else []))
        return builder.get()


def flat(buffer: Any) -> Any:
    """A one-dimensional view of a buffer's bytes."""
    size = 1
    for extent in buffer.shape:
        size *= int(extent)
    return T.decl_buffer((size,), str(buffer.dtype), data=buffer.data)


def local(size: int, dtype: str) -> Any:
    """A small array on the stack, in registers where its indices are constants."""
    return T.alloc_buffer((size,), dtype, scope="local", annotations={"disable_lower_builtin": True})


def dtype_of(scalar: str, lanes: int) -> str:
    """`float32`, 16 -> `float32x16`; one lane is the scalar itself."""
    return scalar if lanes == 1 else f"{scalar}x{lanes}"


def ramp(base: Expr, lanes: int) -> Expr:
    """Consecutive indices from `base`."""
    return base if lanes == 1 else T.ramp(base, 1, lanes)


def splat(value: Expr, lanes: int) -> Expr:
    """A scalar in every lane."""
    return value if lanes == 1 else T.Broadcast(value, lanes)


def f32(value: float, lanes: int) -> Expr:
    """A float32 constant in every lane."""
    return splat(T.float32(value), lanes)


def cast(scalar: str, lanes: int, value: Expr) -> Expr:
    """Lane-wise conversion to `scalar`."""
    return T.Cast(dtype_of(scalar, lanes), value)


def store(buffer: Any, base: Expr, lanes: int, value: Expr) -> None:
    """buffer[base : base + lanes] = value."""
    T.buffer_store(buffer, value, [ramp(base, lanes)])


def load_floats(buffer: Any, base: Expr, lanes: int, isa: VectorIsa) -> Expr:
    """buffer[base : base + lanes] as float32, whatever its storage."""
    value = buffer[ramp(base, lanes)]
    return value if str(buffer.dtype) == "float32" else widen(value, lanes, isa)


def maximum(a: Expr, b: Expr, lanes: int, isa: VectorIsa) -> Expr:
    """The larger of two float32 vectors."""
    if isa.maximum:
        return T.call_llvm_pure_intrin(dtype_of("float32", lanes), "llvm.maximum", a, b)
    return T.max(a, b)


def minimum(a: Expr, b: Expr, lanes: int, isa: VectorIsa) -> Expr:
    """The smaller of two float32 vectors."""
    if isa.maximum:
        return T.call_llvm_pure_intrin(dtype_of("float32", lanes), "llvm.minimum", a, b)
    return T.min(a, b)


TO_WHOLE = 1.5 * 2**23
"""A float32 of this size has no fraction: adding to it rounds to a whole number, ties to even."""

TO_WHOLE_BITS = 0x4B400000
"""Its bits."""


def nearest(value: Expr, lanes: int, isa: VectorIsa) -> Expr:
    """The nearest whole number, ties to even, of float32 values up to 2^22."""
    if isa.rounds:
        return T.nearbyint(value)
    whole = f32(TO_WHOLE, lanes)
    # the second fence keeps TVM from taking the constants for nothing
    return uncontracted(uncontracted(value, lanes) + whole, lanes) - whole


def nearest_of_all(value: Expr, lanes: int, isa: VectorIsa) -> Expr:
    """The nearest whole number, ties to even, of any float32."""
    if isa.rounds:
        return T.nearbyint(value)
    size = T.max(value, f32(0, lanes) - value)
    unit = f32(2.0**23, lanes)  # from here on a float32 has no fraction
    small = uncontracted(uncontracted(size, lanes) + unit, lanes) - unit
    found = T.Select(size < unit, small, size)
    return T.Select(value < f32(0, lanes), f32(0, lanes) - found, found)


def nearest_int(value: Expr, lanes: int) -> Expr:
    """The same as int32, on every CPU and without a conversion: it is read off the bits of the sum."""
    bits = T.reinterpret(dtype_of("int32", lanes), uncontracted(value, lanes) + f32(TO_WHOLE, lanes))
    return bits - splat(T.int32(TO_WHOLE_BITS), lanes)


def int_of_whole(value: Expr, lanes: int, isa: VectorIsa) -> Expr:
    """A whole number of float32 up to 2^24 as int32.

    Where units do not round, it is put together of two parts that are read off bits: QEMU before 8.1 fails at vectors'
    truncating conversions on RISC-V (its issue 1441), wherever one happens to begin a page.
    """
    if isa.rounds:
        return cast("int32", lanes, value)
    scaled = value * f32(2.0**-12, lanes)
    low = value - nearest(scaled, lanes, isa) * f32(2.0**12, lanes)
    return T.shift_left(nearest_int(scaled, lanes), splat(T.int32(12), lanes)) + nearest_int(low, lanes)


def uncontracted(value: Expr, lanes: int) -> Expr:
    """A float32 product that is rounded by itself.

    TVM lets LLVM make one fused multiply-add of a product and an addition on targets that have one, and the sum would
    be another number than elsewhere.
    """
    return T.call_llvm_pure_intrin(dtype_of("float32", lanes), "llvm.arithmetic.fence", value)


def widen(value: Expr, lanes: int, isa: VectorIsa) -> Expr:
    """float16 -> float32."""
    if isa.half == "four" and lanes % NEON_HALVES == 0:
        return _widen_by_fours(value, lanes, isa)
    return cast("float32", lanes, value) if isa.half == "vector" else _widen_half(value, lanes)


def clip_halves(value: Expr, lanes: int) -> Expr:
    """float16 clipped to [-1, 1] by its bits: read with a sign, those above +1 are above 1's, and no negative one is;
    read without, those beyond -1 are above -1's, and no positive one is. NaN becomes the 1 of its sign."""
    words = T.min(T.reinterpret(dtype_of("int16", lanes), value), splat(T.int16(0x3C00), lanes))
    bits = T.min(T.reinterpret(dtype_of("uint16", lanes), words), splat(T.uint16(0xBC00), lanes))
    return T.reinterpret(dtype_of("float16", lanes), bits)


def store_floats(buffer: Any, base: Expr, lanes: int, value: Expr, isa: VectorIsa) -> None:
    """buffer[base : base + lanes] = value, rounded to nearest even where the buffer is narrower than float32."""
    dtype = str(buffer.dtype)
    if dtype == "float16" and isa.half == "four" and lanes % NEON_HALVES == 0:
        store(
            buffer, base, lanes, T.reinterpret(dtype_of("float16", lanes), halves_by_fours(value, lanes, isa))
        )
        return
    if dtype == "float16" and isa.half != "vector":
        value = _round_to_half(value, lanes)
    elif dtype != "float32":
        value = cast(dtype, lanes, value)
    store(buffer, base, lanes, value)


# On 32-bit ARM, LLVM takes a vector of float16 apart: the instructions that convert four have to be asked for.

NEON_HALVES = 4


def _widen_by_fours(value: Expr, lanes: int, isa: VectorIsa) -> Expr:
    bits, wide = local(lanes, "int16"), local(lanes, "float32")
    store(bits, 0, lanes, T.reinterpret(dtype_of("int16", lanes), value))
    for part in range(0, lanes, NEON_HALVES):
        halves = bits[ramp(part, NEON_HALVES)]
        floats = T.call_llvm_pure_intrin("float32x4", isa.widen, halves)
        store(wide, part, NEON_HALVES, floats)
    return wide[ramp(0, lanes)]


def halves_by_fours(value: Expr, lanes: int, isa: VectorIsa) -> Expr:
    """float32 -> the bits of float16, int16; `lanes` is a multiple of four."""
    wide, halves = local(lanes, "float32"), local(lanes, "int16")
    store(wide, 0, lanes, value)
    for part in range(0, lanes, NEON_HALVES):
        four = T.call_llvm_pure_intrin("int16x4", isa.narrow, wide[ramp(part, NEON_HALVES)])
        store(halves, part, NEON_HALVES, four)
    return halves[ramp(0, lanes)]


# Conversions of float16 for CPUs without an instruction: LLVM would call a function for every element.


def _widen_half(value: Expr, lanes: int) -> Expr:
    """float16 -> float32 by integers: the exponent moves by 112, which a multiplication does for denormals, too."""

    def u32(number: int) -> Expr:
        return splat(T.uint32(number), lanes)

    bits = cast("uint32", lanes, T.reinterpret(dtype_of("uint16", lanes), value))
    magnitude = T.shift_left(T.bitwise_and(bits, u32(0x7FFF)), u32(13))
    scaled = T.reinterpret(dtype_of("float32", lanes), magnitude) * f32(2.0**112, lanes)
    finite = T.reinterpret(dtype_of("uint32", lanes), scaled)
    special = T.bitwise_or(magnitude, u32(0x7F800000))  # infinities and NaN
    found = T.Select(magnitude >= u32(0x0F800000), special, finite)
    sign = T.shift_left(T.bitwise_and(bits, u32(0x8000)), u32(16))
    return T.reinterpret(dtype_of("float32", lanes), T.bitwise_or(found, sign))


def _round_to_half(value: Expr, lanes: int) -> Expr:
    """float32 -> float16, to nearest even: adding 0.5 rounds what becomes denormal, adding to the bits the others."""

    def u32(number: int) -> Expr:
        return splat(T.uint32(number), lanes)

    bits = T.reinterpret(dtype_of("uint32", lanes), value)
    magnitude = T.bitwise_and(bits, u32(0x7FFFFFFF))
    half = T.reinterpret(dtype_of("float32", lanes), magnitude) + f32(0.5, lanes)
    denormal = T.reinterpret(dtype_of("uint32", lanes), half) - u32(0x3F000000)
    odd = T.bitwise_and(T.shift_right(magnitude, u32(13)), u32(1))
    normal = T.shift_right(magnitude + u32(0xC8000FFF) + odd, u32(13))
    special = T.Select(magnitude > u32(0x7F800000), u32(0x7E00), u32(0x7C00))
    found = T.Select(magnitude < u32(0x38800000), denormal, normal)
    found = T.Select(magnitude >= u32(0x47800000), special, found)
    found = T.bitwise_or(found, T.bitwise_and(T.shift_right(bits, u32(16)), u32(0x8000)))
    return T.reinterpret(dtype_of("float16", lanes), cast("uint16", lanes, found))


def fill(buffer: Any, base: Expr, count: int, value: Expr) -> None:
    """buffer[base : base + count] = value, with the widest vectors that divide `count`."""
    lanes = next(n for n in (64, 32, 16, 8, 4, 2, 1) if count % n == 0)
    with T.serial(0, count // lanes) as i:
        store(buffer, base + i * lanes, lanes, splat(value, lanes))


def chunks(count: int, lanes: int) -> list[tuple[int, int]]:
    """`count` channels as (offset, width): full vectors, then eights, fours, single lanes."""
    pieces = []
    offset = 0
    for width in sorted({lanes, 8, 4, 1}, reverse=True):
        while width <= lanes and count - offset >= width:
            pieces.append((offset, width))
            offset += width
    return pieces

"""The few words the generators share for writing TIR through TVMScript's IR builder.

Buffers are indexed flat: `function` hands out one-dimensional views of the parameters, and a vector access is
`buffer[ramp(base, lanes)]`. One lane means a scalar, so tails use the same code as full vectors.
Register tiles are `local` buffers: the annotation, together with `PASS_CONFIG`, keeps them stack slots that
LLVM turns into registers; without it TVM hoists them into heap workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bhpe_compile.kernels.kernel import Parameter


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


def function(symbol: str, parameters: Sequence[Parameter], body: Callable[[Buffers], None]) -> Any:
    """A PrimFunc with these parameters; `body` emits into it, given a flat view of each by role."""
    from tvm.script.ir_builder import IRBuilder

    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_name(symbol)
            T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
            arguments = {p.role: T.arg(p.role, T.buffer(p.shape, p.dtype)) for p in parameters}
            body({role: flat(buffer) for role, buffer in arguments.items()})
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


def load_floats(buffer: Any, base: Expr, lanes: int) -> Expr:
    """buffer[base : base + lanes] as float32, whatever its storage."""
    value = buffer[ramp(base, lanes)]
    return value if str(buffer.dtype) == "float32" else cast("float32", lanes, value)


def store_floats(buffer: Any, base: Expr, lanes: int, value: Expr) -> None:
    """buffer[base : base + lanes] = value, rounded to nearest even where the buffer is narrower than float32."""
    dtype = str(buffer.dtype)
    store(buffer, base, lanes, value if dtype == "float32" else cast(dtype, lanes, value))


def fill(buffer: Any, base: Expr, count: int, value: Expr) -> None:
    """buffer[base : base + count] = value, with the widest vectors that divide `count`."""
    lanes = next(n for n in (64, 32, 16, 8, 4, 2, 1) if count % n == 0)
    with T.serial(0, count // lanes) as i:
        store(buffer, base + i * lanes, lanes, splat(value, lanes))


def chunks(count: int, lanes: int) -> list[tuple[int, int]]:
    """`count` channels as (offset, width): full vectors, then eights, then single lanes."""
    pieces = []
    offset = 0
    for width in sorted({lanes, 8, 1}, reverse=True):
        while width <= lanes and count - offset >= width:
            pieces.append((offset, width))
            offset += width
    return pieces

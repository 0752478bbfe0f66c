"""Linear layers of fixed-point inputs and 8-bit weights; the formula stands in `networks/layers/fixed_point.py`.

`FixedPointSplit` writes the three bytes of every input as levels with zero point 128, `FixedPointLinear` multiplies
them as an 8-bit convolution multiplies three pixels (`int8_core.py`) and adds the three results up, plane by plane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bhpe_compile.kernels.int8_core import Int8Core
from bhpe_compile.kernels.int8_layout import (
    check_products,
    instruction_of,
    pack_int8,
    pack_start,
    reference_dot,
    row_words,
    stored,
    stored_width,
    unpack_int8,
)
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import (
    Buffers,
    Expr,
    Share,
    T,
    cast,
    chunks,
    f32,
    fill,
    function,
    int_of_whole,
    nearest_of_all,
    ramp,
    splat,
    store,
    uncontracted,
)
from bhpe_compile.kernels.window import Window
from bhpe_compile.networks.layers.grids import FIXED, FIXED_OFFSET, PLANES
from bhpe_compile.targets.isa import VectorIsa

MIDDLE = 128
"""The zero point of a byte."""

HIGHEST = (1 << 24) - 1 - FIXED_OFFSET


def _width(features: int) -> int:
    """Rows of levels of one input: its planes, and what the widest last group of the last one reads."""
    return stored_width(Window(PLANES, PLANES, 1), features, 0)


@dataclass(frozen=True)
class FixedPointSplit(Kernel):
    """x float32 [N, K] -> out [N, 3 or more, K], levels for the instruction; rows behind the third are 128."""

    batch: int
    features: int

    def symbol(self) -> str:
        return f"fixed_point_split_n{self.batch}_{self.features}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        out = (self.batch, _width(self.features), self.features)
        return (
            Parameter("x", (self.batch, self.features), "float32"),
            Parameter("out", out, isa.int8.dtype, is_output=True),
        )

    def prim_func(self, isa: VectorIsa) -> Any:
        use, rows = isa.int8, _width(self.features)
        shift = MIDDLE if use.shift is None else use.shift

        def body(buffers: Any) -> None:
            x, out = buffers["x"], buffers["out"]

            def one(n: Expr, at: Expr, lanes: int) -> None:
                whole = nearest_of_all(x[ramp(n * self.features + at, lanes)] * f32(FIXED, lanes), lanes, isa)
                whole = T.min(T.max(whole, f32(-FIXED_OFFSET, lanes)), f32(HIGHEST, lanes))
                word = int_of_whole(whole, lanes, isa) + splat(T.int32(FIXED_OFFSET), lanes)
                for plane in range(PLANES):
                    moved = T.shift_right(word, splat(T.int32(8 * plane), lanes))
                    digit = T.bitwise_and(moved, splat(T.int32(255), lanes)) - splat(T.int32(shift), lanes)
                    store(out, (n * rows + plane) * self.features + at, lanes, cast(use.dtype, lanes, digit))

            whole = self.features // isa.float_lanes
            with T.serial(0, self.batch) as n:
                with T.serial(0, whole) as vector:
                    one(n, vector * isa.float_lanes, isa.float_lanes)
                for offset, lanes in chunks(self.features, isa.float_lanes)[whole:]:
                    one(n, offset, lanes)
                for row in range(PLANES, rows):
                    nothing = T.Cast(use.dtype, MIDDLE - shift)
                    fill(out, (n * rows + row) * self.features, self.features, nothing)

        return function(self.symbol(), self.parameters(isa), body)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        """Levels 0 .. 255; `int8_layout.stored` tells what memory holds."""
        whole = np.rint(arrays["x"] * np.float32(FIXED))
        whole = np.fmin(np.fmax(whole, -FIXED_OFFSET), HIGHEST).astype(np.int64) + FIXED_OFFSET
        out = np.full((self.batch, _width(self.features), self.features), MIDDLE, np.uint8)
        for plane in range(PLANES):
            out[:, plane] = whole >> (8 * plane) & 255
        return {"out": out}

    def memory(self, isa: VectorIsa, **arrays: Array) -> Array:
        """What `isa` holds of it."""
        return stored(self.reference(**arrays)["out"], MIDDLE, isa.int8)


@dataclass(frozen=True)
class FixedPointLinear(Kernel):
    """x levels [N, 3 or more, K] as `FixedPointSplit` writes them, weight int8 [O, K], scale and bias float32 [O]
    -> out float32 [N, O]."""

    parallel: ClassVar[bool] = True
    batch: int
    features: int
    out_features: int

    def __post_init__(self) -> None:
        check_products(self.features, 1)

    def symbol(self) -> str:
        return f"fixed_point_linear_n{self.batch}_{self.features}to{self.out_features}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        use = isa.int8
        panels = -(-self.out_features // use.lanes)
        words = row_words(1, self.features, use)
        listed = [
            Parameter("x", (self.batch, _width(self.features), self.features), use.dtype),
            Parameter("weight", (panels, words, use.lanes * use.group), "int8"),
        ]
        if use.shift is not None:
            listed.append(Parameter("start", (panels * use.lanes,), "int32"))
        return (
            *listed,
            Parameter("scale", (self.out_features,), "float32"),
            Parameter("bias", (self.out_features,), "float32"),
            Parameter("out", (self.batch, self.out_features), "float32", is_output=True),
        )

    def constants(self, isa: VectorIsa, arrays: Mapping[str, Array]) -> dict[str, Array]:
        taps = arrays["weight"].reshape(self.out_features, 1, self.features)
        packed = super().constants(isa, {r: a for r, a in arrays.items() if r != "weight"})
        packed["weight"] = pack_int8(taps, 1, isa.int8)
        if isa.int8.shift is not None:
            packed["start"] = pack_start(MIDDLE, taps, isa.int8)
        return packed

    def prim_func(self, isa: VectorIsa) -> Any:
        def body(buffers: Any, share: Share) -> None:
            # parts share rows or channels, never the planes of one row: a row has fewer than LEAST_UNITS
            planes = _Planes(buffers, isa, self.out_features)
            width = _width(self.features)
            core = Int8Core(isa, self.batch, self.features, 0, width, planes, share)  # type: ignore[arg-type]
            core.emit(Window(1, 1, 1), Window(PLANES, PLANES, 1))

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        use = instruction_of(arrays["x"], arrays["weight"])
        weight = unpack_int8(arrays["weight"], self.out_features, 1, use)
        rows, columns = Window(1, 1, 1), Window(PLANES, PLANES, 1)
        dots = reference_dot(arrays["x"][:, None], weight, self.features, 0, rows, columns)[:, 0]
        if "start" in arrays:
            dots += arrays["start"][: self.out_features]
        y = np.broadcast_to(arrays["bias"], (self.batch, self.out_features))
        for plane in range(PLANES):
            y = dots[:, plane].astype(np.float32) * (arrays["scale"] * np.float32(256**plane)) + y
        return {"out": y}


@dataclass(frozen=True)
class _Planes:
    """What `Int8Core` takes for an epilogue: planes arrive in their order and are added to what was stored before."""

    buffers: Buffers
    isa: VectorIsa
    channels: int

    def vectors(self, count: int) -> list[tuple[int, int]]:
        """Offsets and widths in which `count` channels from a vector's start on are finished."""
        return chunks(count, min(self.isa.float_lanes, 8 if count <= 8 else 16))

    def takes_registers(self, channels: int) -> bool:
        """Whether several registers are finished at once: planes are not."""
        del channels
        return False

    def finish(self, dot: Expr, n: Expr, y: Expr, x: Expr, c: Expr, lanes: int, *, factor: int = 1) -> None:
        """`dot` is a float32 vector: channels c .. c+lanes-1 of plane x of row n."""
        out, at = self.buffers["out"], n * self.channels + c
        place = T.Select(x == 1, T.float32(256), T.float32(65536))
        place = T.Select(x == 0, T.float32(1), place)
        scale = self.buffers["scale"][ramp(c, lanes)] * splat(place, lanes)
        with T.If(x == 0), T.Then():
            store(out, at, lanes, self.buffers["bias"][ramp(c, lanes)])
        store(out, at, lanes, uncontracted(dot * scale, lanes) + out[ramp(at, lanes)])

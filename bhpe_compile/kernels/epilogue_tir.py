"""TIR of an epilogue: one vector of accumulators of one pixel becomes floats and bits.

Everything is straight-line code on one vector of `lanes` channels; nothing is kept between vectors, so a
convolution may call `finish` in any order of pixels and channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from bhpe_compile.kernels.bits_tir import BitsWriter
from bhpe_compile.kernels.epilogue import Epilogue, Levels, Residual
from bhpe_compile.kernels.levels_tir import (
    level_bytes,
    level_words,
    looked_up,
    nothing,
    packs_words,
    shift_of,
)
from bhpe_compile.kernels.tir import (
    Buffers,
    Expr,
    Share,
    T,
    cast,
    chunks,
    clip_halves,
    dtype_of,
    f32,
    fill,
    halves_by_fours,
    load_floats,
    local,
    maximum,
    minimum,
    ramp,
    splat,
    store,
    store_floats,
    uncontracted,
    widen,
)
from bhpe_compile.targets.int8_instructions import Packing
from bhpe_compile.targets.isa import VectorIsa

QUAD = 4
"""Levels that packing keeps side by side."""


@dataclass(frozen=True)
class Register:
    """A register of sums as float32: its first `count` lanes are the channels from c on of the pixel in column x, whose
    levels lie `place` values behind those of the first pixel."""

    dot: Expr
    x: Expr
    c: Expr
    count: int
    place: int


def _runs(registers: list[Register], together: int) -> Iterator[tuple[Register, list[int]]]:
    """Registers whose levels lie side by side: the first one, and the places of their quads in a pack."""
    first, run, end = registers[0], list[int](), registers[0].place
    for i, one in enumerate(registers):
        if one.place != end:
            yield first, run
            first, run = one, []
        run += [quad * together + i for quad in range(one.count // QUAD)]
        end = one.place + one.count
    yield first, run


def _quads(values: Expr, lanes: int, kind: str, wide: str) -> Any:
    """A buffer of quads of values, each as one number."""
    held, quads = local(lanes, kind), local(lanes // QUAD, wide)
    store(held, 0, lanes, values)
    store(quads, 0, lanes // QUAD, T.reinterpret(dtype_of(wide, lanes // QUAD), held[ramp(0, lanes)]))
    return quads


@dataclass(frozen=True)
class EpilogueEmitter:
    """An epilogue bound to its buffers and to an output of [batch, height, width, channels]."""

    epilogue: Epilogue
    buffers: Buffers
    isa: VectorIsa
    batch: int
    height: int
    width: int
    channels: int
    exact_products: bool = False
    """Whether dot * scale needs no rounding (binary layers), or need not be the same on every target (float layers)."""

    @property
    def bits(self) -> BitsWriter:
        """The writer of the packed output."""
        border = self.epilogue.bits_border
        shape = (self.batch, self.height, self.width, self.channels)
        return BitsWriter(self.buffers["bits"], self.isa, *shape, border)

    def begin(self, share: Share) -> None:
        """What the kernel does once, before the first `finish`."""
        if self.epilogue.bits:
            self.bits.clear(share)
        if self.epilogue.levels is not None:
            self._clear_levels(self.epilogue.levels, share)

    def _clear_levels(self, use: Levels, share: Share) -> None:
        """Level zero where `finish` writes none: the border, and pixels behind the last column."""
        out, zero = self.buffers["levels"], self.buffers["requantization"][1]
        border, rows = nothing(zero, self.isa), self.height + 2 * use.border
        row, left = use.stored_width * self.channels, use.border * self.channels
        right = row - left - self.width * self.channels
        if not left and not right:
            return

        def beside_the_map(base: Expr) -> None:
            for start, count in ((base, left), (base + (row - right), right)):
                if count:
                    fill(out, start, count, border)

        with share.loop(self.batch * rows) as r:
            if not use.border:
                beside_the_map(r * row)
                return
            y = T.truncmod(r, rows)
            with T.If(T.bitwise_or(y < use.border, y >= use.border + self.height)):
                with T.Then():
                    fill(out, r * row, row, border)
                with T.Else():
                    beside_the_map(r * row)

    def vectors(self, count: int) -> list[tuple[int, int]]:
        """Offsets and widths in which `count` channels from a vector's start on are finished."""
        lanes = min(self.isa.float_lanes, 8 if count <= 8 else 16)
        if self._writes_levels_only:
            found, at = [], 0
            for packing in self.isa.packings:
                while packing.floats == self.isa.float_lanes and count - at >= packing.lanes:
                    found.append((at, packing.lanes))
                    at += packing.lanes
            return found + [(at + offset, width) for offset, width in chunks(count - at, lanes)]
        residual = self.epilogue.residual
        if residual is not None and residual.kind == "repeat":  # a vector must not wrap around the source
            while residual.channels % lanes:
                lanes = next(fewer for fewer in (8, 4, 1) if fewer < lanes)
        return chunks(count, lanes)

    @property
    def _writes_levels_only(self) -> bool:
        """Whether vectors may be as wide as a register of bytes: nothing else is read or written with them."""
        use = self.epilogue
        repeats = use.residual is not None and use.residual.kind == "repeat"
        return use.levels is not None and not use.bits and not repeats

    def finish(
        self,
        dot: Expr | list[Expr],
        n: Expr,
        y: Expr,
        x: Expr,
        c: Expr,
        lanes: int,
        *,
        factor: int = 1,
        packed_at: Expr | None = None,
    ) -> None:
        """`dot` times `factor` is a float32 vector: channels c .. c+lanes-1 of pixel (n, y, x); or equal parts of it.

        A factor of -1 costs nothing, another one a multiplication; it is a power of two, so that nothing is rounded.
        packed_at: `dot` is in the order that packing undoes; what is read by channel lies in that order from there on.
        """
        use = self.epilogue
        dots = dot if isinstance(dot, list) else [dot]
        width = lanes // len(dots)
        parts = [at * width for at in range(len(dots))]
        place, ordered = (c, True) if packed_at is None else (packed_at, False)
        value = local(lanes, "float32")
        every = ramp(0, lanes)
        for at, one in zip(parts, dots, strict=True):
            result = self._activated(one, n, y, x, c + at, place + at, width, factor)
            store(value, at, width, result)
        if use.activation == "table":
            found = self._tabled(value, lanes, ordered)
            if use.levels is not None and use.levels.of_table:
                self._store_levels(use.levels, n, y, x, c, lanes, self._in_memory(found[every], lanes))
                if not (use.store or use.bits):
                    return
            store(value, 0, lanes, self._of_level(found[every], lanes))
        at = ((n * self.height + y) * self.width + x) * self.channels + c
        if use.shortcut:
            store(value, 0, lanes, value[every] + load_floats(self.buffers["shortcut"], at, lanes, self.isa))
        if use.levels is not None and not use.levels.of_table:
            self._store_levels(use.levels, n, y, x, c, lanes, self._rounded(value, lanes, ordered))
        if self._signs_from_halves(lanes):
            halves = local(lanes, "int16")
            store(halves, 0, lanes, halves_by_fours(value[every], lanes, self.isa))
            store(self.buffers["out"], at, lanes, T.reinterpret(dtype_of("float16", lanes), halves[every]))
            self.bits.write(n, y, x, c, lanes, halves[every] >= splat(T.int16(0), lanes))
            return
        if use.store:
            store_floats(self.buffers["out"], at, lanes, value[every], self.isa)
        if use.bits:
            threshold = f32(0, lanes) if use.bits_at_zero else self.buffers["threshold"][ramp(place, lanes)]
            self.bits.write(n, y, x, c, lanes, value[every] >= threshold)

    def takes_registers(self, channels: int) -> bool:
        """Whether `finish_registers` serves for tiles of `channels`: registers of floats are packed, and there is
        something to pack."""
        use, packings = self.epilogue, self.isa.packings
        if not packings or packings[0].floats != self.isa.float_lanes or channels % QUAD:
            return False
        packs = use.levels is not None or use.activation == "table"
        return packs and not use.bits and use.residual is None

    def finish_registers(self, registers: list[Register], n: Expr, y: Expr) -> None:
        """Registers of sums of one row, as many at once as are packed together: of few channels those of several
        pixels."""
        packing = self.isa.packings[0]
        together = packing.lanes // packing.floats
        for at in range(0, len(registers), together):
            self._finish_together(registers[at : at + together], n, y, packing)

    def _finish_together(self, registers: list[Register], n: Expr, y: Expr, packing: Packing) -> None:
        use, lanes, width = self.epilogue, packing.lanes, packing.floats
        together, every = lanes // width, ramp(0, lanes)
        value = local(lanes, "float32")
        for i in range(together):
            one = registers[min(i, len(registers) - 1)]  # what is there twice is not stored
            result = self._activated(one.dot, n, y, one.x, one.c, one.c, width, 1, one.count)
            store(value, i * width, width, result)
        level: Expr = None
        if use.activation == "table":
            found = self._tabled(value, lanes, ordered=False)
            if use.levels is not None and use.levels.of_table:
                level = self._in_memory(found[every], lanes)
            if level is None or use.store:
                quads = _quads(found[every], lanes, "uint8", "int32")
                for i in range(together):
                    its = T.Shuffle([quads[ramp(0, lanes // QUAD)]], list(range(i, lanes // QUAD, together)))
                    of_register = T.reinterpret(dtype_of("uint8", width), its)
                    store(value, i * width, width, self._of_level(of_register, width))
        for i, one in enumerate(registers):
            at = ((n * self.height + y) * self.width + one.x) * self.channels + one.c
            for offset, part in chunks(one.count, width):
                place = ramp(i * width + offset, part)
                if use.shortcut:
                    other = load_floats(self.buffers["shortcut"], at + offset, part, self.isa)
                    T.buffer_store(value, value[place] + other, [place])
                if use.store:
                    store_floats(self.buffers["out"], at + offset, part, value[place], self.isa)
        if use.levels is None:
            return
        if level is None:
            level = self._rounded(value, lanes, ordered=False)
        self._store_quads(use.levels, registers, n, y, level, packing)

    def _store_quads(
        self, use: Levels, registers: list[Register], n: Expr, y: Expr, level: Expr, packing: Packing
    ) -> None:
        """Write levels in the order in which packing leaves them: quads of the registers by turns."""
        count, kind = packing.lanes // QUAD, str(self.isa.int8.dtype)
        quads = _quads(level, packing.lanes, kind, "int64" if kind == "int16" else "int32")
        for first, run in _runs(registers, packing.lanes // packing.floats):
            base = self._level_at(use, n, y, first.x, first.c)
            done = 0
            for wide in (16, 8, 4, 2, 1):
                while len(run) - done >= wide:
                    some = run[done : done + wide]
                    value = quads[some[0]] if wide == 1 else T.Shuffle([quads[ramp(0, count)]], some)
                    out = T.reinterpret(dtype_of(kind, QUAD * wide), value)
                    store(self.buffers["levels"], base + QUAD * done, QUAD * wide, out)
                    done += wide

    def _activated(
        self,
        dot: Expr,
        n: Expr,
        y: Expr,
        x: Expr,
        c: Expr,
        place: Expr,
        lanes: int,
        factor: int,
        count: int | None = None,
    ) -> Expr:
        """The value up to its activation, in front of a table. count: how many of the lanes are channels."""
        use = self.epilogue

        def channel(role: str) -> Expr:
            if count is None or count == lanes:
                return self.buffers[role][ramp(place, lanes)]
            found = local(lanes, "float32")
            store(found, 0, lanes, f32(0, lanes))
            for at, width in chunks(count, lanes):
                store(found, at, width, self.buffers[role][ramp(place + at, width)])
            return found[ramp(0, lanes)]

        scale = channel("scale") if abs(factor) == 1 else channel("scale") * f32(factor, lanes)
        product = dot * scale
        if not self.exact_products:
            product = uncontracted(product, lanes)
        result = channel("bias") - product if factor == -1 else product + channel("bias")
        if use.residual is not None:
            result = result + self._residual(use.residual, n, y, x, c, lanes)
        if use.activation == "relu":
            return maximum(result, f32(0, lanes), lanes, self.isa)
        if use.activation == "clip":
            low, high = (splat(self.buffers["limits"][end], lanes) for end in (0, 1))
            return minimum(maximum(result, low, lanes, self.isa), high, lanes, self.isa)
        if use.activation not in ("leaky", "rprelu"):
            return result
        value, every = local(lanes, "float32"), ramp(0, lanes)
        store(value, 0, lanes, result)
        if use.activation == "leaky":
            scaled = channel("beta") * value[every]
            return maximum(value[every], scaled, lanes, self.isa) + channel("zeta")
        positive = value[every] > f32(0, lanes)
        return T.Select(positive, value[every], channel("beta") * value[every]) + channel("zeta")

    def _tabled(self, value: Any, lanes: int, ordered: bool) -> Any:
        """A buffer of what the table says of `lanes` values."""
        found, index = local(lanes, "uint8"), local(lanes, "uint8")
        fits = self.epilogue.levels is not None and self.epilogue.levels.fits
        zero = self.buffers["grid"][0]
        store(index, 0, lanes, level_bytes(value, zero, lanes, self.isa, ordered=ordered, fits=fits))
        store(found, 0, lanes, looked_up(self.buffers["table"], index[ramp(0, lanes)], lanes, self.isa))
        return found

    def _of_level(self, level: Expr, lanes: int) -> Expr:
        """The value of an entry of the table."""
        step, zero = self.buffers["grid"][1], self.buffers["grid"][2]
        moved = cast("float32", lanes, cast("int32", lanes, level)) - splat(zero, lanes)
        return uncontracted(moved * splat(step, lanes), lanes)

    def _rounded(self, value: Any, lanes: int, ordered: bool) -> Expr:
        """The levels of a buffer of values, as memory holds them."""
        use = self.epilogue
        assert use.levels is not None
        step, zero = self.buffers["requantization"][0], self.buffers["requantization"][1]
        steps = value
        if use.levels.divides:
            steps, width = local(lanes, "float32"), min(lanes, self.isa.float_lanes)
            for at in range(0, lanes, width):
                store(steps, at, width, value[ramp(at, width)] / splat(step, width))
        fits = use.levels.fits and use.activation != "table" and not use.shortcut
        if packs_words(lanes, self.isa):
            return level_words(steps, zero, lanes, self.isa, ordered=ordered, fits=fits)
        return self._in_memory(level_bytes(steps, zero, lanes, self.isa, ordered=ordered, fits=fits), lanes)

    def _in_memory(self, level: Expr, lanes: int) -> Expr:
        """uint8 levels as memory holds them."""
        shift, dtype = shift_of(self.buffers["requantization"][1], self.isa), self.isa.int8.dtype
        if shift is not None:
            level = cast("int16", lanes, level) - splat(T.Cast("int16", shift), lanes)
        return level if str(dtype) == "uint8" else cast(dtype, lanes, level)

    def _store_levels(self, use: Levels, n: Expr, y: Expr, x: Expr, c: Expr, lanes: int, level: Expr) -> None:
        """Write levels c .. c+lanes-1 of a pixel."""
        store(self.buffers["levels"], self._level_at(use, n, y, x, c), lanes, level)

    def _level_at(self, use: Levels, n: Expr, y: Expr, x: Expr, c: Expr) -> Expr:
        row = n * (self.height + 2 * use.border) + y + use.border
        return (row * use.stored_width + x + use.border) * self.channels + c

    def _signs_from_halves(self, lanes: int) -> bool:
        """Whether bits are read off float16 that are stored anyway: a rounded number keeps its sign, and half of the
        registers are compared. Behind an addition of zeta nothing is -0, whose sign would be wrong."""
        use = self.epilogue
        stored = use.store and use.out_dtype == "float16" and use.bits and use.bits_at_zero
        return stored and use.activation in ("rprelu", "leaky") and bool(self.isa.narrow) and lanes % 4 == 0

    def _clip(self, value: Expr, lanes: int) -> Expr:
        """Hardtanh: value where its magnitude is below 1, else its sign."""
        one = f32(1, lanes)
        if self.isa.smaller and lanes == self.isa.float_lanes:
            smaller, every, rounding = T.int32(2), T.int16(-1), T.int32(4)
            operands = (value, one, smaller, value, every, rounding)
            return T.call_llvm_pure_intrin(dtype_of("float32", lanes), self.isa.smaller, *operands)
        return T.min(T.max(value, f32(-1, lanes)), one)

    def _load(self, residual: Residual, base: Expr, lanes: int) -> Expr:
        """`lanes` values of the residual's source from `base` on, clipped if they are to be."""
        source = self.buffers["residual"]
        if residual.clip and self.isa.clip_halves and residual.dtype == "float16":
            return widen(clip_halves(source[ramp(base, lanes)], lanes), lanes, self.isa)
        value = load_floats(source, base, lanes, self.isa)
        return self._clip(value, lanes) if residual.clip else value

    def _residual(self, residual: Residual, n: Expr, y: Expr, x: Expr, c: Expr, lanes: int) -> Expr:
        factor = 2 if residual.pool else 1
        groups = residual.channels // self.channels if residual.kind == "group_mean" else 1
        first = T.floormod(c, residual.channels) if residual.kind == "repeat" else c

        def corner(group: int, dy: int, dx: int) -> Expr:
            row = n * (self.height * factor) + y * factor + dy
            pixel = row * (self.width * factor) + x * factor + dx
            return self._load(residual, pixel * residual.channels + first + group * self.channels, lanes)

        # a power of two rounds nothing: the quarters of the pixels are taken with the last product
        corners = [(dy, dx) for dy in range(factor) for dx in range(factor)]
        pooled = [reduce(add, [corner(group, *at) for at in corners]) for group in range(groups)]
        total = reduce(add, pooled)
        parts = factor * factor * groups
        if parts == 1:
            return total
        mean = total * f32(1.0 / parts, lanes)
        return mean if parts & (parts - 1) == 0 else uncontracted(mean, lanes)

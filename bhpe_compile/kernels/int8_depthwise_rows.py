"""The inner loops of 8-bit depthwise convolutions by rows: an instruction adds the products of several input rows.

Levels of a group of rows are laid side by side by steps of unpacking. With four rows of bytes that makes four
registers of a block of 64 channels, sixteen channels by four rows each; a product with the weights (w0 w1 w2 0) is a
column of the window of one output row, with (0 w0 w1 w2) one of the row below it. With two rows of words it makes two
registers of 16 channels. Sums lie in the order that unpacking leaves, and packing levels undoes it: weights and what is
read by channel are stored in that order (`channels_of`), memory stays channels last.

    weight [blocks][sets, kernel columns, registers, sums, rows of a group]

A set is an output row of the tile and a group of input rows with any weight of it; a last tile of fewer rows reads the
first sets of each block. Blocks are as wide as there are
channels left; the last one overlaps what was done. Of fewer channels lanes run over neighbouring pixels as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.kernels.epilogue import Epilogue
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.kernels.int8_products import added
from bhpe_compile.kernels.kernel import Array
from bhpe_compile.kernels.tir import Expr, Share, T, dtype_of, local, ramp, splat, store
from bhpe_compile.kernels.window import Window
from bhpe_compile.targets.int8_instructions import BY_ROWS, ByRows
from bhpe_compile.targets.isa import VectorIsa


class Layer(Protocol):
    """What the loops ask of a depthwise convolution."""

    @property
    def batch(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def in_border(self) -> int: ...
    @property
    def stored_width(self) -> int: ...
    @property
    def epilogue(self) -> Epilogue: ...
    @property
    def rows(self) -> Window: ...
    @property
    def columns(self) -> Window: ...


PIXELS = 2
"""Outputs of a row that are summed at once: they share each register of weights."""

HELD_WEIGHTS = 12
"""More registers of weights than these do not stay in registers while the pixels go by."""

MOST_TAPS = 25
"""Larger windows are computed in another way."""

BY_CHANNEL = ("start", "scale", "bias", "beta", "zeta")
"""Arguments that are stored in the order of lanes."""


@dataclass(frozen=True)
class Block:
    """`width` channels from `first` on, which registers of `sums` sums hold."""

    first: int
    sums: int
    width: int


@dataclass(frozen=True)
class Layout:
    """How a layer is cut for an instruction, and where its constants lie."""

    kernel: Layer
    use: ByRows

    @property
    def spread(self) -> int:
        """Neighbouring pixels in a register of bytes."""
        channels, (most, *_) = self.kernel.in_channels, self.use.widths
        fits = 2 * channels < most and most % channels == 0 and self.kernel.columns.stride == 1
        return most // channels if fits and self.kernel.columns.count * channels >= most else 1

    @cached_property
    def blocks(self) -> list[Block]:
        """All channels; none where there are too few."""
        sizes = [(one.sums or 0, width) for one, width in zip(self.use.steps, self.use.widths, strict=True)]
        if self.spread > 1:
            return [Block(0, *sizes[0])]
        channels = self.kernel.in_channels
        found: list[Block] = []
        at = 0
        while at < channels:
            fitting = [size for size in sizes if size[1] <= channels]
            if not fitting:
                return []
            left = channels - at
            size = next((size for size in reversed(fitting) if size[1] >= left), fitting[0])
            found.append(Block(min(at, channels - size[1]), *size))
            at += size[1]
        return found

    def channels_of(self, block: Block) -> NDArray[np.int64]:
        """[registers, sums]: the channel of each sum."""
        group = self.use.group
        lanes = np.array(
            [[4 * group * (i // 4) + 4 * v + i % 4 for i in range(block.sums)] for v in range(group)]
        )
        return (block.first + lanes) % self.kernel.in_channels

    @property
    def channels(self) -> NDArray[np.int64]:
        """The same of all blocks, one behind the other."""
        return np.concatenate([self.channels_of(block).reshape(-1) for block in self.blocks])

    @property
    def tile_rows(self) -> int:
        """Output rows that are summed at once: two, where that takes no more products."""
        both = self.kernel.rows.count > 1 and len(self.sets(2)) <= 2 * len(self.sets(1))
        return 2 if both else 1

    def input_rows(self, rows: int) -> int:
        """Input rows that a tile of `rows` reads."""
        return (rows - 1) * self.kernel.rows.stride + self.kernel.rows.taps

    def sets(self, rows: int) -> list[tuple[int, int]]:
        """(output row, group of input rows) with any weight, for a tile of `rows`."""
        groups = -(-self.input_rows(rows) // self.use.group)
        return [
            (row, group) for row in range(rows) for group in range(groups) if any(self.taps_of(row, group))
        ]

    def taps_of(self, row: int, group: int) -> list[range]:
        """The tap, as a range of one or none, that each row of a group is for an output row."""
        taps, first = self.kernel.rows.taps, group * self.use.group - row * self.kernel.rows.stride
        return [range(tap, tap + (0 <= tap < taps)) for tap in range(first, first + self.use.group)]

    def block_size(self, block: Block) -> int:
        """Weights of a block."""
        return len(self.sets(self.tile_rows)) * self.kernel.columns.taps * block.width * self.use.group

    @property
    def weight_size(self) -> int:
        """Numbers of all weights."""
        return sum(self.block_size(block) for block in self.blocks)

    def packed_weight(self, taps: Array) -> NDArray[Any]:
        """int8 [kernel rows, kernel columns, C] -> the layout above."""
        found, sets = [], self.sets(self.tile_rows)
        for block in self.blocks:
            channels = self.channels_of(block)
            shape = (len(sets), self.kernel.columns.taps, *channels.shape, self.use.group)
            weight = np.zeros(shape, self.use.weights)
            for index, at in enumerate(sets):
                for i, tap in enumerate(self.taps_of(*at)):
                    for kh in tap:
                        weight[index, ..., i] = taps[kh][:, channels]
            found.append(weight.reshape(-1))
        return np.concatenate(found)

    def unpacked_weight(self, packed: Array) -> NDArray[np.int64]:
        """The inverse: int64 [taps, C]."""
        columns = self.kernel.columns.taps
        sets, at = self.sets(self.tile_rows), 0
        taps = np.zeros((self.kernel.rows.taps, columns, self.kernel.in_channels), np.int64)
        for block in self.blocks:
            channels, size = self.channels_of(block), self.block_size(block)
            weight = packed[at : at + size].reshape(len(sets), columns, *channels.shape, self.use.group)
            at += size
            for index, (row, group) in enumerate(sets):
                for i, tap in enumerate(self.taps_of(row, group)):
                    for kh in tap if row == 0 else ():
                        taps[kh][:, channels] = weight[index, ..., i]
        return taps.reshape(-1, self.kernel.in_channels)

    def by_channel(self, array: Array) -> Array:
        """[C] in the order of sums."""
        return np.ascontiguousarray(array.reshape(-1)[self.channels])

    def of_channels(self, array: Array) -> Array:
        """The inverse."""
        found = np.zeros(self.kernel.in_channels, array.dtype)
        found[self.channels] = array
        return found


def layout(kernel: Layer, isa: VectorIsa) -> Layout | None:
    """How a kernel is computed by rows on a vector unit; None: it is not."""
    use, epilogue = isa.depthwise.rows, kernel.epilogue
    if use is None or kernel.rows.taps * kernel.columns.taps > MOST_TAPS:
        return None
    plain = epilogue.residual is None and not epilogue.shortcut and not epilogue.store and not epilogue.bits
    if epilogue.levels is None or not plain:
        return None
    found = Layout(kernel, use)
    return found if found.blocks else None


def layout_of(kernel: Layer, weight: Array) -> Layout | None:
    """How weights are laid out that were packed; None: in another way."""
    if weight.ndim > 1:
        return None
    return Layout(kernel, next(use for use in BY_ROWS if use.weights == str(weight.dtype)))


@dataclass
class RowLoops:
    """Emits the loops of a kernel that is computed by rows.

    `nothing` and `again` are 0, which LLVM does not know. What lies at a place that depends on the pixel and `nothing`
    stays an operand in memory, and levels at `again` are loaded a second time; LLVM would load all of it before the
    loop, or before its first use, and spill.
    """

    layout: Layout
    epilogue: EpilogueEmitter
    nothing: Expr = 0
    again: Expr = 0

    def emit(self, share: Share) -> None:
        """Tiles of rows are shared out; blocks of channels are the outer loop within one."""
        kernel, layout = self.layout.kernel, self.layout
        self.nothing = T.bind(T.truncdiv(share.part, share.parts))
        self.again = T.bind(T.truncdiv(share.part, share.parts + 1))
        rows, count = layout.tile_rows, kernel.rows.count
        whole = count // rows
        with share.rows(kernel.batch, -(-count // rows)) as (n, tile):
            if whole * rows == count:
                self._blocks(n, tile * rows, rows)
                return
            with T.If(tile < whole):
                with T.Then():
                    self._blocks(n, tile * rows, rows)
                with T.Else():
                    self._blocks(n, whole * rows, 1)

    def _blocks(self, n: Expr, y: Expr, rows: int) -> None:
        """All channels of a tile of rows: a loop over the blocks of each width."""
        place = weights = 0
        for _, alike in groupby(
            enumerate(self.layout.blocks), lambda at: (at[1].sums, at[1].first - at[0] * at[1].width)
        ):
            blocks = [block for _, block in alike]
            block, size = blocks[0], self.layout.block_size(blocks[0])
            for i in self._each(len(blocks)):
                first = block.first + i * block.width
                self._row(n, y, rows, block, first, place + i * block.width, weights + i * size)
            place += len(blocks) * block.width
            weights += len(blocks) * size

    @staticmethod
    def _each(count: int) -> Iterator[Expr]:
        """0 .. count - 1, in a loop where there are several."""
        if count == 1:
            yield 0
            return
        with T.serial(0, count) as i:
            yield i

    def _row(self, n: Expr, y: Expr, rows: int, block: Block, c: Expr, place: Expr, weights: Expr) -> None:
        """A tile of `rows` output rows, one block of channels from `c` on; what is read by channel lies at `place`."""
        kernel, spread = self.layout.kernel, self.layout.spread
        pixels = PIXELS if spread == 1 else 1
        step = pixels * spread
        whole, rest = divmod(kernel.columns.count, step)
        registers = len(self.layout.sets(rows)) * kernel.columns.taps * self.layout.use.group
        if whole:
            with T.serial(0, whole) as xo:
                zero = T.bind(xo * self.nothing)
                at = weights + zero if registers > HELD_WEIGHTS else weights
                self._pixels(n, y, xo * step, pixels, rows, block, c, place + zero, at)
        if rest and spread == 1:
            self._pixels(n, y, whole * step, rest, rows, block, c, place, weights)
        elif rest:  # overlaps what was done
            self._pixels(n, y, kernel.columns.count - spread, 1, rows, block, c, place, weights)

    def _pixels(
        self,
        n: Expr,
        y: Expr,
        x: Expr,
        pixels: int,
        rows: int,
        block: Block,
        c: Expr,
        place: Expr,
        weights: Expr,
    ) -> None:
        use = self.layout.use
        sums = local(pixels * rows * block.width, "int32")
        registers = range(use.group)
        for some in (registers[at : at + use.together] for at in registers[:: use.together]):
            for v in some:
                start = self._start(place + v * block.sums, block.sums)
                for index in range(pixels * rows):
                    store(sums, index * block.width + v * block.sums, block.sums, start)
            self._products(sums, n, y, x, pixels, rows, block, c, weights, some)
        for row in range(rows):
            for p in range(pixels):
                base = (p * rows + row) * block.width
                dots = [
                    T.Cast(dtype_of("float32", block.sums), sums[ramp(base + v * block.sums, block.sums)])
                    for v in registers
                ]
                self.epilogue.finish(dots, n, y + row, x + p, c, block.width, packed_at=place)

    def _products(
        self,
        sums: Any,
        n: Expr,
        y: Expr,
        x: Expr,
        pixels: int,
        rows: int,
        block: Block,
        c: Expr,
        weights: Expr,
        registers: range,
    ) -> None:
        """The products of these registers of all columns and rows."""
        buffers, use = self.epilogue.buffers, self.layout.use
        columns, step = self.layout.kernel.columns, use.step(block.sums)
        sets = self.layout.sets(rows)
        size = block.sums * use.group
        at_levels = c if registers[0] == 0 else c + self.again
        # columns that pixels share come one behind the other
        taps = sorted(range(columns.taps), key=lambda tap: (tap % columns.stride, tap))
        for group in sorted({group for _, group in sets}):
            loaded: dict[int, Any] = {}
            for tap in taps:
                for p in range(pixels):
                    column = tap + p * columns.stride
                    if column not in loaded:
                        loaded[column] = self._side_by_side(n, y, x, column, rows, group, block, at_levels)
                for index, (row, of) in enumerate(sets):
                    if of != group:
                        continue
                    for v in registers:
                        first = ((index * columns.taps + tap) * use.group + v) * size
                        weight = buffers["weight"][ramp(weights + first, size)]
                        for p in range(pixels):
                            at = ramp((p * rows + row) * block.width + v * block.sums, block.sums)
                            levels = loaded[tap + p * columns.stride][ramp(v * size, size)]
                            T.buffer_store(sums, added(step, sums[at], block.sums, levels, weight), [at])

    def _start(self, at: Expr, lanes: int) -> Expr:
        if "start" not in self.epilogue.buffers:
            return splat(T.int32(0), lanes)
        return self.epilogue.buffers["start"][ramp(at, lanes)]

    def _side_by_side(
        self, n: Expr, y: Expr, x: Expr, column: int, rows: int, group: int, block: Block, c: Expr
    ) -> Any:
        """Levels of a group of rows of one input column: a buffer of [registers, channels, rows of the group]."""
        layout, use = self.layout, self.layout.use
        kernel, kind = layout.kernel, use.weights
        height = kernel.height + 2 * kernel.in_border
        top = n * height + y * kernel.rows.stride + (kernel.in_border - kernel.rows.pad)
        left = x * kernel.columns.stride + (kernel.in_border - kernel.columns.pad + column)
        last = layout.input_rows(rows) - 1
        registers = local(use.group * block.width, kind)
        for i in range(use.group):
            row = min(group * use.group + i, last)  # rows beyond the last meet weights of 0
            base = ((top + row) * kernel.stored_width + left) * kernel.in_channels + c
            levels = self.epilogue.buffers["x"][ramp(base, block.width)]
            levels = (T.Cast if use.widened else T.reinterpret)(dtype_of(kind, block.width), levels)
            store(registers, i * block.width, block.width, levels)
        together, size = 1, 4 // use.group
        while together < use.group:
            registers = _unpacked(registers, use.group, block.width, kind, together, size * together)
            together *= 2
        return registers


def _unpacked(registers: Any, count: int, lanes: int, kind: str, together: int, size: int) -> Any:
    """`count` registers of `lanes` elements -> the same of which neighbours are laid side by side, `together` elements
    of `size` bytes at once: of registers k and k + 1 the lower halves of every 16 bytes, then the higher ones."""
    wide, units, sixteen = f"int{8 * size}", lanes // together, 16 // size
    found = local(count * lanes, kind)
    pairs = count // 2
    for pair in range(pairs):
        first, second = (
            T.reinterpret(dtype_of(wide, units), registers[ramp(at * lanes, lanes)])
            for at in _neighbours(pair, together)
        )
        for high in range(2):
            order: list[int] = []
            for part in range(units // sixteen):
                for i in range(sixteen // 2):
                    element = part * sixteen + i + high * (sixteen // 2)
                    order += [element, units + element]
            both = T.reinterpret(dtype_of(kind, lanes), T.Shuffle([first, second], order))
            store(found, (pair * 2 + high) * lanes, lanes, both)
    return found


def _neighbours(pair: int, together: int) -> tuple[int, int]:
    """Which two registers a step lays side by side: rows, then the same halves of pairs of rows."""
    return (2 * pair, 2 * pair + 1) if together == 1 else (pair, pair + 2)

"""One axis of a convolution: which input each tap of each output reads, and where padding cuts taps off.

Output i (of `count`) reads input i * stride - pad + k * dilation for taps k = 0 .. taps-1; taps outside 0 .. size-1
are cut.
A transposed convolution with kernel 4, stride 2, padding 1 is, on each axis, two such windows of two taps:
outputs 2i read (i - 1, i) through kernel taps (3, 1), outputs 2i + 1 read (i, i + 1) through taps (2, 0).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.kernels.tir import T

Extents = int | tuple[int, int]
"""A number for both axes, or one for rows and one for columns."""

Sides = int | tuple[int, int, int, int]
"""Padding of all sides, or of the top, the left, the bottom and the right."""


def both(extents: Extents) -> tuple[int, int]:
    """Of rows and of columns."""
    return (extents, extents) if isinstance(extents, int) else extents


def four(sides: Sides) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    return (sides, sides, sides, sides) if isinstance(sides, int) else sides


def word(numbers: Extents | Sides) -> str:
    """The same as a part of a symbol."""
    return str(numbers) if isinstance(numbers, int) else "x".join(map(str, numbers))


@dataclass(frozen=True)
class Window:
    """The geometry above; output i is written at i * `out_step` + `out_offset`."""

    size: int
    count: int
    taps: int
    stride: int = 1
    pad: int = 0
    out_step: int = 1
    out_offset: int = 0
    dilation: int = 1

    @property
    def reach(self) -> int:
        """Inputs from the first tap to the last, both counted."""
        return (self.taps - 1) * self.dilation + 1

    def valid(self, i: int) -> tuple[bool, ...]:
        """For output i, whether each tap reads inside the input."""
        start = i * self.stride - self.pad
        return tuple(0 <= start + k * self.dilation < self.size for k in range(self.taps))

    @property
    def first_whole(self) -> int:
        """Number of leading outputs with a tap cut off at the front."""
        return min(self.count, -(-self.pad // self.stride))

    @property
    def first_cut(self) -> int:
        """The first output at or after `first_whole` with a tap cut off at the back."""
        last_whole = (self.size - self.reach + self.pad) // self.stride
        return min(self.count, max(self.first_whole, last_whole + 1))

    @property
    def is_cut(self) -> bool:
        """Whether any output has a tap cut off."""
        return self.first_whole > 0 or self.first_cut < self.count

    @property
    def classes(self) -> int:
        """Number of border classes: every cut output is one of its own, all whole ones share one."""
        return self.first_whole + 1 + self.count - self.first_cut

    def class_of(self, i: Any) -> Any:
        """The border class of output i (a number or an expression)."""
        if isinstance(i, int):
            return min(i, self.first_whole) + max(i - self.first_cut + 1, 0)
        front = T.min(i, self.first_whole) if self.first_whole else 0
        back = T.max(i - (self.first_cut - 1), 0) if self.first_cut < self.count else 0
        return front + back

    def members(self) -> dict[int, int]:
        """One output of each class that occurs."""
        return {self.class_of(i): i for i in reversed(range(self.count))}

    def out(self, i: Any) -> Any:
        """Where output i is written."""
        return i * self.out_step + self.out_offset


class Convolved:
    """The two windows of a description with these sizes: a convolution or a pooling."""

    height: int
    width: int
    kernel: Extents
    stride: Extents
    padding: Sides
    dilation: Extents = 1

    @property
    def rows(self) -> Window:
        """The vertical window."""
        top, _, bottom, _ = four(self.padding)
        kernel, stride, dilation = (both(one)[0] for one in (self.kernel, self.stride, self.dilation))
        return convolution(self.height, kernel, stride, top, bottom, dilation)

    @property
    def columns(self) -> Window:
        """The horizontal window."""
        _, left, _, right = four(self.padding)
        kernel, stride, dilation = (both(one)[1] for one in (self.kernel, self.stride, self.dilation))
        return convolution(self.width, kernel, stride, left, right, dilation)

    @property
    def taps(self) -> int:
        """Pixels of a window."""
        rows, columns = both(self.kernel)
        return rows * columns

    @property
    def shape_word(self) -> str:
        """Kernel, stride and padding (and dilation, where there is any) as a part of a symbol."""
        dilated = "" if both(self.dilation) == (1, 1) else f"d{word(self.dilation)}"
        return f"k{word(self.kernel)}s{word(self.stride)}p{word(self.padding)}{dilated}"


@dataclass(frozen=True)
class Layer:
    """Sizes that every convolution's description has; its work is shared out."""

    parallel: ClassVar[bool] = True
    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int

    @property
    def sizes(self) -> str:
        """The same as a part of a symbol."""
        return f"n{self.batch}_{self.height}x{self.width}_{self.in_channels}to{self.out_channels}"


@dataclass(frozen=True)
class Convolution(Convolved, Layer):
    """A convolution of windows of any two extents."""

    kernel: Extents
    stride: Extents
    padding: Sides

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """[N, Ho, Wo, Cout]."""
        return self.batch, self.rows.count, self.columns.count, self.out_channels

    def loops(self, flat: bool) -> tuple[Window, Window]:
        """Rows and columns of outputs; of a 1x1 layer one long row where `flat` allows that."""
        return per_pixel(self.rows, self.columns) if flat else (self.rows, self.columns)


@dataclass(frozen=True)
class Deconvolution(Layer):
    """A transposed convolution k4 s2 p1 as four convolutions with 2x2 windows, one for each phase of its outputs."""

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """[N, 2H, 2W, Cout]."""
        return self.batch, 2 * self.height, 2 * self.width, self.out_channels

    @property
    def phases(self) -> list[tuple[Window, Window]]:
        """Rows and columns of each phase."""
        return [(deconvolution_phase(self.height, i), deconvolution_phase(self.width, j)) for i, j in PHASES]

    def interleaved(self, parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
        """[N, 2H, 2W, Cout] of the outputs [N, H, W, Cout] of each phase."""
        stacked = np.stack(list(parts)).reshape(2, 2, self.batch, self.height, self.width, self.out_channels)
        return stacked.transpose(2, 3, 0, 4, 1, 5).reshape(self.out_shape)


def phase_weights(weight: NDArray[Any]) -> list[NDArray[Any]]:
    """The four taps of each phase of a transposed convolution: [A, B, 4, 4], kernel indices as in ConvTranspose,
    -> [A, B, 4]."""
    first, second = weight.shape[:2]
    return [weight[:, :, phase_taps(i), :][..., phase_taps(j)].reshape(first, second, 4) for i, j in PHASES]


def convolution(
    size: int, kernel: int, stride: int, padding: int, behind: int | None = None, dilation: int = 1
) -> Window:
    """The window of a plain convolution along one axis; `behind` is the padding at its end, where it differs."""
    back = padding if behind is None else behind
    reach = (kernel - 1) * dilation + 1
    count = (size + padding + back - reach) // stride + 1
    if count < 1:
        raise ValueError(f"kernel {kernel} does not fit {padding} + {size} + {back} pixels")
    return Window(size, count, kernel, stride, padding, dilation=dilation)


def deconvolution_phase(size: int, phase: int) -> Window:
    """The window of outputs 2i + phase of a transposed convolution k4 s2 p1."""
    return Window(size, size, 2, 1, 1 - phase, 2, phase)


PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Row and column phase of each of the four 2x2 convolutions a transposed convolution is made of."""


def phase_taps(phase: int) -> list[int]:
    """The kernel indices that the two window taps of a phase use."""
    return [3, 1] if phase == 0 else [2, 0]


def per_pixel(rows: Window, columns: Window) -> tuple[Window, Window]:
    """A 1x1 window of stride 1 as one long row of pixels, other windows as they are."""
    if all(w.taps == 1 and w.stride == 1 and w.pad == 0 and w.out_step == 1 for w in (rows, columns)):
        return convolution(1, 1, 1, 0), convolution(rows.size * columns.size, 1, 1, 0)
    return rows, columns

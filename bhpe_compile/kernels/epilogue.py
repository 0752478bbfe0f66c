"""What happens to an accumulator before it leaves the registers; shared by every convolution.

    v = dot * scale + (bias + residual)
    v = relu(v)   or   rprelu(v) = (v > 0 ? v : beta * v) + zeta     gamma of RPReLU is in the bias
                  or   leaky(v) = max(v, beta * v) + zeta            the same where no beta is above 1
                  or   clip(v) = min(max(v, low), high)            one low and high for all channels
                  or   table(v) = (table[clip(rint(v) + zero, 0, 255)] - out_zero) * out_step
    v = v + shortcut
    out = v,   bits = v >= threshold   or, with `bits_at_zero`, v >= 0
    levels = clip(rint(v / step) + zero, 0, 255)   as an 8-bit convolution reads them, with their border

Every operation rounds once, in this order, so that each target, and ONNX Runtime with the bodies in
`exchange/functions.py`, gives the same bits. The product of a binary layer is exact (`passes/fold/round_constants.py`
gives its scale few bits); that of an 8-bit layer is kept out of fused multiply-adds (`tir.uncontracted`).

Float tensors in memory are float32 or float16 NHWC; arithmetic is float32, and `bits` compares v before it is
rounded to float16. No zeta is -0 where bits are taken at zero: then v is not, either, and they are its sign.
The residual is read, in this order: clipped to [-1, 1], averaged over 2x2 pixels (when it comes from before a
stride) as (((a + b) + c) + d) / 4, row by row, and fitted to the output's channels C. From R channels: "same" R = C,
"repeat" C = k*R (channel c reads c mod R), "group_mean" R = k*C (channel c is the sum of c, c + C, ..., c + (k-1)*C,
from left to right, times 1/k).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np

from bhpe_compile.kernels.kernel import Array, Parameter, pack_bits, packed_bytes
from bhpe_compile.targets.isa import VectorIsa

Storage = Literal["float32", "float16"]
"""How a float tensor is kept in memory."""


@dataclass(frozen=True)
class Residual:
    """How a residual source of `channels` channels is read; see the module's text for the kinds."""

    kind: Literal["same", "repeat", "group_mean"]
    channels: int
    pool: bool = False
    clip: bool = False
    dtype: Storage = "float32"

    def check(self, out_channels: int) -> None:
        """Raise ValueError when `channels` cannot be fitted to `out_channels` by this kind."""
        fits = {
            "same": self.channels == out_channels,
            "repeat": out_channels % self.channels == 0,
            "group_mean": self.channels % out_channels == 0,
        }[self.kind]
        if not fits:
            raise ValueError(f"residual {self.kind}: {self.channels} channels do not fit {out_channels}")

    def reference(self, source: Array, out_channels: int) -> Array:
        """float [N, H, W, R] (2H x 2W with `pool`) -> float32 [N, H, W, out_channels]."""
        value = source.astype(np.float32)
        value = np.clip(value, -1, 1) if self.clip else value
        if self.pool:
            corners = [value[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
            value = reduce(np.add, corners) * np.float32(0.25)
        if self.kind == "repeat":
            return np.tile(value, out_channels // self.channels)
        if self.kind == "group_mean":
            groups = self.channels // out_channels
            total: Array = reduce(np.add, np.split(value, groups, -1))
            return total * np.float32(1 / groups)
        return value


MOST_STEPS = 2.0**30
"""A level beyond all others that is still an int32: of larger floats, conversions make the least int32."""


def values_fit(activation: str, largest_dot: float, arrays: Mapping[str, Array]) -> bool:
    """Whether no value of an epilogue without a residual is beyond `MOST_STEPS` in front of a shortcut or a table,
    whatever the sums up to `largest_dot`; arrays: its arguments by role."""
    scale, bias = (np.abs(arrays[role].astype(np.float64)) for role in ("scale", "bias"))
    most = scale * largest_dot + bias
    if activation in ("leaky", "rprelu"):
        beta, zeta = (np.abs(arrays[role].astype(np.float64)) for role in ("beta", "zeta"))
        most = most * np.maximum(beta, 1) + zeta
    if activation == "clip":
        most = np.maximum(most, np.abs(arrays["limits"]).max())
    step = float(arrays["requantization"][0]) if activation != "table" else 1.0
    return bool(np.all(most / step < MOST_STEPS / 2))


@dataclass(frozen=True)
class Levels:
    """How levels are written: a border of level zero around the map, in pixels, and pixels of a stored row. `divides`:
    the step is another one than 1. `of_table`: they are what the table says, its own step and zero being these. `fits`:
    no value that is rounded in front of a shortcut is beyond `MOST_STEPS` (see `values_fit`)."""

    border: int
    stored_width: int
    divides: bool = True
    of_table: bool = False
    fits: bool = False

    def symbol(self) -> str:
        """As a part of a kernel's name."""
        how = ("t" if self.of_table else "d" if self.divides else "") + ("f" if self.fits else "")
        return f"_levels{self.border}w{self.stored_width}{how}"


@dataclass(frozen=True)
class Epilogue:
    """The steps in use. `bits_border` is the zero border of the packed output, in pixels; `bits_at_zero` says that
    every threshold is 0, and none is an argument."""

    residual: Residual | None = None
    activation: Literal["none", "relu", "rprelu", "leaky", "clip", "table"] = "none"
    shortcut: bool = False
    store: bool = True
    bits: bool = False
    bits_border: int = 0
    out_dtype: Storage = "float32"
    shortcut_dtype: Storage = "float32"
    bits_at_zero: bool = False
    levels: Levels | None = None

    def check(self, channels: int) -> None:
        """Raise ValueError when this epilogue cannot serve `channels` output channels."""
        if not (self.store or self.bits or self.levels):
            raise ValueError("an epilogue must store floats, bits or both")
        if self.levels is not None and self.levels.of_table and (self.activation != "table" or self.shortcut):
            raise ValueError("levels of a table need one, and nothing behind it")
        if self.bits and channels % 8:
            raise ValueError(f"packed output needs a multiple of 8 channels, not {channels}")
        if self.residual is not None:
            self.residual.check(channels)
            if self.bits and self.residual.kind == "repeat" and self.residual.channels % 8:
                raise ValueError(
                    f"packed output repeats residuals of a multiple of 8 channels, not {self.residual.channels}"
                )

    def is_per_pixel(self, width: int) -> bool:
        """Whether pixels of a map of `width` columns may be numbered through without regard to rows."""
        if self.bits and self.bits_border > 0:
            return False
        if self.levels is not None and (self.levels.border or self.levels.stored_width != width):
            return False
        return not (self.residual is not None and self.residual.pool)

    def parameters(
        self, batch: int, height: int, width: int, channels: int, isa: VectorIsa | None = None
    ) -> tuple[Parameter, ...]:
        """The arguments after x, weight and border, for an output of [batch, height, width, channels]; isa: how levels
        lie in memory, None: as bytes."""
        full = (batch, height, width, channels)
        listed = [Parameter("scale", (channels,), "float32"), Parameter("bias", (channels,), "float32")]
        if self.residual is not None:
            factor = 2 if self.residual.pool else 1
            shape = (batch, height * factor, width * factor, self.residual.channels)
            listed.append(Parameter("residual", shape, self.residual.dtype))
        if self.activation in ("rprelu", "leaky"):
            listed += [Parameter(role, (channels,), "float32") for role in ("beta", "zeta")]
        if self.activation == "clip":
            listed.append(Parameter("limits", (2,), "float32"))
        if self.activation == "table":
            listed += [Parameter("table", (256,), "uint8"), Parameter("grid", (3,), "float32")]
        if self.shortcut:
            listed.append(Parameter("shortcut", full, self.shortcut_dtype))
        if self.bits and not self.bits_at_zero:
            listed.append(Parameter("threshold", (channels,), "float32"))
        if self.levels is not None:
            listed.append(Parameter("requantization", (2,), "float32"))
        if self.store:
            listed.append(Parameter("out", full, self.out_dtype, is_output=True))
        if self.bits:
            border = 2 * self.bits_border
            shape = (batch, height + border, width + border, packed_bytes(channels))
            listed.append(Parameter("bits", shape, "uint8", is_output=True))
        if self.levels is not None:
            shape = (batch, height + 2 * self.levels.border, self.levels.stored_width, channels)
            dtype = "uint8" if isa is None else isa.int8.dtype
            listed.append(Parameter("levels", shape, dtype, is_output=True))
        return tuple(listed)

    def symbol(self) -> str:
        """The part of a kernel's name that tells its epilogue."""
        word = ""
        if self.residual is not None:
            flags = ("p" if self.residual.pool else "") + ("c" if self.residual.clip else "")
            flags += "h" if self.residual.dtype == "float16" else ""
            word += f"_{self.residual.kind.replace('_', '')}{self.residual.channels}{flags}"
        if self.activation != "none":
            word += f"_{self.activation}"
        if self.shortcut:
            word += "_shortcut" + ("h" if self.shortcut_dtype == "float16" else "")
        if self.store:
            word += "_store" + ("h" if self.out_dtype == "float16" else "")
        if self.bits:
            word += f"_{'signs' if self.bits_at_zero else 'bits'}{self.bits_border}"
        if self.levels is not None:
            word += self.levels.symbol()
        return word

    def reference(self, dot: Array, arrays: dict[str, Array]) -> dict[str, Array]:
        """The outputs from accumulators [N, H, W, C] and the epilogue's arguments by role. Levels are 0 .. 255;
        `int8_layout.stored` tells what memory holds."""
        value = dot.astype(np.float32) * arrays["scale"] + arrays["bias"]
        if self.residual is not None:
            value = value + self.residual.reference(arrays["residual"], dot.shape[-1])
        if self.activation == "relu":
            value = np.maximum(value, 0)
        elif self.activation == "rprelu":
            value = np.where(value > 0, value, arrays["beta"] * value) + arrays["zeta"]
        elif self.activation == "leaky":
            value = np.maximum(value, arrays["beta"] * value) + arrays["zeta"]
        elif self.activation == "clip":
            value = np.minimum(np.maximum(value, arrays["limits"][0]), arrays["limits"][1])
        elif self.activation == "table":
            zero, step, out_zero = arrays["grid"]
            found = arrays["table"][np.clip(np.rint(value) + zero, 0, 255).astype(np.int64)]
            value = (found.astype(np.float32) - out_zero) * step
        if self.shortcut:
            value = value + arrays["shortcut"]
        outputs: dict[str, Array] = {}
        if self.store:
            outputs["out"] = value.astype(self.out_dtype)
        if self.bits:
            threshold = 0 if self.bits_at_zero else arrays["threshold"]
            outputs["bits"] = pack_bits(value >= threshold, self.bits_border)
        if self.levels is not None:
            step, zero = arrays["requantization"]
            level = found if self.levels.of_table else np.clip(np.rint(value / step) + zero, 0, 255)
            n, height, width, channels = value.shape
            b = self.levels.border
            stored = np.full((n, height + 2 * b, self.levels.stored_width, channels), zero, np.uint8)
            stored[:, b : b + height, b : b + width] = level
            outputs["levels"] = stored
        return outputs

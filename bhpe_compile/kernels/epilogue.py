"""What happens to an accumulator before it leaves the registers; shared by every convolution.

    v = dot * scale + (bias + residual)
    v = relu(v)   or   rprelu(v) = (v > 0 ? v : beta * v) + zeta     gamma of RPReLU is in the bias
                  or   leaky(v) = max(v, beta * v) + zeta            the same where no beta is above 1
    v = v + shortcut
    out = v,   bits = v >= threshold   or, with `bits_at_zero`, v >= 0

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

from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np

from bhpe_compile.kernels.kernel import Array, Parameter, pack_bits, packed_bytes

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


@dataclass(frozen=True)
class Epilogue:
    """The steps in use. `bits_border` is the zero border of the packed output, in pixels; `bits_at_zero` says that
    every threshold is 0, and none is an argument."""

    residual: Residual | None = None
    activation: Literal["none", "relu", "rprelu", "leaky"] = "none"
    shortcut: bool = False
    store: bool = True
    bits: bool = False
    bits_border: int = 0
    out_dtype: Storage = "float32"
    shortcut_dtype: Storage = "float32"
    bits_at_zero: bool = False

    def check(self, channels: int) -> None:
        """Raise ValueError when this epilogue cannot serve `channels` output channels."""
        if not (self.store or self.bits):
            raise ValueError("an epilogue must store floats, bits or both")
        if self.bits and channels % 8:
            raise ValueError(f"packed output needs a multiple of 8 channels, not {channels}")
        if self.residual is not None:
            self.residual.check(channels)
            if self.bits and self.residual.kind == "repeat" and self.residual.channels % 8:
                raise ValueError(
                    f"packed output repeats residuals of a multiple of 8 channels, not {self.residual.channels}"
                )

    @property
    def is_per_pixel(self) -> bool:
        """Whether pixels may be numbered through without regard to rows."""
        bordered = self.bits and self.bits_border > 0
        return not bordered and not (self.residual is not None and self.residual.pool)

    def parameters(self, batch: int, height: int, width: int, channels: int) -> tuple[Parameter, ...]:
        """The arguments after x, weight and border, for an output of [batch, height, width, channels]."""
        full = (batch, height, width, channels)
        listed = [Parameter("scale", (channels,), "float32"), Parameter("bias", (channels,), "float32")]
        if self.residual is not None:
            factor = 2 if self.residual.pool else 1
            shape = (batch, height * factor, width * factor, self.residual.channels)
            listed.append(Parameter("residual", shape, self.residual.dtype))
        if self.activation in ("rprelu", "leaky"):
            listed += [Parameter(role, (channels,), "float32") for role in ("beta", "zeta")]
        if self.shortcut:
            listed.append(Parameter("shortcut", full, self.shortcut_dtype))
        if self.bits and not self.bits_at_zero:
            listed.append(Parameter("threshold", (channels,), "float32"))
        if self.store:
            listed.append(Parameter("out", full, self.out_dtype, is_output=True))
        if self.bits:
            border = 2 * self.bits_border
            shape = (batch, height + border, width + border, packed_bytes(channels))
            listed.append(Parameter("bits", shape, "uint8", is_output=True))
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
        return word

    def reference(self, dot: Array, arrays: dict[str, Array]) -> dict[str, Array]:
        """The outputs from accumulators [N, H, W, C] and the epilogue's arguments by role."""
        value = dot.astype(np.float32) * arrays["scale"] + arrays["bias"]
        if self.residual is not None:
            value = value + self.residual.reference(arrays["residual"], dot.shape[-1])
        if self.activation == "relu":
            value = np.maximum(value, 0)
        elif self.activation == "rprelu":
            value = np.where(value > 0, value, arrays["beta"] * value) + arrays["zeta"]
        elif self.activation == "leaky":
            value = np.maximum(value, arrays["beta"] * value) + arrays["zeta"]
        if self.shortcut:
            value = value + arrays["shortcut"]
        outputs: dict[str, Array] = {}
        if self.store:
            outputs["out"] = value.astype(self.out_dtype)
        if self.bits:
            threshold = 0 if self.bits_at_zero else arrays["threshold"]
            outputs["bits"] = pack_bits(value >= threshold, self.bits_border)
        return outputs

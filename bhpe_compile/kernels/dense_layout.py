"""Float weights as the dense kernels read them, and the float reference (NumPy only).

`taps` arrays are float [Cout, taps, Cin]; the kernel layout is [ceil(Cout / V), taps * Cin, V], V lanes a
vector (`panel_lanes`), zeros in unused lanes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.kernels.kernel import Array
from bhpe_compile.kernels.window import Window
from bhpe_compile.targets.isa import VectorIsa


def panel_lanes(out_channels: int, isa: VectorIsa) -> int:
    """Lanes of a weight panel: a whole vector, or the narrower one that holds all of a few channels."""
    return min(isa.float_lanes, next(lanes for lanes in (4, 8, 1 << 30) if out_channels <= lanes))


def pack_floats(taps: Array, isa: VectorIsa, dtype: str) -> Array:
    """[Cout, taps, Cin] -> [ceil(Cout/V), taps * Cin, V]; ValueError where `dtype` overflows."""
    lanes = panel_lanes(taps.shape[0], isa)
    rows = np.asarray(taps, np.float32).reshape(taps.shape[0], -1)
    limit = np.iinfo(dtype).max if dtype == "int8" else np.finfo(dtype).max
    largest = np.abs(rows).max()
    if largest > limit:
        raise ValueError(f"a weight of {largest:g} does not fit {dtype}")
    padded = np.zeros((-(-rows.shape[0] // lanes) * lanes, rows.shape[1]), dtype)
    padded[: rows.shape[0]] = rows
    return np.ascontiguousarray(padded.reshape(-1, lanes, rows.shape[1]).transpose(0, 2, 1))


def unpack_floats(packed: Array, out_channels: int, taps: int) -> NDArray[np.float64]:
    """The inverse of `pack_floats`: float64 [Cout, taps, Cin]."""
    rows = packed.transpose(0, 2, 1).reshape(-1, packed.shape[1])[:out_channels]
    return rows.reshape(out_channels, taps, -1).astype(np.float64)


def reference_sum(x: Array, weight: Array, rows: Window, columns: Window) -> NDArray[np.float64]:
    """float64 sums: x [N, H, W, Cin], weight [Cout, taps, Cin] -> [N, rows, columns, Cout]."""
    n, height, width, _ = x.shape
    back_y = max(0, (rows.count - 1) * rows.stride + rows.reach - rows.pad - height)
    back_x = max(0, (columns.count - 1) * columns.stride + columns.reach - columns.pad - width)
    padded = np.pad(x.astype(np.float64), ((0, 0), (rows.pad, back_y), (columns.pad, back_x), (0, 0)))
    total = np.zeros((n, rows.count, columns.count, weight.shape[0]))
    for tap in range(weight.shape[1]):
        kh, kw = divmod(tap, columns.taps)
        y, column = kh * rows.dilation, kw * columns.dilation
        part = padded[:, y :: rows.stride, column :: columns.stride][:, : rows.count, : columns.count]
        total += part @ weight[:, tap].T
    return total

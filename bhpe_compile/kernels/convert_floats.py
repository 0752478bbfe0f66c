"""float32 tensor -> float16, or back: what LLVM makes a function of the C library where a CPU has no instruction.

Such a function takes and returns its halves in other registers from one toolchain to the next, so it is never called.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from bhpe_compile.kernels.epilogue import Storage
from bhpe_compile.kernels.kernel import Array, Kernel, Parameter
from bhpe_compile.kernels.tir import Share, T, function, load_floats, store_floats
from bhpe_compile.targets.isa import VectorIsa


@dataclass(frozen=True)
class ConvertFloats(Kernel):
    """x of `shape`, float32 or float16 -> out of `dtype`, rounded to nearest even."""

    parallel: ClassVar[bool] = True
    shape: tuple[int, ...]
    dtype: Storage

    def symbol(self) -> str:
        return f"convert_{'x'.join(map(str, self.shape))}_to_{self.dtype}"

    def parameters(self, isa: VectorIsa) -> tuple[Parameter, ...]:
        other = "float32" if self.dtype == "float16" else "float16"
        return Parameter("x", self.shape, other), Parameter("out", self.shape, self.dtype, is_output=True)

    def prim_func(self, isa: VectorIsa) -> Any:
        count, lanes = prod(self.shape), isa.float_lanes
        whole = count // lanes

        def body(buffers: Any, share: Share) -> None:
            def convert(first: Any, width: int) -> None:
                value = load_floats(buffers["x"], first, width, isa)
                store_floats(buffers["out"], first, width, value, isa)

            if whole:
                with share.rows(1, whole) as (_, vector):
                    convert(vector * lanes, lanes)
            if count % lanes:
                with T.If(share.is_last), T.Then():
                    for first in range(whole * lanes, count):
                        convert(first, 1)

        return function(self.symbol(), self.parameters(isa), body, parallel=self.parallel)

    def reference(self, **arrays: Array) -> dict[str, Array]:
        with np.errstate(over="ignore"):  # what is too large becomes infinity, here as there
            return {"out": arrays["x"].astype(self.dtype)}

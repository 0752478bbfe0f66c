"""Kernels alone, called from C: what a call costs without Python around it.

    with TimedKernels(kernels, get_target("native")) as library:
        call = library.prepare(kernel, arrays)
        call.run()              # outputs by role
        call.time(100)          # nanoseconds of each of 100 calls

The one place in the benchmarks that knows how a kernel is called (TVM's packed calling convention,
`int kernel(void *self, const TVMFFIAny *arguments, int32 count, TVMFFIAny *result)`).
"""

from __future__ import annotations

import _ctypes
import ctypes as c
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.artifact.link import CSRC
from bhpe_compile.artifact.toolchain import zig_cc
from bhpe_compile.kernels.kernel import Kernel
from bhpe_compile.runtime.model import aligned_copy
from bhpe_compile.targets import Target

Array = NDArray[Any]

SYMBOL = "__tvm_ffi_bhpe_"
INTEGER, TENSOR = 1, 7
"""kTVMFFIInt, kTVMFFIDLTensorPtr."""

CPU = 1
TYPES = {"i": 0, "u": 1, "f": 2, "b": 6}
"""NumPy kind -> DLPack type code."""


class _Tensor(c.Structure):
    _fields_ = (
        ("data", c.c_void_p),
        ("device_type", c.c_int32),
        ("device_id", c.c_int32),
        ("ndim", c.c_int32),
        ("type", c.c_uint8),
        ("bits", c.c_uint8),
        ("lanes", c.c_uint16),
        ("shape", c.POINTER(c.c_int64)),
        ("strides", c.POINTER(c.c_int64)),
        ("byte_offset", c.c_uint64),
    )


class _Argument(c.Structure):
    _fields_ = (("type_index", c.c_int32), ("zero_padding", c.c_uint32), ("value", c.c_int64))


def scalars(kernel: Kernel) -> tuple[int, ...]:
    """The integers a kernel takes after its tensors: a parallel one the share it does, here part 0 of 1."""
    return (0, 1) if getattr(kernel, "parallel", False) else ()


class KernelCall:
    """A kernel with its arguments, ready to be called; the arrays belong to the call."""

    def __init__(
        self,
        function: Any,
        timed_calls: Any,
        arrays: Mapping[str, Array],
        outputs: Sequence[str],
        more: Sequence[int],
    ) -> None:
        self._function, self._timed_calls = function, timed_calls
        self._arrays, self._outputs = arrays, outputs
        self._shapes = [(c.c_int64 * a.ndim)(*a.shape) for a in arrays.values()]
        strides = [[s // a.itemsize for s in a.strides] for a in arrays.values()]
        self._strides = [(c.c_int64 * len(s))(*s) for s in strides]
        self._tensors = [
            _Tensor(a.ctypes.data, CPU, 0, a.ndim, TYPES[a.dtype.kind], 8 * a.itemsize, 1, shape, stride, 0)
            for a, shape, stride in zip(arrays.values(), self._shapes, self._strides, strict=True)
        ]
        listed = [_Argument(TENSOR, 0, c.addressof(tensor)) for tensor in self._tensors]
        listed += [_Argument(INTEGER, 0, value) for value in more]
        self._arguments = (_Argument * len(listed))(*listed)

    def time(self, repeats: int) -> list[int]:
        """Nanoseconds of each of `repeats` calls."""
        nanoseconds = (c.c_int64 * repeats)()
        status = self._timed_calls(
            self._function, self._arguments, len(self._arguments), repeats, nanoseconds
        )
        if status:
            raise SystemExit(f"a kernel returned {status}")
        return list(nanoseconds)

    def run(self) -> dict[str, Array]:
        """Outputs by role, computed by one call into memory full of junk."""
        for role in self._outputs:
            self._arrays[role].view(np.uint8)[...] = 0x5A
        self.time(1)
        return {role: self._arrays[role].copy() for role in self._outputs}


class TimedKernels:
    """Kernels compiled for a target that this machine runs, in one library with the timing loop."""

    def __init__(self, kernels: Sequence[Kernel], target: Target) -> None:
        from bhpe_compile.passes.lower.tasks import generate_kernel

        self._isa = target.isa
        unlike = {kernel.symbol(): kernel for kernel in kernels}.values()
        objects = [generate_kernel(kernel, target.llvm, target.isa) for kernel in unlike]
        workspace = max(size for _, size in objects)
        files = [f"kernel{i}.o" for i in range(len(objects))]
        with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as name:
            folder = Path(name)
            for file in ("bhpe.h", "model.h"):
                (folder / file).write_bytes((CSRC / file).read_bytes())
            (folder / "loop.c").write_bytes(Path(__file__).with_suffix(".c").read_bytes())
            for file, (code, _) in zip(files, objects, strict=True):
                (folder / file).write_bytes(code)
            words = (*target.zig, "-std=c11", "-O2", "-shared", "-fPIC", f"-DWORKSPACE={max(workspace, 64)}")
            zig_cc([*words, "loop.c", *files, "-lm", "-o", "kernels.so"], folder)
            self._library = c.CDLL(str(folder / "kernels.so"))
        self._timed_calls = self._library.timed_calls
        self._timed_calls.argtypes = (c.c_void_p, c.c_void_p, c.c_int32, c.c_int32, c.c_void_p)

    def prepare(self, kernel: Kernel, arrays: Mapping[str, Array]) -> KernelCall:
        """A call of `kernel` on copies of `arrays` (all arguments but the outputs, by role)."""
        held, outputs = {}, []
        for p in kernel.parameters(self._isa):
            if p.is_output:
                outputs.append(p.role)
            given = np.zeros(p.shape, p.dtype) if p.is_output else arrays[p.role]
            if (given.shape, str(given.dtype)) != (p.shape, p.dtype):
                raise TypeError(f"{p.role} is {given.dtype}{given.shape}, expected {p.dtype}{p.shape}")
            held[p.role] = aligned_copy(given)
        function = c.cast(self._library[SYMBOL + kernel.symbol()], c.c_void_p)
        return KernelCall(function, self._timed_calls, held, outputs, scalars(kernel))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _ctypes.dlclose(self._library._handle)

"""Run kernels for another CPU under its emulator: one static executable for a list of kernels, no TVM runtime in it.

A kernel in an object is `int __tvm_ffi_NAME(void *, const TVMFFIAny *, int32_t, TVMFFIAny *)` with DLTensor
arguments; TVM's runtime entry points are weak pointer variables, left null because kernels allocate nothing.
Arguments are read from one file in calling order, outputs are written to another.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tvm

from bhpe_compile.kernels import Kernel
from bhpe_compile.kernels.kernel import Array
from bhpe_compile.passes.lower.codegen import build_object
from bhpe_compile.processes import python_command
from bhpe_compile.runtime.emulate import WASM, emulator_command
from bhpe_compile.runtime.wasi import wasi_runner
from bhpe_compile.targets import Target
from bhpe_compile.targets.isa import VectorIsa

PRELUDE = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef struct { int32_t type_index; uint32_t padding; union { int64_t i; void *p; }; } any;
typedef struct {
  void *data; struct { int32_t type, id; } device; int32_t ndim;
  struct { uint8_t code, bits; uint16_t lanes; } dtype; int64_t *shape, *strides; uint64_t offset;
} tensor;
typedef int (*kernel)(void *, const any *, int32_t, any *);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  fputs(kind, stderr);
  for (int i = 0; i < count; i++) if (parts[i]) fputs(parts[i], stderr);
  fputc('\n', stderr);
}
static FILE *in, *out;
static int call(kernel fn, int count, const int *codes, const int *bits, const int *dims, int64_t (*shapes)[8],
                const int *is_output, int parallel) {
  static tensor tensors[24]; static any args[26]; any result = {0}; size_t sizes[24];
  for (int i = 0; i < count; i++) {
    size_t size = bits[i] / 8;
    for (int d = 0; d < dims[i]; d++) size *= shapes[i][d];
    sizes[i] = size;
    memset(&tensors[i], 0, sizeof tensors[i]);
    tensors[i].data = aligned_alloc(64, (size + 127) / 64 * 64);
    tensors[i].device.type = 1; tensors[i].ndim = dims[i]; tensors[i].shape = shapes[i];
    tensors[i].dtype.code = codes[i]; tensors[i].dtype.bits = bits[i]; tensors[i].dtype.lanes = 1;
    args[i].type_index = 7; args[i].padding = 0; args[i].p = &tensors[i];
    if (is_output[i]) memset(tensors[i].data, 0x5a, size);
    else if (fread(tensors[i].data, 1, size, in) != size) return 2;
  }
  if (!parallel && fn(0, args, count, &result)) return 3;
  for (int part = 2; parallel && part >= 0; part--) { /* three parts, the last first */
    args[count] = (any){1, 0, {part}};
    args[count + 1] = (any){1, 0, {3}};
    if (fn(0, args, count + 2, &result)) return 3;
  }
  for (int i = 0; i < count; i++) {
    if (is_output[i] && fwrite(tensors[i].data, 1, sizes[i], out) != sizes[i]) return 4;
    free(tensors[i].data);
  }
  return 0;
}
"""

CODES = {"i": 0, "u": 1, "f": 2}


def skip_without_emulator(target: Target) -> None:
    """Skip, saying why, where its code cannot be linked or run."""
    if target.emulator == WASM:
        pytest.importorskip("wasmtime", reason="the package wasmtime runs WebAssembly")
    elif shutil.which(target.emulator or "") is None:
        pytest.skip(f"{target.emulator} is not installed: {target.name} kernels are compiled but not run")
    pytest.importorskip("ziglang", reason="the ziglang package links executables for other CPUs")


def run_all(
    folder: Path, cases: list[tuple[Kernel, dict[str, Array]]], target: Target
) -> list[dict[str, Array]]:
    """Outputs by role of each kernel on its arrays, run in one process."""
    isa = target.isa
    functions = {kernel.symbol(): kernel.prim_func(isa) for kernel, _ in cases}
    code, _ = build_object(functions, tvm.target.Target(dict(target.llvm)), scheduled=True)
    (folder / "kernels.o").write_bytes(code)
    (folder / "main.c").write_text(_source([kernel for kernel, _ in cases], isa))
    program = folder / "program"
    # stripped, as a driver is: zig builds a C library for each way of linking
    zig = python_command("-m", "ziglang", "cc", *target.zig_driver, "-O1", "-s")
    _check([*zig, str(folder / "main.c"), str(folder / "kernels.o"), "-lm", "-o", str(program)])
    with (folder / "in.bin").open("wb") as file:
        for kernel, arrays in cases:
            for p in kernel.parameters(isa):
                if not p.is_output:
                    assert arrays[p.role].shape == p.shape, p
                    file.write(np.ascontiguousarray(arrays[p.role], p.dtype).tobytes())
    _run(program, "in.bin", "out.bin", emulator=target.emulator or "")
    data, at, results = (folder / "out.bin").read_bytes(), 0, []
    for kernel, _ in cases:
        outputs: dict[str, Array] = {}
        for p in kernel.parameters(isa):
            if p.is_output:
                count = int(np.prod(p.shape))
                outputs[p.role] = np.frombuffer(data, p.dtype, count, at).reshape(p.shape)
                at += outputs[p.role].nbytes
        results.append(outputs)
    assert at == len(data)
    return results


def _run(program: Path, *arguments: str, emulator: str) -> None:
    """Run it in its folder."""
    if emulator == WASM:
        problem = wasi_runner()(program.parent, program.name, arguments).problem
        assert not problem, problem
        return
    command = emulator_command(emulator)
    assert command is not None
    _check([*command, str(program), *arguments], program.parent)


def _source(kernels: list[Kernel], isa: VectorIsa) -> str:
    lines = [PRELUDE]
    for symbol in dict.fromkeys(kernel.symbol() for kernel in kernels):
        lines.append(f"int __tvm_ffi_{symbol}(void *, const any *, int32_t, any *);")
    lines.append("int main(int argc, char **argv) {")
    lines.append('  in = fopen(argv[1], "rb"); out = fopen(argv[2], "wb"); int code;')
    for kernel in kernels:
        parameters = kernel.parameters(isa)
        dtypes = [np.dtype(p.dtype) for p in parameters]
        rows = {
            "codes": [CODES[d.kind] for d in dtypes],
            "bits": [8 * d.itemsize for d in dtypes],
            "dims": [len(p.shape) for p in parameters],
            "outputs": [int(p.is_output) for p in parameters],
        }
        lines.append("  {")
        for name, values in rows.items():
            lines.append(f"    static const int {name}[] = {{{', '.join(map(str, values))}}};")
        shapes = ", ".join("{" + ", ".join(map(str, p.shape)) + "}" for p in parameters)
        lines.append(f"    static int64_t shapes[][8] = {{{shapes}}};")
        tables = "codes, bits, dims, shapes, outputs"
        call = f"call(__tvm_ffi_{kernel.symbol()}, {len(parameters)}, {tables}, {int(kernel.parallel)})"
        lines.append(f"    if ((code = {call})) return code;")
        lines.append("  }")
    lines.append("  return fclose(out);\n}\n")
    return "\n".join(lines)


def _check(command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} failed: {done.stderr[-2000:]}"

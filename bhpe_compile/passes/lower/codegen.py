"""TIR kernels -> one relocatable object, without TVM's runtime.

The steps of `tvm.tirx.build`, opened up to read the workspace sizes from the lowered code and to refuse calls
into TVM's runtime by name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Op

from bhpe_compile.errors import InputError
from bhpe_compile.kernels import PASS_CONFIG
from bhpe_compile.passes.lower.memory_plan import aligned

CONFIG = {**PASS_CONFIG, "tirx.disable_assert": True}

RUNTIME = (b"TVMBackend", b"TVMFFI", b"TVMFunc")
"""How the names of the functions of TVM's runtime begin that object code may refer to."""


def build_object(
    functions: Mapping[str, tirx.PrimFunc], target: tvm.target.Target, *, scheduled: bool = False
) -> tuple[bytes, int]:
    """Object code with one symbol `__tvm_ffi_<name>` a function, and the largest workspace in bytes.

    scheduled: the functions are kernels of ours. They are written as loops over flat buffers, so that a handful of
    TVM's passes lowers them; its whole pipeline takes four times as long and leaves LLVM the same code.
    """
    library, module = build_library(functions, target, scheduled=scheduled)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.o"
        library.write_to_file(str(path))
        code = path.read_bytes()
    if not any(name in code for name in RUNTIME):  # walking all of TIR is slow, and most code needs nothing
        return code, 0
    return code, max(_workspace(v.name_hint, f) for v, f in module.functions.items())


def build_library(
    functions: Mapping[str, tirx.PrimFunc], target: tvm.target.Target, *, scheduled: bool = False
) -> tuple[Any, tvm.IRModule]:
    """TVM's module of the same, whose `inspect_source("asm")` is the assembly, and the lowered TIR."""
    pipeline, finalize_host, _ = tvm.tirx.get_tir_pipeline("default")
    if scheduled:
        t = (
            tirx.transform
        )  # without AnnotateEntryFunc, which makes a second copy of a single function, as `main`
        passes = [
            t.FlattenBuffer(),
            t.StmtSimplify(),
            t.SplitHostDevice(),
            t.MakePackedAPI(),
        ]
        pipeline = tvm.transform.Sequential(passes)
    named = {name: func.with_attr("global_symbol", name) for name, func in functions.items()}
    with target, tvm.ir.transform.PassContext(opt_level=3, config=CONFIG):
        module = pipeline(tirx.transform.BindTarget(target.with_host(target))(tvm.IRModule(named)))
        module = tirx.transform.SkipAssert()(finalize_host()(module))
        return tvm.get_global_func("target.build." + target.kind.name)(module, target), module


def _workspace(name: str, func: tirx.PrimFunc) -> int:
    """Bytes of TVMBackendAllocWorkspace in one function."""
    size = 0
    problem: str | None = None

    def visit(node: Any) -> None:  # errors must not cross the FFI: they are raised after the walk
        nonlocal size, problem
        if not (isinstance(node, Call) and isinstance(node.op, Op)):
            return
        if node.op.name.startswith(("tirx.tvm_call_packed", "tirx.tvm_call_cpacked", "tirx.tvm_call_trace")):
            problem = f"{name} calls {node.args[0]}, a function of TVM's runtime"
        if node.op.name == "tirx.TVMBackendAllocWorkspace":
            if isinstance(node.args[2], tirx.IntImm):
                size += aligned(int(node.args[2]))
            else:
                problem = f"{name} needs a workspace of dynamic size"

    tvm_ffi.structural_walk(func.body, visit)
    if problem is not None:
        raise InputError(problem)
    return size

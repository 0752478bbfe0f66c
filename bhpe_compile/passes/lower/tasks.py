"""Kernel graph -> Program: Relax import, TVM's glue pipeline, LLVM, memory plan, call table.

Runs inside a worker (see `compiler/workers.py`): arguments and results are plain data that can be pickled.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir
import tvm
from tvm import tirx

from bhpe_compile.artifact.program import Program
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.kernels.kernel import Kernel
from bhpe_compile.passes.lower.codegen import build_object
from bhpe_compile.passes.lower.emit import emit
from bhpe_compile.passes.lower.glue import heavy_glue, lower_glue
from bhpe_compile.passes.lower.graph import SYMBOL_PREFIX, is_kernel
from bhpe_compile.passes.lower.to_relax import to_relax
from bhpe_compile.passes.lower.weights import Constant, KernelCall
from bhpe_compile.targets.isa import VectorIsa

GLUE_LEVEL = 2
"""LLVM's optimisation level for the glue. Level 3 takes twice the time to save 0.25 ms of the 67 ms
that a run of the full network lasts."""


def generate_kernel(kernel: Kernel, llvm: Mapping[str, str], isa: VectorIsa) -> tuple[bytes, int]:
    """Object code of a kernel and the workspace bytes it needs."""
    functions = {SYMBOL_PREFIX + kernel.symbol(): kernel.prim_func(isa)}
    return build_object(functions, tvm.target.Target(dict(llvm)), scheduled=True)


def check_processor(llvm: Mapping[str, Any]) -> None:
    """UsageError for a processor or a feature that LLVM does not know: it would only warn, and compile for another."""
    plain = {key: value for key, value in llvm.items() if key != "mattr"}
    processors = list(_ask_llvm("get_cpu_archlist", {"kind": "llvm", "mtriple": llvm["mtriple"]}))
    if "mcpu" in llvm and llvm["mcpu"] not in processors:
        near = difflib.get_close_matches(llvm["mcpu"], processors, n=3)
        hint = f"; it knows {', '.join(near)}" if near else ""
        raise UsageError(f"LLVM knows no processor {llvm['mcpu']} for {llvm['mtriple']}{hint}")
    for word in llvm.get("mattr", ()):
        if word[1:] not in _ask_llvm("get_cpu_features", {**plain, "mattr": ["+" + word[1:]]}):
            raise UsageError(f"LLVM knows no feature {word[1:]} for {llvm['mtriple']}")


def _ask_llvm(question: str, llvm: Mapping[str, Any]) -> Any:
    return tvm.get_global_func(f"target.llvm_{question}")(tvm.target.Target(dict(llvm)))


Slow = list[tuple[str, str]]
"""(function, why it is slow)."""


def generate_glue(
    model: bytes, calls: Sequence[KernelCall], constants: Sequence[str], llvm: Mapping[str, str]
) -> tuple[Program, tuple[Constant, ...], Slow]:
    """The program of a serialised kernel graph with the object code of the glue only, where its weights belong, and
    what of the glue is slow.

    model: as `take_weights` leaves it, with the names of its `constants`.
    Raises as `check_processor`, and InputError for what TVM cannot compile.
    """
    check_processor(llvm)
    device = tvm.target.Target(dict(llvm))
    graph = ir.from_proto(onnx.load_from_string(model))
    module = to_relax(graph, calls)
    try:
        module = lower_glue(module, device)
    except Exception as error:  # of a dozen kinds, TVM's and Python's
        kinds = sorted({node.op_type for node in graph.graph if not is_kernel(node)})
        line = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:200]
        raise InputError(f"TVM cannot compile one of {', '.join(kinds)}: {line}") from None
    slow = [
        (name, f"computed slowly: {cost:,} iterations in TVM's default schedule, no kernel of its own")
        for name, cost in heavy_glue(module).items()
    ]
    functions = {
        SYMBOL_PREFIX + variable.name_hint: func
        for variable, func in module.functions.items()
        if isinstance(func, tirx.PrimFunc)
    }
    code, workspace = build_object(functions, tvm.target.Target({**llvm, "opt-level": GLUE_LEVEL}))
    names = [value.name or f"output{i}" for i, value in enumerate(graph.graph.outputs)]
    program, layout = emit(module, calls, names, SYMBOL_PREFIX, (code,), workspace, constants)
    return program, layout, slow

"""TVM's part: what is not a kernel of ours (box arithmetic, reshapes, concatenations) becomes loops.

The pipeline stops before any runtime builtin appears: `main` is then one straight block of allocations,
kernel calls in destination-passing style, reshapes, tuples and aliases, which `emit` turns into tables.

Every product is rounded by itself, as ONNX Runtime and torch round it: TVM lets LLVM make one fused multiply-add of
a product and an addition, on targets that have one, and the sum would be another number there.
"""

from __future__ import annotations

import math

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import IRModule

GLUE_LIMIT = 50_000_000
"""Innermost iterations a TVM default schedule may run; anything heavier is told as slow."""


def lower_glue(module: IRModule, target: tvm.target.Target) -> IRModule:
    """Legalize, fuse and bufferise everything around our kernels (Relax in, Relax + TIR out)."""
    t = relax.transform
    passes = [
        t.DecomposeOpsForInference(),
        t.CanonicalizeBindings(),
        relax.backend.DispatchSampling(),
        relax.backend.DispatchSortScan(),
        t.LegalizeOps(),
        t.AnnotateTIROpPattern(),
        t.FuseOps(),
        t.FuseTIR(),
        t.DeadCodeElimination(),
        t.RewriteDataflowReshape(),
        t.ToNonDataflow(),
        t.RemovePurityChecking(),
        t.CallTIRRewrite(),
        t.DeadCodeElimination(),  # drops the PrimFuncs that became reshapes
    ]
    with target:
        lowered = tvm.transform.Sequential(passes)(module)
    for variable, func in list(lowered.functions.items()):
        if isinstance(func, tirx.PrimFunc):
            lowered.update_func(variable, rounded_products(func))
    return lowered


def rounded_products(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """`func` with a fence around each float product that is not exact, so that no addition takes it in."""
    body = tvm_ffi.structural_map(func.body, (tirx.Mul, _fenced))
    return func.with_body(body)


def _fenced(product: tirx.Mul) -> tirx.Expr:
    dtype = str(product.ty)
    if not dtype.startswith("float") or any(_is_power_of_two(one) for one in (product.a, product.b)):
        return product
    return tirx.call_llvm_pure_intrin(dtype, "llvm.arithmetic.fence", product)


def _is_power_of_two(factor: tirx.Expr) -> bool:
    """Whether a product with `factor` is exact (but for underflow)."""
    return isinstance(factor, tirx.FloatImm) and math.frexp(abs(factor.value))[0] == 0.5


def iterations(func: tirx.PrimFunc) -> int:
    """Innermost loop iterations of a PrimFunc with constant extents (nests are added up)."""

    def count(stmt: object) -> int:
        if isinstance(stmt, tirx.For):
            extent = int(stmt.extent) if isinstance(stmt.extent, tirx.IntImm) else 1
            return extent * max(1, count(stmt.body))
        if isinstance(stmt, tirx.SeqStmt):
            return sum(count(s) for s in stmt.seq)
        for name in ("body", "block", "then_case"):
            child = getattr(stmt, name, None)
            if child is not None:
                return count(child)
        return 0

    return count(func.body)


def heavy_glue(module: IRModule) -> dict[str, int]:
    """The functions that TVM's default schedule computes slowly: name -> innermost iterations above `GLUE_LIMIT`."""
    costs = {
        str(variable.name_hint): iterations(func)
        for variable, func in module.functions.items()
        if isinstance(func, tirx.PrimFunc)
    }
    return {name: cost for name, cost in costs.items() if cost > GLUE_LIMIT}

"""TVM's part: what is not a kernel of ours (heat-map softmax, box arithmetic, rotations) becomes loops.

The pipeline stops before any runtime builtin appears: `main` is then one straight block of allocations,
kernel calls in destination-passing style, reshapes, tuples and aliases, which `emit` turns into tables.
"""

from __future__ import annotations

import tvm
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
        return tvm.transform.Sequential(passes)(module)


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
        variable.name_hint: iterations(func)
        for variable, func in module.functions.items()
        if isinstance(func, tirx.PrimFunc)
    }
    return {name: cost for name, cost in costs.items() if cost > GLUE_LIMIT}

"""What TVM's default schedule would cost, and how it rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from bhpe_compile.kernels.tir import T
from bhpe_compile.passes.lower.codegen import build_library
from bhpe_compile.passes.lower.glue import (
    GLUE_LIMIT,
    heavy_glue,
    iterations,
    lower_glue,
    rounded_products,
)
from bhpe_compile.targets import get_target
from bhpe_compile.targets.isa import AVX2
from tests.artifact.programs import CELLS, kernel
from tests.kernels.native import host_has


def nests(*sizes: tuple[int, ...]) -> Any:
    """One nest of loops after the other."""

    def body(b: Any) -> None:
        for extents in sizes:
            at: Any = 0
            loops = []
            for extent in extents:
                loop = T.serial(0, extent)
                index = loop.__enter__()
                loops.append(loop)
                at = at * extent + index
            T.buffer_store(b["out"], b["x"][at % 4], [at % 4])
            for loop in reversed(loops):
                loop.__exit__(None, None, None)

    return kernel("nests", {"x": 4}, "float32", body)


@pytest.mark.parametrize(
    ("sizes", "count"), [(((7,),), 7), (((3, 5, 2),), 30), (((3, 5), (4,), (2, 2)), 15 + 4 + 4)]
)
def test_nests_are_multiplied_and_added_up(sizes: tuple[tuple[int, ...], ...], count: int) -> None:
    assert iterations(nests(*sizes)) == count


def test_what_is_slow_is_told_by_name() -> None:
    right, heavy = nests((GLUE_LIMIT // 4, 4)), nests((GLUE_LIMIT // 4 + 1, 4))
    assert heavy_glue(tvm.IRModule({"right": right})) == {}
    assert heavy_glue(tvm.IRModule({"right": right, "heavy": heavy})) == {"heavy": GLUE_LIMIT + 4}


def product_and_sum(b: Any) -> None:
    """out = x * y + z"""
    with T.serial(0, CELLS) as i:
        T.buffer_store(b["out"], b["x"][i] * b["y"][i] + b["z"][i], [i])


def run_on_avx2(func: Any) -> tuple[Any, Any]:
    """What `func` makes of its inputs, and what NumPy does."""
    x, y, z = (np.random.default_rng(i).standard_normal(CELLS).astype(np.float32) for i in range(3))
    target = tvm.target.Target(dict(get_target("x86").llvm))
    arrays = [tvm.runtime.tensor(a) for a in (x, y, z, np.zeros(CELLS, np.float32))]
    tvm.compile(tvm.IRModule({"fused": func}), target=target).jit()["fused"](*arrays)
    return arrays[3].numpy(), x * y + z


@pytest.mark.skipif(not host_has(AVX2), reason="this machine has no fused multiply-add")
def test_products_are_rounded_by_themselves() -> None:
    func = kernel("fused", dict.fromkeys("xyz", CELLS), "float32", product_and_sum)
    contracted, want = run_on_avx2(func)
    assert np.any(contracted != want), "LLVM contracts no more: the fence has nothing to keep apart"
    got, want = run_on_avx2(rounded_products(func))
    np.testing.assert_array_equal(got, want)


def test_exact_products_have_no_fence() -> None:
    def body(b: Any) -> None:
        T.buffer_store(b["out"], b["x"][0] * T.float32(-0.25) + b["x"][1] * T.float32(0.3), [T.int32(2) * 3])

    text = str(rounded_products(kernel("scaled", {"x": 4}, "float32", body)))
    assert text.count("llvm.arithmetic.fence") == 1


@pytest.mark.parametrize("target", ["x86", "x86-avx512", "arm"])
def test_no_glue_multiplies_and_adds_in_one(target: str) -> None:
    builder = relax.BlockBuilder()
    x, y, z = (relax.Var(name, relax.TensorType((64,), "float32")) for name in "xyz")
    with builder.function("main", [x, y, z]):
        with builder.dataflow():
            product = builder.emit(relax.op.multiply(x, y))
            out = builder.emit_output(relax.op.add(product, z))
        builder.emit_func_output(out)
    device = tvm.target.Target(dict(get_target(target).llvm))
    module = lower_glue(builder.get(), device)
    functions = {v.name_hint: f for v, f in module.functions.items() if isinstance(f, tirx.PrimFunc)}
    code = build_library(functions, device)[0].inspect_source("asm")
    assert "mul" in code
    assert not [word for word in ("madd", "fmla", "vmla", "vfma", "fmadd") if word in code]

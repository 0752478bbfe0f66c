"""Small programs of real TVM kernels, laid out by hand.

    hidden = x @ weight            matmul, with its accumulators in a heap workspace (BackendAllocWorkspace)
    out    = exp(hidden) + bias    add_exp, a parallel loop (BackendParallelLaunch) calling libm
    sign   = hidden > 0            positive, uint8

`small_program` makes them for any target; `expected` computes the same in NumPy.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script import tirx as T

from bhpe_compile.artifact.program import Port, Program, Step, TensorSlot
from bhpe_compile.targets import Target, get_target

ROWS, DEPTH, COLUMNS = 4, 24, 40

HIDDEN, OUT, SIGN, X, WEIGHT, BIAS = range(6)


@T.prim_func(s_tir=True)
def matmul(
    x: T.Buffer((4, 24), "float32"), weight: T.Buffer((24, 40), "float32"), out: T.Buffer((4, 40), "float32")
) -> None:
    total = T.alloc_buffer((512,), "float32")
    for i in T.serial(4):
        for j in T.serial(40):
            total[j] = T.float32(0)
        for k in T.serial(24):
            for j in T.serial(40):
                total[j] = total[j] + x[i, k] * weight[k, j]
        for j in T.serial(40):
            out[i, j] = total[j]


@T.prim_func(s_tir=True)
def add_exp(
    x: T.Buffer((4, 40), "float32"), bias: T.Buffer((40,), "float32"), out: T.Buffer((4, 40), "float32")
) -> None:
    for i in T.parallel(4):
        for j in T.serial(40):
            out[i, j] = T.exp(x[i, j]) + bias[j]


@T.prim_func(s_tir=True)
def positive(x: T.Buffer((4, 40), "float32"), out: T.Buffer((4, 40), "uint8")) -> None:
    for i in T.serial(4):
        for j in T.serial(40):
            out[i, j] = T.Cast("uint8", x[i, j] > T.float32(0))


@cache
def kernel_object(target_name: str) -> bytes:
    """The three kernels as one relocatable object, without assertions."""
    data: dict[str, Any] = dict(get_target(target_name).llvm)
    target = tvm.target.Target(data)
    functions = {"matmul": matmul, "add_exp": add_exp, "positive": positive}
    named = {name: f.with_attr("global_symbol", name) for name, f in functions.items()}
    pipeline, finalize, _ = tvm.tirx.get_tir_pipeline("default")
    with target, tvm.ir.transform.PassContext(opt_level=3, config={"tirx.disable_assert": True}):
        module = pipeline(tvm.tirx.transform.BindTarget(target.with_host(target))(tvm.IRModule(named)))
        module = tvm.tirx.transform.SkipAssert()(finalize()(module))
        library = tvm.get_global_func("target.build.llvm")(module, target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.o"
        library.write_to_file(str(path))
        return path.read_bytes()


def constants(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """The weights of the program of a seed."""
    generator = np.random.default_rng(seed)
    return {
        "weight": generator.standard_normal((DEPTH, COLUMNS)).astype(np.float32) / 8,
        "bias": generator.standard_normal(COLUMNS).astype(np.float32),
    }


def some_input(seed: int = 1) -> NDArray[np.float32]:
    """An input of the program."""
    return np.random.default_rng(seed).standard_normal((ROWS, DEPTH)).astype(np.float32)


def expected(x: NDArray[np.float32], seed: int = 0) -> dict[str, NDArray[Any]]:
    """The outputs for `x`, and the hidden tensor."""
    values = constants(seed)
    hidden = x @ values["weight"]
    out = np.exp(hidden) + values["bias"]
    return {"hidden": hidden, "out": out, "sign": (hidden > 0).astype(np.uint8)}


def small_program(target: Target, seed: int = 0) -> Program:
    """The program above for `target`, with the weights of `seed`."""
    values = constants(seed)
    weight, bias = (values[name].tobytes() for name in ("weight", "bias"))
    cells = ROWS * COLUMNS
    return Program(
        tensors=(
            TensorSlot("arena", 0, 4 * cells, (ROWS, COLUMNS), "float32"),
            TensorSlot("arena", 640, 4 * cells, (ROWS, COLUMNS), "float32"),
            TensorSlot("arena", 1280, cells, (ROWS, COLUMNS), "uint8"),
            TensorSlot("arena", 1472, 4 * ROWS * DEPTH, (ROWS, DEPTH), "float32"),
            TensorSlot("weights", 0, len(weight), (DEPTH, COLUMNS), "float32"),
            TensorSlot("weights", 3840, len(bias), (COLUMNS,), "float32"),
        ),
        steps=(
            Step("matmul", "DenseLinear", "body.first", (X, WEIGHT, HIDDEN), ("x", "weight", "out")),
            Step("add_exp", "glue", "", (HIDDEN, BIAS, OUT), ("arg0", "arg1", "arg2")),
            Step("positive", "PackBits", 'odd "näme"\\ % ??=', (HIDDEN, SIGN), ("x", "bits")),
        ),
        inputs=(Port("x", X),),
        outputs=(Port("out", OUT), Port("sign", SIGN)),
        arena_bytes=1472 + 384,
        workspace_bytes=2048,
        weights=weight.ljust(3840, b"\0") + bias.ljust(192, b"\0"),
        objects=(kernel_object(target.name),),
    )

"""Small programs of real TVM kernels, laid out by hand.

    hidden = x @ weight            matmul, parallel, with its products in a heap workspace (BackendAllocWorkspace)
    out    = exp(hidden) + bias    add_exp, a parallel loop (BackendParallelLaunch) calling libm
    sign   = hidden > 0            positive, parallel, uint8

`small_program` makes them for any target; `expected` computes the same in NumPy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from bhpe_compile.artifact.program import Port, Program, Step, TensorSlot
from bhpe_compile.kernels.kernel import Parameter
from bhpe_compile.kernels.tir import Buffers, Share, T, function
from bhpe_compile.targets import Target, get_target

ROWS, DEPTH, COLUMNS = 4, 24, 40
CELLS = ROWS * COLUMNS

HIDDEN, OUT, SIGN, X, WEIGHT, BIAS = range(6)


def kernel(
    name: str, inputs: dict[str, int], output: str, body: Callable[..., None], parallel: bool = False
) -> Any:
    """A PrimFunc over flat float32 inputs of these sizes and `out` of ROWS * COLUMNS elements of type `output`."""
    parameters = [Parameter(role, (size,), "float32") for role, size in inputs.items()]
    parameters.append(Parameter("out", (CELLS,), output, is_output=True))
    return function(name, parameters, body, parallel=parallel)


def matmul(b: Buffers, share: Share) -> None:
    """All products of a row first: more bytes than TVM puts on the stack."""
    products = T.alloc_buffer((DEPTH * COLUMNS,), "float32")
    with share.loop(ROWS) as i:
        with T.serial(0, DEPTH) as k, T.serial(0, COLUMNS) as j:
            at = k * COLUMNS + j
            T.buffer_store(products, b["x"][i * DEPTH + k] * b["weight"][at], [at])
        with T.serial(0, COLUMNS) as j:
            T.buffer_store(b["out"], T.float32(0), [i * COLUMNS + j])
        with T.serial(0, DEPTH) as k, T.serial(0, COLUMNS) as j:
            at = i * COLUMNS + j
            T.buffer_store(b["out"], b["out"][at] + products[k * COLUMNS + j], [at])


def add_exp(b: Buffers) -> None:
    with T.parallel(0, ROWS) as i, T.serial(0, COLUMNS) as j:
        T.buffer_store(b["out"], T.exp(b["x"][i * COLUMNS + j]) + b["bias"][j], [i * COLUMNS + j])


def positive(b: Buffers, share: Share) -> None:
    with share.loop(CELLS) as i:
        T.buffer_store(b["out"], T.Cast("uint8", b["x"][i] > T.float32(0)), [i])


@cache
def kernel_object(target_name: str) -> bytes:
    """The three kernels as one relocatable object, without assertions."""
    data: dict[str, Any] = dict(get_target(target_name).llvm)
    target = tvm.target.Target(data)
    named = {
        "matmul": kernel("matmul", {"x": ROWS * DEPTH, "weight": DEPTH * COLUMNS}, "float32", matmul, True),
        "add_exp": kernel("add_exp", {"x": CELLS, "bias": COLUMNS}, "float32", add_exp),
        "positive": kernel("positive", {"x": CELLS}, "uint8", positive, True),
    }
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
        "weight": generator.standard_normal((DEPTH, COLUMNS)).astype(np.float32) / np.float32(8),
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
    return Program(
        tensors=(
            TensorSlot("arena", 0, 4 * CELLS, (ROWS, COLUMNS), "float32"),
            TensorSlot("arena", 640, 4 * CELLS, (ROWS, COLUMNS), "float32"),
            TensorSlot("arena", 1280, CELLS, (ROWS, COLUMNS), "uint8"),
            TensorSlot("arena", 1472, 4 * ROWS * DEPTH, (ROWS, DEPTH), "float32"),
            TensorSlot("weights", 0, len(weight), (DEPTH, COLUMNS), "float32"),
            TensorSlot("weights", 3840, len(bias), (COLUMNS,), "float32"),
        ),
        steps=(
            Step("matmul", "DenseLinear", "body.first", (X, WEIGHT, HIDDEN), ("x", "weight", "out"), True),
            Step("add_exp", "glue", "", (HIDDEN, BIAS, OUT), ("arg0", "arg1", "arg2")),
            Step("positive", "PackBits", 'odd "näme"\\ % ??=', (HIDDEN, SIGN), ("x", "bits"), True),
        ),
        inputs=(Port("x", X),),
        outputs=(Port("out", OUT), Port("sign", SIGN)),
        arena_bytes=1472 + 384,
        workspace_bytes=4 * DEPTH * COLUMNS,
        weights=weight.ljust(3840, b"\0") + bias.ljust(192, b"\0"),
        objects=(kernel_object(target.name),),
    )

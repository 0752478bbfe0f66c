"""Object code: its symbols, the workspace it needs, and what would need TVM's runtime."""

from __future__ import annotations

from typing import Any

import pytest
import tvm

from bhpe_compile.errors import InputError
from bhpe_compile.kernels.tir import T
from bhpe_compile.passes.lower.codegen import build_library, build_object
from bhpe_compile.targets import get_target
from tests.artifact.programs import COLUMNS, DEPTH, ROWS, kernel, matmul, positive

TARGET = tvm.target.Target(dict(get_target("x86").llvm))
CELLS = ROWS * COLUMNS


def product() -> Any:
    """Keeps its products on the heap."""
    return kernel("matmul", {"x": ROWS * DEPTH, "weight": DEPTH * COLUMNS}, "float32", matmul, True)


def plain() -> Any:
    return kernel("positive", {"x": CELLS}, "uint8", positive, True)


@pytest.mark.parametrize("scheduled", [False, True])
def test_workspace_is_that_of_the_function_that_needs_most(scheduled: bool) -> None:
    """DEPTH * COLUMNS float32, in whole units of alignment."""
    code, workspace = build_object({"one": product(), "two": plain()}, TARGET, scheduled=scheduled)
    assert workspace == 4 * DEPTH * COLUMNS
    assert workspace % 64 == 0
    for name in (b"__tvm_ffi_one", b"__tvm_ffi_two"):
        assert name in code
    assert build_object({"two": plain()}, TARGET, scheduled=scheduled)[1] == 0


def test_two_buffers_of_odd_sizes_lie_one_behind_the_other() -> None:
    """Each in whole units of alignment."""

    def body(b: Any) -> None:
        first, second = T.alloc_buffer((501,), "float32"), T.alloc_buffer((701,), "float32")
        with T.serial(0, 501) as i:
            T.buffer_store(first, b["x"][i % CELLS], [i])
        with T.serial(0, 701) as i:
            T.buffer_store(second, first[i % 501], [i])
        with T.serial(0, CELLS) as i:
            T.buffer_store(b["out"], second[i] + first[i], [i])

    _, workspace = build_object({"one": kernel("two", {"x": CELLS}, "float32", body)}, TARGET)
    assert workspace == 2048 + 2816


def test_calls_into_the_runtime_are_refused_by_name() -> None:
    def body(b: Any) -> None:
        T.evaluate(T.call_packed("some.function", b["x"][0]))
        T.buffer_store(b["out"], b["x"][0], [0])

    with pytest.raises(InputError, match=r'^one calls "some\.function", a function of TVM\'s runtime$'):
        build_object({"one": kernel("calls", {"x": 4}, "float32", body)}, TARGET)


def test_a_workspace_of_dynamic_size_is_refused() -> None:
    def body(b: Any) -> None:
        with T.serial(0, 4) as i:
            several = T.alloc_buffer((600 + 100 * i,), "float32")
            with T.serial(0, 600 + 100 * i) as j:
                T.buffer_store(several, b["x"][j % CELLS], [j])
            T.buffer_store(b["out"], several[599], [i])

    with pytest.raises(InputError, match=r"^one needs a workspace of dynamic size$"):
        build_object({"one": kernel("several", {"x": CELLS}, "float32", body)}, TARGET, scheduled=True)


def test_the_assembly_can_be_read() -> None:
    library, module = build_library({"one": plain()}, TARGET, scheduled=True)
    assert "__tvm_ffi_one" in library.inspect_source("asm")
    assert [variable.name_hint for variable in module.functions] == ["one"]

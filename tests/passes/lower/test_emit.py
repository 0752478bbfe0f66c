"""The call table: which recorded kernel each call is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bhpe_compile.artifact.program import Step
from bhpe_compile.errors import BhpeError
from bhpe_compile.passes.lower.emit import KernelCall, _steps


def walked(*calls: tuple[str, list[int]]) -> Any:
    return SimpleNamespace(calls=list(calls))


ONE = KernelCall("pool", "MaxPool2d", "a", ("x", "out"), True)
TWO = KernelCall("pool", "MaxPool2d", "b", ("x", "out"), True)
CONV = KernelCall("conv", "DenseConv2d", "c", ("x", "weight", "out"))


def test_calls_of_one_symbol_are_taken_in_order() -> None:
    """What was not recorded is glue; tensors get their new numbers."""
    walk = walked(("pool", [4, 5]), ("fused_add", [5, 6]), ("conv", [6, 1, 4]), ("pool", [4, 6]))
    steps = _steps(walk, [ONE, CONV, TWO], "bhpe_", {1: 0, 4: 1, 5: 2, 6: 3})
    assert steps == [
        Step("bhpe_pool", "MaxPool2d", "a", (1, 2), ("x", "out"), True),
        Step("bhpe_fused_add", "glue", "", (2, 3), ("arg0", "arg1")),
        Step("bhpe_conv", "DenseConv2d", "c", (3, 0, 1), ("x", "weight", "out")),
        Step("bhpe_pool", "MaxPool2d", "b", (1, 3), ("x", "out"), True),
    ]


def test_a_call_too_many_and_a_call_that_is_lost() -> None:
    walk = walked(("pool", [0, 0]), ("pool", [0, 0]))
    with pytest.raises(BhpeError, match=r"^internal: kernel pool is called more often than recorded$"):
        _steps(walk, [ONE], "", {0: 0})
    with pytest.raises(
        BhpeError, match=r"^internal: recorded calls of conv, pool are missing after lowering$"
    ):
        _steps(walked(("pool", [0, 0])), [ONE, TWO, CONV], "", {0: 0})

"""What TVM's default schedule would cost."""

from __future__ import annotations

from typing import Any

import pytest
import tvm

from bhpe_compile.kernels.tir import T
from bhpe_compile.passes.lower.glue import GLUE_LIMIT, heavy_glue, iterations
from tests.artifact.programs import kernel


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

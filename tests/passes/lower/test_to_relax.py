"""The import into Relax: one call for each kernel node, in order, and constants that fit what the kernel wants."""

from __future__ import annotations

import numpy as np
import pytest

from bhpe_compile.errors import BhpeError
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.to_relax import _pack, to_relax
from bhpe_compile.targets.isa import AVX512
from tests.passes.lower.graphs import Builder, run, small_network


def test_calls_are_those_of_the_graph_in_order() -> None:
    model = run(small_network(), *lower_passes())
    expected = [
        (describe(n).symbol(), n.op_type, g.text(n, "layer"), describe(n).parallel)
        for n in model.graph
        if g.is_kernel(n)
    ]
    roles = [tuple(p.role for p in describe(n).parameters(AVX512)) for n in model.graph if g.is_kernel(n)]
    module, calls = to_relax(model, AVX512)
    assert [(one.symbol, one.kind, one.layer, one.parallel) for one in calls] == expected
    assert [one.roles for one in calls] == roles
    text = module["main"].script()
    assert all(one.symbol in text for one in calls)


def test_weights_that_are_no_float16_are_a_defect_of_ours() -> None:
    b = Builder()
    model = run(b.build(b.dense_conv(b.input("image", (1, 8, 4, 4)), "layer.name", 8, 8)), *lower_passes())
    node = next(n for n in model.graph if g.is_kernel(n, "DenseConv2d"))
    weight = np.full((8, 8, 1, 1), 0.1, np.float32)
    reason = "internal: layer.name: weights changed after they were rounded to float16"
    with pytest.raises(BhpeError, match=rf"^{reason}$"):
        _pack(describe(node), AVX512, {"weight": weight}, node)
    packed = _pack(describe(node), AVX512, {"weight": weight.astype(np.float16).astype(np.float32)}, node)
    assert packed["weight"].dtype == np.float16

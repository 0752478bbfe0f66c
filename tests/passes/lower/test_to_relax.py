"""The import into Relax: one call for each kernel node, in order, and constants that fit what the kernel wants."""

from __future__ import annotations

from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.to_relax import to_relax
from bhpe_compile.passes.lower.weights import take_weights
from bhpe_compile.targets.isa import AVX512
from tests.passes.lower.graphs import run, small_network


def test_calls_are_those_of_the_graph_in_order() -> None:
    model = run(small_network(), *lower_passes())
    expected = [
        (describe(n).symbol(), n.op_type, g.text(n, "layer"), describe(n).parallel)
        for n in model.graph
        if g.is_kernel(n)
    ]
    roles = [tuple(p.role for p in describe(n).parameters(AVX512)) for n in model.graph if g.is_kernel(n)]
    bare = take_weights(model, AVX512)
    calls = bare.calls
    module = to_relax(bare.model, calls)
    assert [(one.symbol, one.kind, one.layer, one.parallel) for one in calls] == expected
    assert [one.roles for one in calls] == roles
    text = module["main"].script()
    assert all(one.symbol in text for one in calls)

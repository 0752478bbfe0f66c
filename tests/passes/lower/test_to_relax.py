"""The import into Relax: one call for each kernel node, in order, and constants that fit what the kernel wants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from bhpe_compile.errors import InputError
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.passes.lower.to_relax import to_relax
from bhpe_compile.passes.lower.weights import take_weights
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
    bare = take_weights(model, AVX512)
    calls = bare.calls
    module = to_relax(bare.model, calls)
    assert [(one.symbol, one.kind, one.layer, one.parallel) for one in calls] == expected
    assert [one.roles for one in calls] == roles
    text = module["main"].script()
    assert all(one.symbol in text for one in calls)


def glue(**facts: object) -> ir.Model:
    """Operators without kernels: a mean over rows, and the largest value of each."""
    b = Builder()
    y = b.add("ReduceMean", [b.input("image", (1, 4, 6)), b.constant("axes", np.array([1]))], "mean", **facts)
    return b.build(b.add("ReduceMax", [y, b.constant("last", np.array([-1]))], "most"))


def test_the_words_onnx_and_nothing_are_the_standard() -> None:
    model = glue()
    for domain in ("", "ai.onnx"):
        for node in model.graph:
            node.domain = domain
        assert "mean" in to_relax(model, ()).script()


@pytest.mark.parametrize(("domain", "where"), [("mine", " of mine"), ("bhpe", " of bhpe"), ("", "")])
def test_operators_without_a_kernel_are_refused_by_name(domain: str, where: str) -> None:
    """One of somebody's; one of ours that no pass took; one of ONNX that TVM does not know."""
    model = glue()
    node = next(iter(model.graph))
    node.domain, node.op_type = domain, "Unheard"
    with pytest.raises(
        InputError, match=rf"^node Unheard \(mean\): there is no kernel for this operator{where}$"
    ):
        to_relax(model, ())


def test_what_the_importer_does_not_take_is_told_by_the_node() -> None:
    model = glue()
    node = next(iter(model.graph))
    node.op_type = "Attention"
    with pytest.raises(InputError, match=r"^node Attention \(mean\): TVM's importer does not take it: \S"):
        to_relax(model, ())


def test_what_the_importer_says_of_a_graph_is_passed_on() -> None:
    """An input that nobody makes: no node's converter is at fault."""
    model = glue()
    value = g.new_value("nowhere", (1, 4, 6))
    next(iter(model.graph)).replace_input_with(0, value)
    with pytest.raises(InputError, match=r"^TVM's importer does not take the graph: .*nowhere"):
        to_relax(model, ())


def test_a_kernel_with_several_results_is_one_call() -> None:
    model = run(small_network(), *lower_passes())
    bare = take_weights(model, AVX512)
    (several,) = {len(one.outputs) for one in bare.calls} - {1}
    assert several == 2
    script = to_relax(bare.model, bare.calls)["main"].script()
    assert script.count("call_dps_packed") == len(bare.calls)

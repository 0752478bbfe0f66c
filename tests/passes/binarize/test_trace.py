"""Tracing: the same network, as a graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bhpe_compile.errors import InputError
from bhpe_compile.passes.binarize import BinarizeOptions, binarize, trace
from bhpe_compile.passes.binarize.roles import ROLES
from tests.passes.binarize.nets import Whole, picture, randomise


@pytest.mark.parametrize("training", [False, True])
def test_same_names_mode_and_values_at_any_batch(training: bool) -> None:
    model = randomise(Whole()).train(training)
    graph = trace(model)
    assert graph.training == training
    assert graph.state_dict().keys() == model.state_dict().keys()
    for batch in (2, 3):
        x = picture(batch=batch)
        expected, got = model(x), graph(x)
        assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_binary_layers_stay_one_node() -> None:
    graph, _ = binarize(Whole(), BinarizeOptions())
    again = trace(graph)
    assert [node.target for node in again.graph.nodes] == [node.target for node in graph.graph.nodes]


def test_roles_are_the_callers_or_else_the_models() -> None:
    model = Whole()
    layer = "backbone.layer1.0.conv1"
    assert trace(model).meta[ROLES][layer] == "core"
    assert trace(model, roles=((layer, "head"),)).meta[ROLES][layer] == "head"
    model.roles = ((layer, "shortcut"),)
    graph = trace(model)
    assert graph.meta[ROLES][layer] == "shortcut"
    assert trace(graph, roles=((layer, "head"),)).meta[ROLES][layer] == "shortcut"  # traced before


def test_a_forward_that_depends_on_values_is_refused() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match="Branch cannot be traced"):
        trace(Branch())

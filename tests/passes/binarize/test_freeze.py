"""Freezing: constants as the artefact stores them, on a copy."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bhpe_compile.errors import InputError
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.passes.binarize import BinarizeOptions, binarize, freeze, trace
from tests.passes.binarize.nets import Whole, picture, randomise


def test_float_weights_become_float16_values_and_nothing_else_changes() -> None:
    graph, _ = binarize(randomise(Whole()), BinarizeOptions())
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    frozen = freeze(graph)
    rounded = 0
    for name, value in frozen.state_dict().items():
        path, _, what = name.rpartition(".")
        layer = frozen.get_submodule(path)
        if what == "weight" and isinstance(layer, nn.Conv2d | nn.Linear):
            assert torch.equal(value, before[name].half().float()), name
            rounded += 1
        else:
            assert torch.equal(value, before[name]), name
    assert rounded == 9  # 2 stems, 3 shortcuts, 4 heads
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())


def test_scales_are_constant_and_outputs_those_of_the_rounded_network() -> None:
    graph, _ = binarize(randomise(Whole()), BinarizeOptions())
    frozen = freeze(graph)
    layers = [layer for layer in frozen.modules() if isinstance(layer, BinaryLayer)]
    assert layers
    assert all(layer.frozen_scale is not None for layer in layers)
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    graph.load_state_dict(frozen.state_dict())
    x = picture()
    expected, got = graph.eval()(x), frozen(x)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_twice_is_once() -> None:
    frozen = freeze(binarize(randomise(Whole()), BinarizeOptions())[0])
    again = freeze(frozen)
    x = picture()
    first, second = frozen(x), again(x)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("value", [7e4, -7e4, float("inf"), float("nan")])
def test_a_weight_beyond_float16_is_refused_by_name(value: float) -> None:
    model = Whole()
    with torch.no_grad():
        model.get_parameter("body_rotation_net.body_conv.0.weight")[0] = value
    with pytest.raises(InputError, match=r"body_rotation_net\.body_conv\.0\.weight: .* does not fit float16"):
        freeze(trace(model))


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**-60, 1.0])
def test_tiny_weights_keep_their_precision(scale: float) -> None:
    """float16 has no more than a few bits for them; times a power of two they are float16 numbers."""
    graph = trace(nn.Sequential(nn.Conv2d(3, 4, 3)).eval())
    weight = graph.get_submodule("0").weight
    assert isinstance(weight, torch.Tensor)
    before = weight.detach() * scale
    with torch.no_grad():
        weight.copy_(before)
    after = freeze(graph).get_submodule("0").weight
    assert isinstance(after, torch.Tensor)
    torch.testing.assert_close(after, before, rtol=2.0**-10, atol=scale * 2.0**-13)
    assert not torch.equal(after, before)

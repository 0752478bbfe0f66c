"""What is rounded in torch: levels against their definition in NumPy, gradients as of the identity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bhpe_compile.networks.layers.rounding import (
    Half,
    RoundedConv2d,
    RoundedConvTranspose2d,
    RoundedInput,
    RoundedLinear,
    round_input,
    round_weight,
    rounded_form,
)

LAYERS = {
    RoundedConv2d: nn.Conv2d(4, 6, 3, 2, 1),
    RoundedConvTranspose2d: nn.ConvTranspose2d(4, 6, 4, 2, 1),
    RoundedLinear: nn.Linear(4, 6),
}


@given(
    low=st.floats(-50, -0.01) | st.just(0.0), high=st.floats(0.01, 50) | st.just(0.0), seed=st.integers(0, 99)
)
def test_inputs_lie_on_the_levels_of_their_range(low: float, high: float, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-60, 60, 500).astype(np.float32)
    got = round_input(torch.from_numpy(x), torch.tensor(low), torch.tensor(high)).numpy()
    step = np.float32((np.float64(np.float32(high)) - np.float32(low)) / 255) or np.float32(1)
    zero = np.clip(np.rint(np.float32(-np.float64(np.float32(low)) / step)), 0, 255)
    expected = (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step
    np.testing.assert_array_equal(got, expected.astype(np.float32))


@given(outputs=st.integers(1, 5), axis=st.sampled_from([0, 1]), seed=st.integers(0, 99))
def test_weights_lie_on_255_levels_of_their_channel(outputs: int, axis: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = (outputs, 3, 2, 2) if axis == 0 else (3, outputs, 2, 2)
    weight = generator.standard_normal(shape).astype(np.float32)
    weight[(slice(None),) * axis + (0,)] = 0  # a dead channel stays one
    got = np.moveaxis(round_weight(torch.from_numpy(weight), axis).numpy(), axis, 0)
    assert not got[0].any()
    for channel, original in zip(got[1:], np.moveaxis(weight, axis, 0)[1:], strict=True):
        step = np.float32(np.abs(original).max().astype(np.float64) / 127)
        levels = channel / step
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)  # of up to 127, in float32
        assert np.abs(levels).max() == pytest.approx(127)
        assert np.abs(channel - original).max() <= step / 2 * (1 + 1e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_rounded_layer_shares_everything(kind: type[nn.Module]) -> None:
    layer = LAYERS[kind]
    rounded = rounded_form(layer)  # type: ignore[arg-type]
    assert type(rounded) is kind
    assert rounded.weight is layer.weight
    assert rounded.state_dict().keys() == layer.state_dict().keys()
    shape = (2, 4) if kind is RoundedLinear else (2, 4, 6, 5)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    exact, found = layer(x), rounded(x)
    assert not torch.equal(found, exact)
    # at most 36 products, of inputs to half of a step of 6 / 255 and of weights to half of 1 / 127 of the largest
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0)


def test_the_range_is_the_batchs_until_it_is_known() -> None:
    layer = rounded_form(LAYERS[RoundedConv2d])  # type: ignore[arg-type]
    assert isinstance(layer, RoundedInput)
    x = torch.linspace(-1, 3, 4 * 36).view(1, 4, 6, 6)
    by_batch = layer.eval().round(x)
    torch.testing.assert_close(by_batch, round_input(x, torch.tensor(-1.0), torch.tensor(3.0)))
    assert layer.round(x * 0 + 2).max() == pytest.approx(2)  # 0 is in every range
    assert layer.round(x * 0 + 0.1).min() == pytest.approx(0.1)
    layer.span = (-0.5, 1.0)
    known = layer.round(x)
    assert known.min() == pytest.approx(-0.5, abs=1.5 / 255)
    assert known.max() == pytest.approx(1.0, abs=1.5 / 255)
    assert torch.equal(layer.train().round(x), by_batch)
    layer.eval().span = (0.0, 0.0)
    assert layer.round(x) is x


def test_half() -> None:
    x = torch.tensor([1.0, 1 + 2**-12, -(2.0**-30), 70000.0 / 2])
    assert torch.equal(Half()(x), x.half().float())
    bfloat = x.bfloat16()
    assert Half()(bfloat) is bfloat


def test_gradients_are_those_of_the_identity() -> None:
    x = torch.tensor([0.1, 0.7, -0.3], requires_grad=True)
    wanted = torch.tensor([1.0, -2.0, 3.0])
    (Half()(x) * wanted).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, wanted)
    x.grad = None
    (round_input(x, torch.tensor(-0.2), torch.tensor(1.0)) * wanted).sum().backward()
    assert torch.equal(x.grad, wanted)
    weight = torch.randn(3, 2, requires_grad=True)
    round_weight(weight, 0).sum().backward()
    assert torch.equal(weight.grad, torch.ones(3, 2))

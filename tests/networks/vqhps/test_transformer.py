"""The transformer of VQ-HPS against torch's own layers, and its head for one picture."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bhpe_compile.networks.vqhps.transformer import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    OwnAttention,
    position_code,
)
from tests.networks.small import noise, scattered

WIDTH, HEADS, FEEDFORWARD = 128, 2, 96

TOLERANCE = 1e-5
"""float32 sums of up to 128 products in another order, values of a few units."""


def drawn(module: nn.Module) -> nn.Module:
    """`module` with every parameter drawn, norms included."""
    scattered(module)
    with torch.no_grad():
        for index, (name, parameter) in enumerate(module.named_parameters()):
            if "norm" in name:
                parameter.copy_(noise(*parameter.shape, seed=index) * 0.5)
    return module


def test_attention_is_torchs() -> None:
    ours = drawn(Attention(WIDTH, HEADS))
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    theirs.load_state_dict(ours.state_dict())
    query, key, value = noise(2, 7, WIDTH), noise(2, 9, WIDTH, seed=2), noise(2, 9, WIDTH, seed=3)
    with torch.no_grad():
        got, want = ours(query, key, value), theirs(query, key, value)[0]
    torch.testing.assert_close(got, want, atol=TOLERANCE, rtol=0)


def test_its_state_is_torchs() -> None:
    """Projections stand one above the other in the state, query first, and come back from there."""
    ours, again = drawn(Attention(WIDTH, HEADS)), Attention(WIDTH, HEADS)
    state = ours.state_dict()
    theirs = nn.MultiheadAttention(WIDTH, HEADS).state_dict()
    assert {name: value.shape for name, value in state.items()} == {n: v.shape for n, v in theirs.items()}
    assert torch.equal(state["in_proj_weight"][:WIDTH], ours.query.weight)
    assert torch.equal(state["in_proj_bias"][2 * WIDTH :], ours.value.bias)
    again.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True))


@pytest.mark.parametrize(
    ("build", "reference"),
    [(EncoderLayer, nn.TransformerEncoderLayer), (DecoderLayer, nn.TransformerDecoderLayer)],
)
def test_layers_are_torchs_with_the_norm_first(
    build: Callable[..., nn.Module], reference: Callable[..., nn.Module]
) -> None:
    ours = drawn(build(WIDTH, HEADS, FEEDFORWARD))
    theirs = reference(WIDTH, HEADS, FEEDFORWARD, batch_first=True, norm_first=True).eval()
    theirs.load_state_dict(ours.state_dict())
    x, memory, nowhere = noise(2, 7, WIDTH), noise(2, 9, WIDTH, seed=2), torch.zeros(1, 1, WIDTH)
    with torch.no_grad():
        got = ours(x, nowhere) if build is EncoderLayer else ours(x, memory, nowhere)
        want = theirs(x) if build is EncoderLayer else theirs(x, memory)
    torch.testing.assert_close(got, want, atol=TOLERANCE, rtol=0)


def test_the_position_is_on_queries_and_keys_of_the_encoder_and_never_on_values() -> None:
    model = drawn(EncoderLayer(WIDTH, HEADS, FEEDFORWARD))
    x, position = noise(1, 6, WIDTH), noise(1, 6, WIDTH, seed=2)
    seen: list[tuple[Tensor, ...]] = []
    model.self_attn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    with torch.no_grad():
        model(x, position)
        y = model.norm1(x)
    assert all(torch.equal(a, b) for a, b in zip(seen[0], (y + position, y + position, y), strict=True))


def test_the_position_is_on_the_keys_alone_of_the_decoder() -> None:
    model = drawn(DecoderLayer(WIDTH, HEADS, FEEDFORWARD))
    x, memory, position = noise(1, 5, WIDTH), noise(1, 6, WIDTH, seed=2), noise(1, 6, WIDTH, seed=3)
    seen: list[tuple[Tensor, ...]] = []
    model.multihead_attn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    with torch.no_grad():
        model(x, memory, position)
        y = model.norm1(x)
        query = model.norm2(x + model.self_attn(y, y, y))
    assert all(torch.equal(a, b) for a, b in zip(seen[0], (query, memory + position, memory), strict=True))


def released(model: OwnAttention, x: Tensor, heads: int) -> Tensor:
    """The head's attention as released: x [tokens, pictures, C], causal along the pictures."""
    tokens, pictures, width = x.shape

    def split(layer: nn.Linear) -> Tensor:
        return layer(x).view(tokens, pictures, heads, width // heads).transpose(1, 2)

    scores = split(model.query) @ split(model.key).mT / math.sqrt(width // heads)
    scores = scores.masked_fill(model.mask[:, :, :pictures, :pictures] == 0, -math.inf)
    mixed = functional.softmax(scores, 3) @ split(model.value)
    return model.proj(mixed.transpose(1, 2).reshape(x.shape))


def test_attention_among_one_picture_is_proj_of_value() -> None:
    """softmax of one element is exactly 1; the linear layers run on another shape, hence the tolerance."""
    model = scattered(OwnAttention(WIDTH, HEADS, 54))
    x = noise(54, 1, WIDTH)
    with torch.no_grad():
        want = released(model, x, HEADS)
        got = model(x.transpose(0, 1)).transpose(0, 1)
        folded = model.proj(model.value(x))
    torch.testing.assert_close(got, want, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(folded, want, atol=TOLERANCE, rtol=0)


def test_the_released_head_mixes_the_pictures_of_a_batch() -> None:
    """The first of two pictures keeps its result, the second does not: why the form for one picture stands here."""
    model = scattered(OwnAttention(WIDTH, HEADS, 54))
    x = noise(54, 2, WIDTH)
    with torch.no_grad():
        mixed, alone = released(model, x, HEADS), model(x)
    torch.testing.assert_close(mixed[:, 0], alone[:, 0], atol=TOLERANCE, rtol=0)
    assert (mixed[:, 1] - alone[:, 1]).abs().max() > 0.1


def test_position_code() -> None:
    """The formula in float64; angles up to 2 pi in float32 are off by 5e-7, their sines by no more."""
    rows, columns = 7, 5
    got = position_code(torch.zeros(1, rows * columns, 512), rows, columns)[0].numpy()
    want = np.zeros((rows, columns, 512))
    for channel in range(256):
        turn = 10000 ** (2 * (channel // 2) / 256)
        function = np.sin if channel % 2 == 0 else np.cos
        want[:, :, channel] = function(np.arange(1, 8) / (7 + 1e-6) * 2 * np.pi / turn)[:, None]
        want[:, :, 256 + channel] = function(np.arange(1, 6) / (5 + 1e-6) * 2 * np.pi / turn)[None]
    np.testing.assert_allclose(got, want.reshape(35, 512), atol=2e-6)

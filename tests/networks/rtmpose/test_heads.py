"""The heads' own arithmetic against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bhpe_compile.networks.rtmpose.heads import GatedAttention, PoseHead, ScaleNorm, WholeBodyHead
from tests.networks.small import noise, scattered


def scale_norm(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """x / max(|x| / sqrt(d), 1e-5) * g over the last axis."""
    norm = np.sqrt((x * x).sum(-1, keepdims=True)) / np.sqrt(x.shape[-1])
    return x / np.maximum(norm, 1e-5) * g


@pytest.mark.parametrize("size", [1.0, 1e-7, 0.0])
def test_scale_norm(size: float) -> None:
    """A token shorter than 1e-5 a value is divided by that; float32: 1e-6."""
    model = ScaleNorm(48)
    with torch.no_grad():
        model.g.fill_(1.7)
        x = noise(2, 3, 48) * size
        got = model(x).numpy()
    np.testing.assert_allclose(got, scale_norm(x.double().numpy(), np.array([1.7])), atol=1e-6)


def test_gated_attention() -> None:
    """The formula of the specification; float32 sums of up to 512 products in four layers: 1e-4 of values near 3."""
    model = scattered(GatedAttention())
    with torch.no_grad():
        for index, parameter in enumerate((model.gamma, model.beta, model.res_scale.scale, model.ln.g)):
            parameter.copy_(noise(*parameter.shape, seed=index + 3))
        x = noise(2, 17, 256)
        got = model(x).numpy()
    state = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    tokens = x.double().numpy()
    linear = scale_norm(tokens, state["ln.g"]) @ state["uv.weight"].T
    u, v, base = np.split(linear / (1 + np.exp(-linear)), (512, 1024), 2)
    q, k = (base * state["gamma"][row] + state["beta"][row] for row in (0, 1))
    a = np.maximum(q @ k.swapaxes(1, 2) / np.sqrt(128), 0) ** 2
    want = tokens * state["res_scale.scale"] + (u * (a @ v)) @ state["o.weight"].T
    assert (
        np.abs(want - tokens * state["res_scale.scale"]).max() > 0.1
    )  # the attention is not lost in the sum
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_keys() -> None:
    with torch.device("meta"):
        assert len(PoseHead(768, 133, (256, 192), (8, 6)).state_dict()) == 12
        state = WholeBodyHead(768, 133, (256, 192), (8, 6)).state_dict()
    assert len(state) == 30
    assert tuple(state["conv_dec.conv.weight"].shape) == (192, 192, 7, 7)
    assert tuple(state["final_layer2.conv.weight"].shape) == (133, 576, 7, 7)
    assert tuple(state["mlp2.1.weight"].shape) == (128, 192)


def test_a_points_map_becomes_its_token() -> None:
    """Rows of a map one behind the other; what follows is the classifier's."""
    model = scattered(PoseHead(8, 5, (128, 64), (4, 2)))
    coarse = noise(1, 8, 4, 2)
    with torch.no_grad():
        maps = model.final_layer(coarse)
        want = model.classify(model.mlp(maps.reshape(1, 5, 8)))
        got = model(coarse)
    assert {name: tuple(x.shape) for name, x in got.items()} == {
        "simcc_x": (1, 5, 128),
        "simcc_y": (1, 5, 256),
    }
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_whole_body_tokens_take_half_from_each_map() -> None:
    """The coarse map's half does not see the fine map, the other half sees both."""
    model = scattered(WholeBodyHead(8, 5, (128, 64), (4, 2)))
    seen: list[torch.Tensor] = []
    model.gau.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    fine, coarse = noise(1, 4, 8, 4), noise(1, 8, 4, 2, seed=2)
    with torch.no_grad():
        model(fine, coarse)
        model(fine + 1, coarse)
        model(fine, coarse + 1)
    first, other_fine, other_coarse = seen
    assert torch.equal(first[..., :128], other_fine[..., :128])
    assert not torch.equal(first[..., 128:], other_fine[..., 128:])
    assert not torch.equal(first[..., :128], other_coarse[..., :128])
    assert not torch.equal(first[..., 128:], other_coarse[..., 128:])

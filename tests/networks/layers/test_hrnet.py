"""HRNet-W48 of both kinds: golden counts, published names, exchange between branches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bhpe_compile.networks.layers.hrnet import Exchange, HRNet
from bhpe_compile.networks.layers.trunk import HRNET_W48, HRNET_W48_KEYPOINT, HighResolution
from bhpe_compile.passes.binarize.trace import trace
from tests.networks.counting import called, keys, kinds, on_meta, parameters, run_on_meta
from tests.networks.small import CLASSIFICATION, KEYPOINT, noise, scattered


@pytest.fixture(scope="module")
def classification() -> nn.Module:
    return on_meta(lambda: HRNet(HRNET_W48))


@pytest.fixture(scope="module")
def keypoint() -> nn.Module:
    return on_meta(lambda: HRNet(HRNET_W48_KEYPOINT))


def test_classification_kind_in_figures(classification: nn.Module) -> None:
    """CLIFF's golden figures (78,893,405 and 16,933,788,672) without its regressor: in three rounds 10,411,008 MACs."""
    assert keys(classification) == 1954
    assert parameters(classification) == 78_893_405 - 3_472_541
    assert run_on_meta(classification, (1, 3, 256, 192)) == (16_923_377_664, (1, 2048, 8, 6))


def test_keypoint_kind_in_figures(keypoint: nn.Module) -> None:
    assert keys(keypoint) == 1868
    assert parameters(keypoint) == 65_887_224
    assert run_on_meta(keypoint, (1, 3, 224, 224)) == (16_274_146_560, (1, 720, 7, 7))


def test_convolutions_by_kind_of_the_classification_kind(classification: nn.Module) -> None:
    """Stem, transitions and shortcuts still in; without a kind: stem, 256 -> 48, 256 -> 96, and 8 of `incre`."""
    found = kinds(called(classification))
    assert found["plain"] == (217, 58_000_384)
    assert found["down_sample"] == (36, 12_579_840)
    assert {kind: count for kind, (count, _) in found.items()} == {
        "plain": 217,
        "fusion_up": 10,
        "fusion_down": 34,
        "down_scale": 17,
        "down_sample": 36,
        "none": 11,
    }


def test_convolutions_by_kind_of_the_keypoint_kind(keypoint: nn.Module) -> None:
    """Without a kind: stem, 256 -> 48, 256 -> 96."""
    found = kinds(called(keypoint))
    assert found.pop("none")[0] == 3
    assert found == {
        "plain": (213, 57_217_024),
        "fusion_up": (5, 81_920),
        "fusion_down": (34, 666_624),
        "down_scale": (23, 1_115_136),
        "down_sample": (33, 6_386_688),
    }


def test_published_names(classification: nn.Module, keypoint: nn.Module) -> None:
    shapes = {name: tuple(value.shape) for name, value in classification.state_dict().items()}
    assert shapes["conv2.weight"] == (64, 64, 3, 3)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["transition1.0.0.weight"] == (48, 256, 3, 3)
    assert shapes["transition1.1.0.0.weight"] == (96, 256, 3, 3)
    assert shapes["transition3.3.0.0.weight"] == (384, 192, 3, 3)
    assert shapes["stage3.3.branches.2.3.conv2.weight"] == (192, 192, 3, 3)
    assert shapes["stage4.2.fuse_layers.0.3.0.weight"] == (48, 384, 1, 1)
    assert shapes["stage4.2.fuse_layers.3.0.1.0.weight"] == (48, 48, 3, 3)
    assert shapes["stage4.2.fuse_layers.3.0.2.0.weight"] == (384, 48, 3, 3)
    assert shapes["incre_modules.3.0.downsample.0.weight"] == (1024, 384, 1, 1)
    assert shapes["downsamp_modules.2.0.bias"] == (1024,)
    assert shapes["final_layer.0.weight"] == (2048, 1024, 1, 1)
    shapes = {name: tuple(value.shape) for name, value in keypoint.state_dict().items()}
    assert shapes["downsample_stage_1.6.weight"] == (48, 48, 3, 3)
    assert shapes["downsample_stage_3.1.running_var"] == (192,)
    assert shapes["final_layer.weight"] == (24, 48, 1, 1)


@pytest.mark.parametrize("trunk", [CLASSIFICATION, KEYPOINT])
def test_trace_is_bit_equal_for_any_batch(trunk: HighResolution) -> None:
    model = scattered(HRNet(trunk))
    graph = trace(model)
    picture = noise(2, 3, 64, 96)
    with torch.no_grad():
        for given in (picture, picture[:1]):
            features = model(given)
            assert tuple(features.shape) == (len(given), trunk.out_channels, *trunk.cells((64, 96)))
            assert torch.equal(graph(given), features)
            assert features.abs().max() > 0


def test_exchange_adds_what_every_branch_sends() -> None:
    """Against the formula in NumPy; float32 sums of at most 8 x 9 products, in another order: 1e-5."""
    module = scattered(Exchange((4, 8), 1))
    fine, coarse = noise(1, 4, 6, 8), noise(1, 8, 3, 4, seed=2)
    with torch.no_grad():
        out = module([fine, coarse])
        maps = [branch(x) for branch, x in zip(module.branches, (fine, coarse), strict=True)]
        up, up_norm = module.fuse_layers[0][1][0], module.fuse_layers[0][1][1]
        down, down_norm = module.fuse_layers[1][0][0]
        sent = torch.nn.functional.conv2d(maps[0], down.weight, None, 2, 1).numpy()
    mixed = np.einsum("oi,ihw->ohw", up.weight.detach().numpy()[:, :, 0, 0], maps[1][0].numpy())
    upwards = normalised(mixed, up_norm).repeat(2, 1).repeat(2, 2)
    want_fine = np.maximum(maps[0][0].numpy() + upwards, 0)
    want_coarse = np.maximum(maps[1][0].numpy() + normalised(sent[0], down_norm), 0)
    np.testing.assert_allclose(out[0][0].numpy(), want_fine, atol=1e-5)
    np.testing.assert_allclose(out[1][0].numpy(), want_coarse, atol=1e-5)


def normalised(x: np.ndarray, norm: nn.BatchNorm2d) -> np.ndarray:
    """A batch norm on [C, H, W] in NumPy."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, var, weight, bias = (
        value.detach().numpy()[:, None, None]
        for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(var + norm.eps) * weight + bias


def test_a_chain_has_its_relu_in_all_steps_but_the_last() -> None:
    chain = HRNet(KEYPOINT).stage4[0].fuse_layers[3][0]
    assert [any(isinstance(layer, nn.ReLU) for layer in step) for step in chain] == [True, True, False]

"""HMR as in SPIN: golden figures, published names, the traced graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bhpe_compile.networks.hmr.module import HMR, OUTPUTS
from tests.networks.counting import (
    assert_traces_like_eager,
    keys,
    kinds,
    macs_by_layer,
    on_meta,
    parameters,
    run_on_meta,
)
from tests.networks.small import RESIDUAL, noise, scattered

PICTURE = (1, 3, 224, 224)


@pytest.fixture(scope="module")
def full() -> nn.Module:
    return on_meta(HMR)


def test_golden_figures(full: nn.Module) -> None:
    assert parameters(full) == 26_977_501
    assert keys(full) == 331
    shapes = {"rotations": (1, 24, 3, 3), "betas": (1, 10), "camera": (1, 3)}
    assert run_on_meta(full, PICTURE) == (4_097_538_048, shapes)


def test_keys_by_prefix(full: nn.Module) -> None:
    counts = {"conv1": 1, "bn1": 5, "layer1": 60, "layer2": 78, "layer3": 114, "layer4": 60, "init_": 3}
    layers = dict.fromkeys(("fc1", "fc2", "decpose", "decshape", "deccam"), 2)
    counts |= layers
    assert {prefix: keys(full, prefix) for prefix in counts} == counts
    assert sum(counts.values()) == keys(full)


def test_parts_in_figures(full: nn.Module) -> None:
    """Core convolutions, stem, shortcuts and linear layers: weights and MACs."""
    found = macs_by_layer(full, PICTURE)
    weights = {name: full.get_submodule(name).get_parameter("weight").numel() for name in found}

    def of(names: list[str]) -> tuple[int, int, int]:
        return len(names), sum(weights[name] for name in names), sum(found[name] for name in names)

    core = [name for name in found if name.startswith("layer") and ".conv" in name]
    shortcuts = [name for name in found if name.endswith("downsample.0")]
    heads = [name for name in found if name.startswith(("fc", "dec"))]
    assert of(core) == (48, 20_676_608, 3_609_460_736)
    assert of(["conv1"]) == (1, 9_408, 118_013_952)
    assert of(shortcuts) == (4, 2_768_896, 359_661_568)
    assert of(heads) == (5, 3_467_264, 10_401_792)
    assert len(core) + len(shortcuts) + len(heads) + 1 == len(found)
    by_kind = kinds(full.get_submodule(name) for name in core)
    assert {kind: count for kind, (count, _) in by_kind.items()} == {
        "plain": 14,
        "fusion_up": 16,
        "fusion_down": 15,
        "down_scale": 3,
    }


def test_a_zero_picture() -> None:
    with torch.no_grad():
        out = scattered(HMR(RESIDUAL, hidden=16))(torch.zeros(1, 3, 64, 64))
    assert tuple(out) == OUTPUTS
    assert all(torch.isfinite(value).all() for value in out.values())


def test_trace_is_bit_equal_for_any_batch() -> None:
    assert_traces_like_eager(scattered(HMR(RESIDUAL, hidden=16)), noise(2, 3, 64, 64))


def test_the_regressor_sees_the_mean_of_the_features() -> None:
    model = scattered(HMR(RESIDUAL, hidden=16))
    picture = noise(1, 3, 64, 64)
    with torch.no_grad():
        x = model.maxpool(model.relu(model.bn1(model.conv1(picture))))
        features = model.layer4(model.layer3(model.layer2(model.layer1(x))))
        want, got = model.regress(features.mean((2, 3))), model(picture)
    assert all(torch.equal(got[name], want[name]) for name in OUTPUTS)

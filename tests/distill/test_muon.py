"""Muon's step against its formula, and which weights it moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bhpe_compile.distill.engine import MUON_FACTOR, make_optimizers
from bhpe_compile.distill.muon import MOMENTUM, Muon, orthogonalised
from bhpe_compile.distill.recipe import Precision, Recipe
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.passes.binarize import trace
from bhpe_compile.passes.binarize.roles import OUTPUT_LAYERS


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    scale=st.sampled_from([1e-4, 1.0, 1e3]),
    working=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_singular_values_come_near_one_and_vectors_stay(
    rows: int, columns: int, scale: float, working: torch.dtype
) -> None:
    """Of those that are not tiny beside the largest: five steps lift each by 3.4 at most."""
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * 41 + columns))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalised(matrix * scale, working)
    assert (found.shape, found.dtype) == (matrix.shape, torch.float32)
    values = (u.T @ found @ v.T).diagonal()
    large = s > 0.05 * s.max()
    # the coefficients leave values between 0.68 and 1.13; the rest is bfloat16, of which 24 products follow each other
    assert bool(((values[large] > 0.6) & (values[large] < 1.25)).all())


def test_a_step_is_the_formula() -> None:
    weight = nn.Parameter(torch.zeros(6, 2, 3, 3))
    optimizer = Muon([weight], lr=0.1)
    momentum = torch.zeros(6, 2, 3, 3)
    expected = torch.zeros(6, 2, 3, 3)
    for seed in range(3):
        weight.grad = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(seed))
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * weight.grad
        direction = MOMENTUM * momentum + (1 - MOMENTUM) * weight.grad
        expected -= 0.1 * orthogonalised(direction.reshape(6, 18)).view(6, 2, 3, 3)
        optimizer.step()
        torch.testing.assert_close(weight.detach(), expected, atol=1e-6, rtol=0)


def test_tall_matrices_move_further_and_weights_without_gradient_stay() -> None:
    tall, still = nn.Parameter(torch.zeros(16, 4)), nn.Parameter(torch.ones(2, 2))
    tall.grad = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32))
    Muon([tall, still], lr=1.0).step()
    assert torch.linalg.matrix_norm(tall.detach(), 2) == pytest.approx(2.0, rel=0.25)  # sqrt(16 / 4)
    assert torch.equal(still.detach(), torch.ones(2, 2))


def test_inner_weights_are_muons_and_all_learn_once() -> None:
    network = trace(Hand4Whole(TINY), "predict")
    frozen = dict(network.named_parameters())["hand_roi_net.backbone.layer1.0.conv1.weight"]
    frozen.requires_grad_(False)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    adamw, muon = make_optimizers(network, Recipe(images=64, weight_decay=0.5))
    by_muon = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    by_adamw = [{names[id(p)] for p in group["params"]} for group in adamw.param_groups]
    every = [*by_muon, *by_adamw[0], *by_adamw[1]]
    assert sorted(every) == sorted(set(names.values()) - {names[id(frozen)]})
    assert {"backbone.layer1.0.conv1.weight", "box_net.deconv.0.weight"} <= by_muon
    assert {"backbone.conv1.weight", "body_rotation_net.root_pose_out.0.weight"} <= by_adamw[0]
    assert all(dict(network.named_parameters())[name].ndim == 1 for name in by_adamw[1])
    assert not {name for name in by_muon if name.rpartition(".")[0] in network.meta[OUTPUT_LAYERS]}
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.5, 0.0]
    assert [group["factor"] for group in (*adamw.param_groups, *muon.param_groups)] == [1, 1, MUON_FACTOR]


@pytest.mark.parametrize(("precision", "digits"), [("fp32", False), ("bf16", True)])
def test_matrices_are_multiplied_as_the_recipe_says(precision: Precision, digits: bool) -> None:
    """A step of bfloat16 has 8 bits of each value; float32 has others behind them."""
    network = trace(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)))
    inner = network.get_parameter("1.weight")
    inner.data.zero_()
    inner.grad = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    _, muon = make_optimizers(network, Recipe(images=64, learning_rate=1 / MUON_FACTOR, precision=precision))
    muon.param_groups[0]["lr"] = 1.0
    muon.step()
    assert torch.equal(inner.data, inner.data.bfloat16().float()) is digits


def test_without_inner_layers_there_is_no_muon() -> None:
    network = trace(nn.Sequential(nn.Linear(3, 2)))
    assert len(make_optimizers(network, Recipe(images=64))) == 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("body_rotation_net.root_pose_out.0", True),
        ("body_position_net.conv.0", True),
        ("box_net.bbox_center.0", True),
        ("box_net.face_size.2", True),
        ("box_net.face_size.0", False),
        ("body_rotation_net.body_conv.0", False),
        ("backbone.layer1.0.conv1", False),
    ],
)
def test_layers_behind_which_no_other_stands_compute_an_output(path: str, expected: bool) -> None:
    graph = trace(Hand4Whole(TINY), "predict")
    assert (path in graph.meta[OUTPUT_LAYERS]) is expected

"""CLIFF and the networks of BEDLAM: golden figures, published names, the traced graph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bhpe_compile.networks.cliff.module import CLIFF, OUTPUTS, BedlamCLIFF, BedlamHMR
from bhpe_compile.networks.layers.trunk import HRNET_W48, HighResolution, Trunk
from tests.networks.counting import assert_traces_like_eager, called, keys, on_meta, parameters, run_on_meta
from tests.networks.small import CLASSIFICATION, KEYPOINT, RESIDUAL, noise, scattered

BODY = ((1, 3, 256, 192), (1, 3))
SQUARE = (1, 3, 224, 224)
SMPLX = {"rotations": (1, 22, 3, 3), "betas": (1, 11), "camera": (1, 3)}


@pytest.fixture(scope="module")
def bedlam() -> nn.Module:
    return on_meta(BedlamCLIFF)


@pytest.mark.parametrize(
    ("build", "figures"),
    [
        (CLIFF, (26_980_573, 331, 318, 4_014_136_320)),
        (lambda: CLIFF(HRNET_W48), (78_893_405, 1967, 1954, 16_933_788_672)),
    ],
)
def test_golden_figures(build: Callable[[], nn.Module], figures: tuple[int, ...]) -> None:
    model = on_meta(build)
    macs, shapes = run_on_meta(model, *BODY)
    assert (parameters(model), keys(model), keys(model, "encoder."), macs) == figures
    assert shapes == {"rotations": (1, 24, 3, 3), "betas": (1, 10), "camera": (1, 3)}


def test_golden_figures_of_bedlam_cliff(bedlam: nn.Module) -> None:
    assert parameters(bedlam) == 81_980_634
    assert (keys(bedlam), keys(bedlam, "backbone."), keys(bedlam, "head.")) == (1902, 1868, 34)
    assert run_on_meta(bedlam, SQUARE, (1, 3)) == (16_280_410_368, SMPLX)


def test_golden_figures_of_bedlam_hmr() -> None:
    model = on_meta(BedlamHMR)
    assert parameters(model) == 81_977_562
    assert keys(model) == 1902
    assert run_on_meta(model, SQUARE) == (16_280_401_152, SMPLX)


def test_what_bedlam_never_calls(bedlam: nn.Module) -> None:
    used = sum(p.numel() for layer in called(bedlam) for p in layer.parameters())
    assert used == 67_976_178
    assert parameters(bedlam.get_submodule("backbone.final_layer")) == 1_176
    assert parameters(bedlam.get_submodule("head.downsample_module")) == 14_003_280


def test_rows_of_the_regressors() -> None:
    with torch.device("meta"):
        assert CLIFF().fc1.in_features == 2208
        assert BedlamCLIFF().head.fc1.in_features == 869


@pytest.mark.parametrize("trunk", [RESIDUAL, CLASSIFICATION])
def test_trace_is_bit_equal_for_any_batch(trunk: Trunk | HighResolution) -> None:
    assert_traces_like_eager(scattered(CLIFF(trunk, hidden=16)), noise(2, 3, 64, 64), noise(2, 3))


def test_trace_of_bedlam_is_bit_equal_for_any_batch() -> None:
    assert_traces_like_eager(scattered(BedlamCLIFF(KEYPOINT, 16)), noise(2, 3, 64, 64), noise(2, 3))
    assert_traces_like_eager(scattered(BedlamHMR(KEYPOINT, 16)), noise(2, 3, 64, 64))


def test_a_zero_picture() -> None:
    with torch.no_grad():
        out = scattered(CLIFF(CLASSIFICATION, hidden=16))(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3))
    assert tuple(out) == OUTPUTS
    assert all(torch.isfinite(value).all() for value in out.values())


def test_the_box_stands_behind_the_features() -> None:
    """Its three numbers meet columns 32, 33 and 34 of fc1, whose effect on the camera is linear."""
    model = scattered(CLIFF(CLASSIFICATION, hidden=16))
    picture, box = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3)
    with torch.no_grad():
        before = model(picture, box)["camera"]
        assert not torch.equal(before, model(picture, box + 1)["camera"])
        model.fc1.weight[:, 32:35] = 0
        before = model(picture, box)["camera"]
        assert torch.equal(before, model(picture, box + 1)["camera"])

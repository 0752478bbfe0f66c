"""RTMPose, DWPose and RTMW: golden figures, published names, the traced graph."""

from __future__ import annotations

import pytest
import torch

from bhpe_compile.networks.layers.trunk import CSPNEXT
from bhpe_compile.networks.rtmpose.module import OUTPUTS, RTMW, WHOLE_BODY_POINTS, RTMPose
from tests.networks.counting import assert_traces_like_eager, keys, kinds, on_meta, parameters, run_on_meta
from tests.networks.small import CROSS_STAGE, noise, scattered

Figures = tuple[int, int, int, int]


@pytest.mark.parametrize(
    ("trunk", "points", "size", "figures"),
    [
        ("t", 17, (256, 192), (3_337_007, 218, 206, 354_796_416)),
        ("s", 17, (256, 192), (5_473_251, 254, 242, 676_405_888)),
        ("m", 17, (256, 192), (13_587_611, 362, 350, 1_917_671_040)),
        ("l", 17, (256, 192), (27_660_339, 470, 458, 4_142_310_016)),
        ("t", 133, (256, 192), (5_519_779, 218, 206, 548_147_072)),
        ("s", 133, (256, 192), (8_383_575, 254, 242, 904_679_040)),
        ("m", 133, (256, 192), (17_953_039, 362, 350, 2_215_789_184)),
        ("l", 133, (256, 192), (33_480_871, 470, 458, 4_510_273_152)),
        ("l", 133, (384, 288), (33_610_919, 470, 458, 10_038_522_496)),
    ],
)
def test_golden_figures(trunk: str, points: int, size: tuple[int, int], figures: Figures) -> None:
    model = on_meta(lambda: RTMPose(CSPNEXT[trunk], points, size))
    macs, shapes = run_on_meta(model, (1, 3, *size))
    assert (parameters(model), keys(model), keys(model, "backbone."), macs) == figures
    assert keys(model, "head.") == 12
    assert shapes == {"simcc_x": (1, points, 2 * size[1]), "simcc_y": (1, points, 2 * size[0])}


@pytest.mark.parametrize(
    ("trunk", "size", "figures"),
    [
        ("m", (256, 192), (32_258_207, 620, 350, 4_299_139_712)),
        ("l", (256, 192), (57_201_207, 728, 458, 7_888_090_752)),
        ("l", (384, 288), (57_354_295, 728, 458, 17_638_612_096)),
    ],
)
def test_golden_figures_of_rtmw(trunk: str, size: tuple[int, int], figures: Figures) -> None:
    model = on_meta(lambda: RTMW(CSPNEXT[trunk], size=size))
    macs, shapes = run_on_meta(model, (1, 3, *size))
    assert (parameters(model), keys(model), keys(model, "backbone."), macs) == figures
    assert (keys(model, "neck."), keys(model, "head.")) == (240, 30)
    assert shapes == {"simcc_x": (1, 133, 2 * size[1]), "simcc_y": (1, 133, 2 * size[0])}


def test_convolutions_by_kind() -> None:
    """RTMPose-m, whole body: stem and attention included; without a kind is final_layer, 28 % of the weights."""
    model = on_meta(lambda: RTMPose(CSPNEXT["m"], WHOLE_BODY_POINTS))
    assert kinds(model.modules()) == {
        "plain": (33, 6_410_304),
        "fusion_up": (1, 10_368),
        "fusion_down": (10, 2_257_920),
        "down_sample": (5, 3_525_768),
        "depthwise": (12, 50_400),
        "none": (1, 5_005_056),
    }


def test_convolutions_of_rtmw_by_kind() -> None:
    found = kinds(on_meta(lambda: RTMW(CSPNEXT["m"])).modules())
    assert found["none"][1] == 8_758_848
    assert {kind: count for kind, (count, _) in found.items()} == {
        "plain": 54,
        "fusion_up": 1,
        "fusion_down": 20,
        "down_scale": 2,
        "down_sample": 5,
        "depthwise": 20,
        "none": 2,
    }


@pytest.mark.parametrize("network", [RTMPose, RTMW])
def test_a_zero_picture(network: type[RTMPose] | type[RTMW]) -> None:
    with torch.no_grad():
        out = scattered(network(CROSS_STAGE, 5, (128, 64)))(torch.zeros(1, 3, 128, 64))
    assert tuple(out) == OUTPUTS
    assert {name: tuple(x.shape) for name, x in out.items()} == {
        "simcc_x": (1, 5, 128),
        "simcc_y": (1, 5, 256),
    }
    assert all(torch.isfinite(value).all() for value in out.values())


@pytest.mark.parametrize("network", [RTMPose, RTMW])
def test_trace_is_bit_equal_for_any_batch(network: type[RTMPose] | type[RTMW]) -> None:
    assert_traces_like_eager(scattered(network(CROSS_STAGE, 5, (128, 64))), noise(2, 3, 128, 64))


def test_neck_joins_what_arrives_before_what_is_there() -> None:
    model = scattered(RTMW(CROSS_STAGE, 5, (128, 64))).neck
    fine, middle, coarse = noise(1, 32, 16, 8), noise(1, 64, 8, 4, seed=2), noise(1, 128, 4, 2, seed=3)

    def twice(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    with torch.no_grad():
        c = model.reduce_layers[0](coarse)
        m = model.reduce_layers[1](model.top_down_blocks[0](torch.cat((twice(c), middle), 1)))
        f = model.top_down_blocks[1](torch.cat((twice(m), fine), 1))
        want_middle = model.bottom_up_blocks[0](torch.cat((model.downsamples[0](f), m), 1))
        want_coarse = model.bottom_up_blocks[1](torch.cat((model.downsamples[1](want_middle), c), 1))
        got_middle, got_coarse = model(fine, middle, coarse)
    assert torch.equal(got_middle, want_middle)
    assert torch.equal(got_coarse, want_coarse)

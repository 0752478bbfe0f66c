"""CSPNeXt: its parts against NumPy, sizes, names, the traced graph."""

from __future__ import annotations

import numpy as np
import torch

from bhpe_compile.networks.layers.cspnext import (
    Block,
    ChannelAttention,
    CrossStageLayer,
    CSPNeXt,
    SpatialPyramid,
)
from bhpe_compile.networks.layers.trunk import CSPNEXT
from bhpe_compile.passes.binarize.trace import trace
from tests.networks.counting import on_meta
from tests.networks.small import CROSS_STAGE, noise, scattered


def test_sizes() -> None:
    assert CSPNEXT["t"].widths == (24, 48, 96, 192, 384)
    assert CSPNEXT["t"].blocks == (1, 1, 1, 1)
    assert CSPNEXT["m"].widths == (48, 96, 192, 384, 768)
    assert CSPNEXT["m"].blocks == (2, 4, 4, 2)
    assert CSPNEXT["l"].blocks == (3, 6, 6, 3)
    assert CSPNEXT["x"].widths == (80, 160, 320, 640, 1280)
    assert CSPNEXT["x"].blocks == (4, 8, 8, 4)


def test_published_names() -> None:
    state = on_meta(lambda: CSPNeXt(CSPNEXT["m"])).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes["stem.2.conv.weight"] == (48, 24, 3, 3)
    assert shapes["stage1.1.attention.fc.bias"] == (96,)
    assert shapes["stage2.1.blocks.3.conv2.depthwise_conv.conv.weight"] == (96, 1, 5, 5)
    assert shapes["stage4.1.conv2.conv.weight"] == (768, 1536, 1, 1)
    assert shapes["stage4.2.blocks.1.conv2.pointwise_conv.bn.num_batches_tracked"] == ()


def test_channel_attention() -> None:
    """float32 sums of 12 means: 1e-6."""
    model = scattered(ChannelAttention(12))
    with torch.no_grad():
        model.fc.weight.mul_(20)  # some factors at either end of the hard sigmoid
        x = noise(1, 12, 5, 4)
        got = model(x)[0].numpy()
    weight, bias = model.fc.weight.detach().numpy()[:, :, 0, 0], model.fc.bias.detach().numpy()
    factors = np.clip((weight @ x[0].numpy().mean((1, 2)) + bias + 3) / 6, 0, 1)
    assert factors.min() == 0
    assert factors.max() == 1
    np.testing.assert_allclose(got, x[0].numpy() * factors[:, None, None], atol=1e-6)


def test_spatial_pyramid_joins_maxima_of_growing_windows() -> None:
    """The order is map, 5, 9, 13; outside the picture there is nothing to be larger."""
    model = scattered(SpatialPyramid(8))
    x = noise(1, 8, 15, 14)
    seen: list[torch.Tensor] = []
    model.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(x)
        narrow = model.conv1(x)[0].numpy()
    want = [narrow]
    for reach in (2, 4, 6):
        padded = np.pad(narrow, ((0, 0), (reach, reach), (reach, reach)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1), (1, 2))
        want.append(windows.max((3, 4)))
    np.testing.assert_array_equal(seen[0][0].numpy(), np.concatenate(want))


def test_a_layer_joins_main_before_short() -> None:
    model = scattered(CrossStageLayer(6, 8, 2, identity=True, attention=False))
    x = noise(2, 6, 5, 4)
    with torch.no_grad():
        main = model.main_conv(x)
        for block in model.blocks:
            main = main + block.conv2.pointwise_conv(block.conv2.depthwise_conv(block.conv1(main)))
        want = model.final_conv(torch.cat((main, model.short_conv(x)), 1))
        assert torch.equal(model(x), want)


def test_blocks_add_what_came_in_except_in_the_last_stage() -> None:
    model = CSPNeXt(CROSS_STAGE)
    blocks = {name: part.identity for name, part in model.named_modules() if isinstance(part, Block)}
    assert blocks == {
        "stage1.1.blocks.0": True,
        "stage2.1.blocks.0": True,
        "stage3.1.blocks.0": True,
        "stage4.2.blocks.0": False,
    }


def test_trace_is_bit_equal_for_any_batch() -> None:
    model = scattered(CSPNeXt(CROSS_STAGE))
    graph = trace(model)
    picture = noise(2, 3, 64, 96)
    with torch.no_grad():
        for given in (picture, picture[:1]):
            maps = model(given)
            assert [tuple(x.shape[1:]) for x in maps] == [(32, 8, 12), (64, 4, 6), (128, 2, 3)]
            assert all(torch.equal(got, want) for got, want in zip(graph(given), maps, strict=True))

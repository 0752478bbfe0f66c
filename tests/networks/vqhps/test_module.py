"""VQ-HPS: golden figures, published names, constants, the traced graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from bhpe_compile.networks.layers.rotations import rotation_6d_to_matrix
from bhpe_compile.networks.layers.trunk import HighResolution, Trunk
from bhpe_compile.networks.vqhps.module import OUTPUTS, VQHPS, rows_to_matrix
from bhpe_compile.networks.vqhps.presets import FULL_HR48, FULL_R50, PRESETS
from bhpe_compile.networks.vqhps.transformer import position_code
from bhpe_compile.passes.binarize.trace import trace
from tests.networks.counting import assert_traces_like_eager, called, keys, on_meta, parameters, run_on_meta
from tests.networks.small import KEYPOINT, RESIDUAL, noise, scattered

PICTURE = (1, 3, 224, 224)
SHAPES = {"codes": (1, 54), "logits": (1, 54, 512), "rotation": (1, 3, 3), "camera": (1, 3)}
POSE = torch.arange(51)[None] * 0.01 - 0.2
SMALL = replace(PRESETS["vqhps-r50"]["tiny"], size=(64, 96))
SMALL_SHAPES = {"codes": (1, 6), "logits": (1, 6, 16), "rotation": (1, 3, 3), "camera": (1, 3)}


def small(trunk: Trunk | HighResolution) -> VQHPS:
    model = scattered(VQHPS(replace(SMALL, trunk=trunk)))
    model.pose_init.copy_(POSE)
    return model


@pytest.fixture(scope="module")
def hr48() -> nn.Module:
    return on_meta(lambda: VQHPS(FULL_HR48))


def test_golden_figures(hr48: nn.Module) -> None:
    macs, shapes = run_on_meta(hr48, PICTURE)
    assert (parameters(hr48), keys(hr48)) == (141_645_817, 3801)
    assert macs == 32_973_823_488
    assert shapes == SHAPES


def test_golden_figures_of_resnet() -> None:
    model = on_meta(lambda: VQHPS(FULL_R50))
    macs, shapes = run_on_meta(model, PICTURE)
    assert (parameters(model), keys(model)) == (58_927_241, 701)
    assert macs == 8_634_479_616
    assert shapes == SHAPES
    assert parameters(model.get_submodule("conv_1x1")) == 1_049_088
    assert parameters(model.get_submodule("fc1")) == 2_150_400
    assert parameters(model.get_submodule("backbone_pose")) == 23_508_032
    assert keys(model, "backbone_rot.") == 318
    assert tuple(model.state_dict()["backbone_rot.4.0.downsample.0.weight"].shape) == (256, 64, 1, 1)


def test_keys_and_parameters_by_part(hr48: nn.Module) -> None:
    parts = {
        "transformer": (54, 7_625_216),
        "mesh_token_embed": (1, 27_648),
        "backbone_pose": (1868, 65_887_224),
        "backbone_rot": (1868, 65_887_224),
        "conv_1x1": (2, 369_152),
        "fc1": (2, 790_528),
        "fc2": (2, 1_049_600),
    }
    assert {n: (keys(hr48, f"{n}."), parameters(hr48.get_submodule(n))) for n in parts} == parts
    predictors = [hr48.get_submodule(name) for name in ("rot_predictor", "cam_predictor")]
    assert sum(parameters(part) for part in predictors) == 9_225


def test_keys_of_the_transformer(hr48: nn.Module) -> None:
    counts = {
        "encoder.layers.": 12,
        "encoder.norm.": 2,
        "decoder.layers.": 18,
        "decoder.norm.": 2,
        "dec_head.blocks.": 17,
        "dec_head.ln_f.": 2,
        "dec_head.head.": 1,
    }
    assert {prefix: keys(hr48, f"transformer.{prefix}") for prefix in counts} == counts
    state = hr48.state_dict()
    assert tuple(state["transformer.dec_head.blocks.0.attn.mask"].shape) == (1, 1, 54, 54)
    assert tuple(state["transformer.encoder.layers.0.self_attn.in_proj_weight"].shape) == (1536, 512)


def test_key_and_query_of_the_head_are_called(hr48: nn.Module) -> None:
    """Published counts include them; a pass takes them away when the network is compiled."""
    attention = hr48.get_submodule("transformer.dec_head.blocks.0.attn")
    dead = [attention.get_submodule(name) for name in ("key", "query")]
    assert sum(parameters(layer) for layer in dead) == 525_312
    assert all(any(layer is one for layer in called(hr48)) for one in dead)


@pytest.mark.parametrize("trunk", [KEYPOINT, RESIDUAL])
def test_trace_is_bit_equal_for_any_batch(trunk: Trunk | HighResolution) -> None:
    assert_traces_like_eager(small(trunk), noise(2, 3, 64, 96))


def test_a_zero_picture() -> None:
    with torch.no_grad():
        out = small(KEYPOINT)(torch.zeros(1, 3, 64, 96))
    assert tuple(out) == OUTPUTS
    assert {name: tuple(value.shape) for name, value in out.items()} == SMALL_SHAPES
    assert all(torch.isfinite(value).all() for value in out.values())
    assert torch.equal(out["codes"], out["logits"].argmax(2))


def test_a_batch_is_its_pictures() -> None:
    """No picture sees another; sums of larger matrices may run in another order: 1e-4 of the largest value."""
    model, pictures = small(RESIDUAL), noise(2, 3, 64, 96)
    with torch.no_grad():
        both = model(pictures)
        for index in range(2):
            for name, alone in model(pictures[index : index + 1]).items():
                if name != "codes":
                    scale = float(alone.abs().max())
                    torch.testing.assert_close(
                        both[name][index : index + 1], alone, atol=1e-4 * scale, rtol=0
                    )


def test_the_pose_is_a_part_of_the_first_bias() -> None:
    """Folded by hand: b' = b + W_pose p with no pose left; one sum in another order: 1e-5."""
    model, bare = small(KEYPOINT), small(KEYPOINT)
    bare.load_state_dict(model.state_dict())
    bare.pose_init.zero_()
    picture = noise(1, 3, 64, 96)
    with torch.no_grad():
        want, without = model(picture), bare(picture)
        assert (want["camera"] - without["camera"]).abs().max() > 1e-3
        bare.fc1.bias += bare.fc1.weight[:, -51:] @ POSE[0]
        got = bare(picture)
    for name in OUTPUTS:
        torch.testing.assert_close(got[name], want[name], atol=1e-5, rtol=0)


def test_the_rotation_is_given_by_rows() -> None:
    x = noise(4, 6)
    matrix = rows_to_matrix(x)
    columns = torch.stack((x[:, :3], x[:, 3:]), 2).flatten(1)
    torch.testing.assert_close(matrix, rotation_6d_to_matrix(columns).mT, atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix[:, 0], x[:, :3] / x[:, :3].norm(dim=1, keepdim=True), atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).expand(4, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(4), atol=1e-5, rtol=0)


def test_the_position_code_is_one_call_in_the_graph() -> None:
    calls = [node for node in trace(small(RESIDUAL)).graph.nodes if node.op == "call_function"]
    assert sum(node.target is position_code for node in calls) == 1

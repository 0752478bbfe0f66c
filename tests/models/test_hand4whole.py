"""The network: names and shapes of the public checkpoint, tracing, batches, mirrored hands."""

from __future__ import annotations

import pytest
import torch

from bhpe_compile.models.boxes import restore_boxes
from bhpe_compile.models.hand4whole import OUTPUTS, Hand4Whole
from bhpe_compile.models.initialise import initialise, textured_pictures
from bhpe_compile.models.presets import FULL, TINY
from bhpe_compile.models.sampling import sample_features, soft_argmax_2d, soft_argmax_3d
from bhpe_compile.passes.binarize.trace import trace


@pytest.fixture(scope="module")
def tiny() -> Hand4Whole:
    return initialise(Hand4Whole(TINY), 0)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return textured_pictures(2, TINY.image, torch.Generator().manual_seed(5))


def test_public_names_and_shapes() -> None:
    with torch.device("meta"):
        state = Hand4Whole(FULL).state_dict()
    assert len(state) == 834
    assert tuple(state["box_net.deconv.0.weight"].shape) == (2248, 256, 4, 4)
    assert tuple(state["body_position_net.conv.0.weight"].shape) == (200, 2048, 1, 1)
    assert tuple(state["body_rotation_net.body_pose_out.0.weight"].shape) == (126, 16995)
    assert tuple(state["hand_rotation_net.hand_pose_out.0.weight"].shape) == (90, 10300)
    assert tuple(state["face_regressor.jaw_pose_out.0.weight"].shape) == (6, 512)
    for name in (
        "hand_roi_net.backbone.layer4.2.conv3.weight",
        "face_roi_net.backbone.layer1.0.conv1.weight",
    ):
        assert name in state
    assert "box_net.lhand_size.2.bias" in state


def test_outputs(tiny: Hand4Whole, pictures: torch.Tensor) -> None:
    with torch.no_grad():
        out = tiny(pictures)
    sizes = [3, 63, 45, 45, 3, 10, 10, 3, (65, 3), 4, 4, 4]
    assert list(out) == list(OUTPUTS)
    for value, size in zip(out.values(), sizes, strict=True):
        assert tuple(value.shape[1:]) == (size if isinstance(size, tuple) else (size,))
        assert torch.isfinite(value).all()


def test_a_batch_is_its_pictures(tiny: Hand4Whole, pictures: torch.Tensor) -> None:
    """Two pictures together equal each alone, up to the order of float32 sums in larger matrices."""
    with torch.no_grad():
        both = tiny(pictures)
        for i in range(2):
            one = tiny(pictures[i : i + 1])
            for name, value in one.items():
                torch.testing.assert_close(both[name][i : i + 1], value, atol=2e-3, rtol=1e-4)


def test_trace_is_bit_equal_for_any_batch(tiny: Hand4Whole, pictures: torch.Tensor) -> None:
    graph = trace(tiny)
    with torch.no_grad():
        for x in (pictures, pictures[:1]):
            got, want = graph(x), tiny(x)
            assert all(torch.equal(got[name], want[name]) for name in want)


def test_initialisation_depends_on_the_seed_alone() -> None:
    one, two, other = (initialise(Hand4Whole(TINY), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["backbone.conv1.weight"], other["backbone.conv1.weight"])


def test_soft_argmax_finds_a_sharp_peak() -> None:
    logits = torch.zeros(1, 1, 4, 5, 6)
    logits[0, 0, 3, 1, 2] = 50
    weight, joints = soft_argmax_3d(logits)
    torch.testing.assert_close(joints[0, 0], torch.tensor([2.0, 1, 3]))
    torch.testing.assert_close(weight.sum(), torch.tensor(1.0))
    torch.testing.assert_close(soft_argmax_2d(logits[:, :, 3])[0, 0], torch.tensor([2.0, 1]))


def test_sampling_at_cells_and_between() -> None:
    features = torch.arange(12.0).reshape(1, 1, 3, 4)
    points = torch.tensor([[[1.0, 2.0], [0.5, 0.5], [-5.0, 0.0]]])
    torch.testing.assert_close(sample_features(features, points)[0, :, 0], torch.tensor([9.0, 2.5, 0.0]))


@pytest.mark.parametrize(("size", "wide"), [((2.0, 1.0), True), ((1.0, 2.0), False)])
def test_boxes_keep_their_aspect(size: tuple[float, float], wide: bool) -> None:
    centres, sizes = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[size]])
    box = restore_boxes(centres, sizes, (8, 6), (512, 384), (1.0,), (2.0,))[0, 0]
    width, height = box[2] - box[0], box[3] - box[1]
    torch.testing.assert_close(width, height)
    torch.testing.assert_close(width, torch.tensor(2.0 * 64 * 2))
    torch.testing.assert_close((box[:2] + box[2:]) / 2, torch.tensor([192.0, 256.0]))

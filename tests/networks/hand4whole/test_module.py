"""The network: names and shapes of the public checkpoint, tracing, batches, mirrored hands."""

from __future__ import annotations

import pytest
import torch

from bhpe_compile.networks.hand4whole import module as hand4whole
from bhpe_compile.networks.hand4whole.boxes import restore_boxes
from bhpe_compile.networks.hand4whole.initialise import initialise, textured_pictures
from bhpe_compile.networks.hand4whole.module import OUTPUTS, Hand4Whole
from bhpe_compile.networks.hand4whole.presets import FULL, TINY
from bhpe_compile.networks.layers.sampling import sample_features, soft_argmax_2d, soft_argmax_3d
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
    """Two pictures together equal each alone, up to the order of float32 sums in larger matrices.

    Relative to the largest entry of an output: rounding (6e-8) passes through some 40 layers twice.
    """
    with torch.no_grad():
        both = tiny(pictures)
        for i in range(2):
            one = tiny(pictures[i : i + 1])
            for name, value in one.items():
                scale = float(value.abs().max())
                torch.testing.assert_close(both[name][i : i + 1], value, atol=1e-4 * scale, rtol=0)


def test_initialised_network_is_well_conditioned(tiny: Hand4Whole, pictures: torch.Tensor) -> None:
    """Noise of 1e-6 on the picture moves no output by more than 1e-3 of its size: a gain below 1000.

    Without centred filters and small residual gains it was 1e5: joints jumped, rotations flipped.
    """
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        before, after = tiny(pictures), tiny(pictures + 1e-6 * noise)
    for name, value in before.items():
        assert float((after[name] - value).abs().max()) < 1e-3 * float(value.abs().max()), name


def test_left_hand_is_computed_as_a_mirrored_right_hand(
    tiny: Hand4Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same box for both hands of a picture that is its own mirror: both crops are equal then.

    So the left rotations are the right ones with y and z negated, and x of the joints is mirrored in the crop.
    """
    half = textured_pictures(1, (TINY.image[0], TINY.image[1] // 2), torch.Generator().manual_seed(7))
    picture = torch.cat((half, half.flip(3)), 3)
    box = torch.tensor([127.5, 128, 255.5, 256])  # symmetric: crops count from the centre of pixel 0 of 384
    monkeypatch.setattr(hand4whole, "restore_boxes", lambda *_: box.expand(1, 3, 4).clone())
    with torch.no_grad():
        out = tiny(picture)
    left, right = out["smplx_lhand_pose"].reshape(15, 3), out["smplx_rhand_pose"].reshape(15, 3)
    # the crop's samples are mirrored in exact arithmetic, but their weights are rounded: 1e-4
    torch.testing.assert_close(left, right * torch.tensor([1.0, -1, -1]), atol=1e-4, rtol=0)
    lhand, rhand = out["joint_img"][0, 25:45], out["joint_img"][0, 45:65]
    # cells of 128 / 4 pixels in the hand's heat map, of 64 in the body's; the mirror is last cell - x, where an index
    # stands for the middle of its cell (`joint_offset`) on either side
    first, cell, last = 127.5 / 64, 32 / 64, 3 + 2 * TINY.joint_offset
    torch.testing.assert_close(lhand[:, 0], 2 * first + last * cell - rhand[:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(lhand[:, 1:], rhand[:, 1:], atol=1e-4, rtol=0)


def test_boxes_stop_the_gradient(pictures: torch.Tensor) -> None:
    """As published: hand and face outputs train no box, box sizes train no centre."""
    model = initialise(Hand4Whole(TINY), 0)
    model(pictures[:1])["smplx_expr"].sum().backward()
    assert model.face_roi_net.backbone.conv1.weight.grad is not None
    assert model.box_net.bbox_center[0].weight.grad is None
    features = torch.randn(1, TINY.body_trunk.out_channels, *TINY.body_cells)
    _, sizes = model.box_net(features, torch.rand(1, 25, 8, *TINY.body_cells))
    sizes.sum().backward()
    assert model.box_net.bbox_center[0].weight.grad is None
    assert model.box_net.lhand_size[0].weight.grad is not None


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

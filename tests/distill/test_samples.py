"""Samples and their order: what the network sees is what it would see, and what is random repeats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bhpe_compile.distill.samples import Key, Light, Order, load, stack, to_tensors
from bhpe_compile.networks.hand4whole.boxes import RoiNet, restore_boxes
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import ENLARGE, TINY
from bhpe_compile.networks.hand4whole.training.samples import INPUTS, Augmentation, Samples
from bhpe_compile.networks.hand4whole.training.targets import BoxJitter, crop_boxes, tight_to_cells
from tests.distill.people import HEIGHT, WIDTH, People

PEOPLE = People()


def one(samples: Samples, key: Key) -> dict[str, torch.Tensor]:
    """As the network takes it, without the batch."""
    return {name: value[0] for name, value in to_tensors(stack([samples[key]])).items()}


def sample(index: int, epoch: int = 0, seed: int = 0, augmented: bool = True) -> dict[str, torch.Tensor]:
    extra = {} if augmented else {"augmentation": None}
    return one(Samples(PEOPLE, TINY, seed, labels=PEOPLE.labels, **extra), (epoch, index))  # type: ignore[arg-type]


def test_same_key_same_sample() -> None:
    first, again, other = sample(3), sample(3), sample(3, epoch=1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["view"], other["view"])
    assert not torch.equal(first["hands"], sample(3, seed=1)["hands"])


def test_crops_and_view_are_the_networks_own() -> None:
    """Without augmentation; boxes of at most 64 pixels, so that the network takes one sample a cell, too."""
    boxes = np.array([[100, 90, 160, 150], [5, 300, 60, 355], [200.25, 20.5, 250.25, 70.5]], np.float32)
    samples = Samples(PEOPLE, TINY, 0, boxes=np.stack([boxes] * len(PEOPLE)), augmentation=None)
    found = one(samples, (0, 2))
    image = torch.from_numpy(PEOPLE.image(2)).permute(2, 0, 1)[None].float() / 255
    assert torch.equal(found["view"], image[0, :, ::4, ::4])
    crops = [
        RoiNet.crop(net, image, torch.from_numpy(box)[None])[0]
        for net, box in zip(_nets(), boxes, strict=True)
    ]
    # pillow interpolates in 8 bits: half a level, and its weights are rounded; samples of the network lie up to
    # 1/64 pixel beside pillow's
    assert float((found["hands"][0] - crops[0].flip(2)).abs().max()) < 3 / 255
    assert float((found["hands"][1] - crops[1]).abs().max()) < 3 / 255
    assert float((found["face"] - crops[2]).abs().max()) < 3 / 255


def _nets() -> tuple[RoiNet, RoiNet, RoiNet]:
    model = Hand4Whole(TINY)
    return model.hand_roi_net, model.hand_roi_net, model.face_roi_net


def test_light_changes_all_parts_alike() -> None:
    """Without noise a grey picture stays of one colour, the same in every part; with it, it varies by that much."""

    class Grey(People):
        def image(self, index: int) -> NDArray[np.uint8]:
            return np.full((HEIGHT, WIDTH, 3), 128, np.uint8)

    inside = np.array([[50, 50, 90, 90]] * 3, np.float32)
    boxes = np.stack([inside] * 12)
    still = Augmentation(Light(noise=0), BoxJitter(0, 0))
    noisy = Augmentation(Light(brightness=0, colour=0, offset=0, noise=0.04), BoxJitter(0, 0))
    seen, spreads = set(), []
    for index in range(12):
        found = Samples(Grey(), TINY, 0, boxes=boxes, augmentation=still)[1, index]
        colours = {tuple(p) for name in ("hands", "face") for p in found[name].reshape(-1, 3).tolist()}
        if len(colours) == 1:  # else a rectangle was painted over a part
            assert colours <= {tuple(p) for p in found["view"].reshape(-1, 3).tolist()}
            seen |= colours
        face = Samples(Grey(), TINY, 0, boxes=boxes, augmentation=noisy)[1, index]["face"]
        if abs(np.median(face) - 128) < 2:
            spreads.append(face.std())
    assert len(seen) > 6
    assert 0 < min(spreads) < max(spreads) < 0.04 * 255 * 1.1


def test_workers_hand_over_the_same() -> None:
    samples = Samples(PEOPLE, TINY, 3, labels=PEOPLE.labels)
    here, there = (list(load(samples, Order(len(PEOPLE), 4, 0, 3, 3), workers)) for workers in (0, 1))
    assert len(here) == len(there) == 3
    for first, second in zip(here, there, strict=True):
        assert first["view"].shape == (4, 3, *TINY.body)
        assert first["hands"].shape == (4, 2, 3, *TINY.hand)
        assert all(torch.equal(first[name], second[name]) for name in first | second)


def test_outside_the_picture_is_black() -> None:
    boxes = np.array(
        [[-40, -40, 0, 0], [WIDTH, HEIGHT, WIDTH + 50, HEIGHT + 50], [-500, 0, -400, 100]], np.float32
    )
    samples = Samples(PEOPLE, TINY, 0, boxes=np.stack([boxes] * len(PEOPLE)), augmentation=None)
    found = one(samples, (0, 0))
    assert float(found["hands"][1, :, 2:, 2:].abs().max()) == 0
    assert float(found["face"].abs().max()) == 0


def test_boxes_for_cropping_are_restored_as_the_network_restores_them() -> None:
    boxes = PEOPLE.labels(1).boxes
    centres, sizes = (torch.from_numpy(v)[None] for v in tight_to_cells(boxes, TINY))
    theirs = restore_boxes(centres, sizes, TINY.body_cells, TINY.image, (1.0, 1.0, 1.0), ENLARGE)
    ours = crop_boxes(boxes, TINY, None, np.random.default_rng(0))
    np.testing.assert_allclose(ours, theirs[0], atol=1 / 16 + 1e-3)  # centres and half sides to 1/16 pixel


def test_hand_joints_lie_in_their_crop() -> None:
    """From the targets back to pixels: the right hand directly, the left one mirrored."""
    labels = PEOPLE.labels(4)
    found = sample(4, augmented=False)
    crops = crop_boxes(labels.boxes, TINY, None, np.random.default_rng(0))
    cells = TINY.hand_cells[1]
    joints = found["hand_joints"].numpy().copy()
    joints[0, :, 0] = cells - 1 - joints[0, :, 0]
    for hand in range(2):
        size = crops[hand, 2:] - crops[hand, :2]
        pixels = crops[hand, :2] + (joints[hand, :, :2] + TINY.joint_offset) / cells * size
        np.testing.assert_allclose(pixels, labels.keypoints[25 + 20 * hand : 45 + 20 * hand, :2], atol=1e-2)


def test_somebody_says_where_to_crop() -> None:
    with pytest.raises(ValueError, match="boxes"):
        Samples(PEOPLE, TINY, 0)
    with pytest.raises(ValueError, match="boxes"):
        Samples(PEOPLE, TINY, 0, labels=PEOPLE.labels, own=0.5)


def test_a_part_of_the_crops_is_at_the_networks_own_boxes() -> None:
    """Which samples is a matter of the key; their hand joints count from the crop that was taken."""
    boxes = np.stack([[[8.0, 16, 72, 80], [200, 300, 264, 364], [100, 100, 164, 164]]] * len(PEOPLE))
    boxes = boxes.astype(np.float32)
    keys = [(epoch, index) for epoch in range(10) for index in range(len(PEOPLE))]

    def samples(own: float) -> Samples:
        return Samples(PEOPLE, TINY, 0, labels=PEOPLE.labels, boxes=boxes, own=own, augmentation=None)

    at_labels, at_boxes, mixed = samples(0.0), samples(1.0), samples(0.25)
    count = 0
    for key in keys:
        sample, labelled, boxed = mixed[key], at_labels[key], at_boxes[key]
        own = np.array_equal(sample["hands"], boxed["hands"])
        count += own
        one = boxed if own else labelled
        assert not np.array_equal(labelled["hands"], boxed["hands"])
        assert all(np.array_equal(sample[name], one[name]) for name in one)
    assert 0.15 < count / len(keys) < 0.35  # 0.25 +- 2.5 deviations of 120 draws; the seed is fixed
    _, index = keys[5]
    crop, cells = boxes[index, 1], TINY.hand_cells[1]
    pixels = crop[:2] + (at_boxes[keys[5]]["hand_joints"][1, :, :2] + TINY.joint_offset) / cells * 64
    np.testing.assert_allclose(pixels, PEOPLE.labels(index).keypoints[45:, :2], atol=1e-2)


@given(
    count=st.integers(1, 20),
    micro=st.integers(1, 7),
    steps=st.integers(1, 12),
    world=st.integers(1, 3),
    start=st.integers(0, 12),
)
def test_order(count: int, micro: int, steps: int, world: int, start: int) -> None:
    """Processes share what one would do; a run that goes on does the rest; an epoch holds everybody once."""
    total = steps * world
    alone = list(Order(count, micro, 0, total, seed=5))
    shared = [list(Order(count, micro, 0, total, 5, rank, world)) for rank in range(world)]
    assert [shared[i % world][i // world] for i in range(total)] == alone
    first = min(start, total)
    assert list(Order(count, micro, first, total, seed=5)) == alone[first:]
    keys = [key for batch in alone for key in batch]
    for epoch in range(len(keys) // count):
        assert sorted(keys[epoch * count : (epoch + 1) * count]) == [(epoch, i) for i in range(count)]


def test_views_of_a_sample_follow_each_other() -> None:
    """The order is that without views; micro-batches are filled with both."""
    keys = [key for batch in Order(5, 4, 0, 5, seed=3, views=2) for key in batch]
    alone = [key for batch in Order(5, 2, 0, 5, seed=3) for key in batch]
    assert keys == [(*key, view) for key in alone for view in (0, 1)]


def test_a_second_view_differs_by_what_nobody_sees() -> None:
    """By one level at most, anywhere, in every part; the labels are those of the first, and so is the light."""
    samples = Samples(PEOPLE, TINY, 0, labels=PEOPLE.labels)
    plain, first, second, again = samples[1, 3], samples[1, 3, 0], samples[1, 3, 1], samples[1, 3, 1]
    assert all(np.array_equal(plain[name], first[name]) for name in plain)
    assert all(np.array_equal(second[name], again[name]) for name in plain)
    for name in plain:
        gap = second[name].astype(int) - first[name] if name in INPUTS else second[name] - first[name]
        if name in INPUTS:
            assert {-1, 0, 1} == set(np.unique(gap)), name
        else:
            assert not gap.any(), name
    other = samples[2, 3, 1]
    assert not np.array_equal(other["view"], second["view"])

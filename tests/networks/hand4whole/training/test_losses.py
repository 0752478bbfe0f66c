"""Loss terms: nothing lost by a perfect prediction, something by each wrong part, and gradients everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bhpe_compile.distill.engine import total
from bhpe_compile.distill.samples import stack, to_tensors
from bhpe_compile.evaluate.body import BodyModel, axis_angle_to_matrix
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.hand4whole.training.losses import WEIGHTS, Comparison, rotations
from bhpe_compile.networks.hand4whole.training.samples import Samples
from tests.distill.people import People

PEOPLE = People()
Values = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def batch() -> Values:
    samples = Samples(PEOPLE, TINY, 0, labels=PEOPLE.labels, augmentation=None)
    return to_tensors(stack([samples[0, i] for i in range(4)]))


def perfect(targets: Values) -> Values:
    """What a network that knows the labels would find (its camera aside)."""
    matrices = axis_angle_to_matrix(targets["rotations"])
    six = matrices[..., :2].flatten(2)
    hands = targets["hand_joints"]
    return {
        "root": six[:, 0],
        "body": six[:, 1:22].flatten(1),
        "hands": six[:, 22:52].flatten(1),
        "jaw": six[:, 52],
        "hand_joints": torch.cat((hands[:, 0], hands[:, 1])),
        "camera": torch.tensor([[0.0, 0.0, 40.0]]).repeat(len(six), 1),
        **{name: targets[name] for name in ("joints", "centres", "sizes", "shape", "expression")},
    }


def test_a_perfect_prediction_loses_nothing(body: BodyModel, batch: Values) -> None:
    terms = Comparison(body, TINY.body_cells).with_labels(perfect(batch), batch)
    terms.pop("pixels")  # the camera is no label
    assert terms.keys() <= WEIGHTS.keys()
    for name, term in terms.items():
        assert float(term) < 1e-5, name  # orthonormalising rounds


@pytest.mark.parametrize(
    ("part", "hit"),
    [
        ("root", {"root", "skeleton", "fingers", "pixels"}),
        ("body", {"pose", "skeleton", "fingers", "pixels"}),
        ("hands", {"hands", "fingers"}),
        ("jaw", {"jaw"}),
        ("shape", {"shape", "skeleton", "fingers", "pixels"}),
        ("joints", {"joints"}),
        ("hand_joints", {"hand_joints"}),
        ("centres", {"boxes"}),
        ("sizes", {"boxes"}),
    ],
)
def test_a_wrong_part_is_lost_where_it_belongs(
    body: BodyModel, batch: Values, part: str, hit: set[str]
) -> None:
    comparison, right = Comparison(body, TINY.body_cells), perfect(batch)
    wrong = right | {
        part: right[part] + 0.3 * torch.randn(right[part].shape, generator=torch.Generator().manual_seed(1))
    }
    before, after = comparison.with_labels(right, batch), comparison.with_labels(wrong, batch)
    changed = {name for name in after if abs(float(after[name] - before[name])) > 1e-4}
    assert changed == hit


def test_what_is_not_seen_counts_nothing(body: BodyModel, batch: Values) -> None:
    comparison, right = Comparison(body, TINY.body_cells), perfect(batch)
    wrong = right | {
        "joints": torch.where(batch["joints_seen"][..., None] > 0, right["joints"], right["joints"] + 9)
    }
    assert float(batch["joints_seen"].min()) == 0
    terms = comparison.with_labels(wrong, batch)
    assert float(terms["joints"]) < 1e-6


def test_the_skeleton_is_the_bodys(body: BodyModel, batch: Values) -> None:
    """The left hand is mirrored back, the jaw is in its place: joints are those of the labels' own pose."""
    found = perfect(batch)
    ours = Comparison(body, TINY.body_cells)._skeleton(rotations(found), found)
    pose = torch.from_numpy(np.stack([PEOPLE.labels(i).pose for i in range(4)]))
    pose[:, 23:25] = 0  # eyes look ahead
    theirs = body.joints(axis_angle_to_matrix(pose), batch["shape"], batch["expression"])
    torch.testing.assert_close(ours, theirs - theirs[:, :1], atol=1e-5, rtol=0)


def test_a_student_like_its_teacher_loses_nothing(body: BodyModel, batch: Values) -> None:
    model = initialise(Hand4Whole(TINY), 0)
    with torch.no_grad():
        found = model.predict(batch["view"], batch["hands"], batch["face"])
    comparison = Comparison(body, TINY.body_cells)
    terms = comparison.with_teacher(found, found)
    assert terms.keys() == WEIGHTS.keys()
    assert float(total(terms, WEIGHTS)) < 1e-4
    moved = comparison.with_teacher({name: v + 0.1 * v.roll(1, 0) for name, v in found.items()}, found)
    assert all(float(moved[name]) > 1e-4 for name in moved)


def test_every_parameter_learns(body: BodyModel, batch: Values) -> None:
    model = initialise(Hand4Whole(TINY), 0).train()
    found = model.predict(batch["view"], batch["hands"], batch["face"])
    total(Comparison(body, TINY.body_cells).with_labels(found, batch), WEIGHTS).backward()
    silent = [
        name for name, p in model.named_parameters() if p.grad is None or float(p.grad.abs().sum()) == 0
    ]
    assert silent == []

"""How Hand4Whole learns: what `distill/` asks of a network, answered for its crops, its body and its heat maps."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn

from bhpe_compile.distill.lesson import Boxes, Run
from bhpe_compile.distill.samples import Pictures, SampleSet
from bhpe_compile.evaluate.body import BodyModel, axis_angle_to_matrix
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import NAME, Preset
from bhpe_compile.networks.hand4whole.training.boxes import find_boxes
from bhpe_compile.networks.hand4whole.training.losses import WEIGHTS, Comparison
from bhpe_compile.networks.hand4whole.training.samples import INPUTS, Samples
from bhpe_compile.networks.hand4whole.training.targets import LEFT_HAND, MIRROR, ROTATIONS
from bhpe_compile.passes.binarize import trace

if TYPE_CHECKING:
    from accelerate import Accelerator

PEOPLE_FOR_THE_MEAN = 2000
FIRST_SPREAD = 0.1
"""The last layer of each rotation head starts with its weights scaled by this, around the mean pose."""


class Hand4WholeLesson:
    """The `Lesson` of a preset."""

    method = "predict"
    inputs = INPUTS
    weights: Mapping[str, float] = WEIGHTS
    looks = True
    taps = False
    poses = True
    carried: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        self.spec = f"{NAME}:{preset.name}"
        self.fact = preset.name

    def trace(self, model: nn.Module) -> fx.GraphModule:
        """The graph of `Hand4Whole.predict`."""
        return trace(model, self.method)

    def begin(self, people: Dataset, seed: int) -> nn.Module:
        """A network that behaves, drawn from `seed`, around the mean of the labels."""
        model = initialise(Hand4Whole(self.preset), seed)
        start_at_the_mean(model, people)
        return model

    def look(
        self,
        network: fx.GraphModule,
        model: nn.Module,
        pictures: Pictures,
        run: Run,
        accelerator: Accelerator,
    ) -> Boxes:
        """Where `network` sees hands and face."""
        assert isinstance(model, Hand4Whole)  # what its description builds
        return find_boxes(network, model, pictures, run.place.folder, run.facts, accelerator, run.looking)

    def samples(
        self, pictures: Pictures | Dataset, seed: int, *, labelled: bool, boxes: Boxes | None, own: float
    ) -> SampleSet:
        """Views of the body, and crops of hands and face."""
        labels = getattr(pictures, "labels", None) if labelled else None
        return Samples(pictures, self.preset, seed, labels=labels, boxes=boxes, own=own)

    def comparison(self, body: BodyModel | None) -> Comparison:
        """Losses on the body."""
        assert body is not None  # it poses
        return Comparison(body, self.preset.body_cells)


def start_at_the_mean(model: Hand4Whole, dataset: Dataset) -> None:
    """Let rotations and shape begin at the mean of the labels: most of the way there costs no training."""
    people = [dataset.labels(i) for i in range(min(len(dataset), PEOPLE_FOR_THE_MEAN))]
    pose = np.stack([person.pose[list(ROTATIONS)] for person in people])
    pose[:, LEFT_HAND] *= MIRROR
    mean = axis_angle_to_matrix(torch.from_numpy(pose).float()).mean(0)  # [53, 3, 3], nearly a rotation
    six = mean[:, :, :2].flatten(1)  # interleaved: a1 in 0, 2, 4, a2 in 1, 3, 5
    hands = six[22:52].view(2, 15, 6).mean(0)  # one head for both hands
    rotation, hand, face = model.body_rotation_net, model.hand_rotation_net, model.face_regressor
    with torch.no_grad():
        for head, value in (
            (rotation.root_pose_out, six[0]),
            (rotation.body_pose_out, six[1:22]),
            (hand.hand_pose_out, hands),
            (face.jaw_pose_out, six[52]),
            (rotation.shape_out, torch.from_numpy(np.stack([p.betas for p in people])).mean(0)),
            (face.expr_out, torch.from_numpy(np.stack([p.expression for p in people])).mean(0)),
        ):
            layer = head[-1]
            assert isinstance(layer, torch.nn.Linear)
            layer.bias.copy_(value.flatten())
            layer.weight.mul_(FIRST_SPREAD)

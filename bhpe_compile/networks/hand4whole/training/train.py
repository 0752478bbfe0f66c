"""Full precision: Hand4Whole of a preset learns from labelled pictures."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bhpe_compile.distill.engine import Place, Task, Terms, Tick, fit, is_main, processes
from bhpe_compile.distill.finish import measure_norms
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.samples import Sample
from bhpe_compile.distill.trainer import Looking, Trained
from bhpe_compile.errors import UsageError
from bhpe_compile.evaluate.body import BodyModel, axis_angle_to_matrix
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.frontends.checkpoint import save_model
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import NAME, Preset
from bhpe_compile.networks.hand4whole.training.boxes import find_boxes
from bhpe_compile.networks.hand4whole.training.losses import WEIGHTS, Comparison
from bhpe_compile.networks.hand4whole.training.samples import INPUTS, Samples
from bhpe_compile.networks.hand4whole.training.targets import LEFT_HAND, MIRROR, ROTATIONS
from bhpe_compile.passes.binarize import trace

PEOPLE_FOR_THE_MEAN = 2000
FIRST_SPREAD = 0.1
"""The last layer of each rotation head starts with its weights scaled by this, around the mean pose."""


def train(
    dataset: Dataset,
    body: BodyModel,
    preset: Preset,
    recipe: Recipe,
    place: Place,
    output: Path,
    facts: dict[str, Any],
    tick: Tick = lambda *_: None,
    *,
    start: Hand4Whole | None = None,
    freeze: Sequence[str] = (),
    own_boxes: float = 0.0,
    looking: Looking = lambda _: None,
) -> Trained:
    """Train a network of `preset` from `recipe.seed`, or on from `start`, and write it to `output`.

    `freeze` are patterns of layers that keep their weights and statistics; with a `start`, `own_boxes` is the part of
    the samples that is cropped where it sees hands and face itself. Raises as `engine.fit` does, and UsageError
    for a pattern without a layer; a folder with a checkpoint of the same run is gone on with.
    """
    if start is None:
        model = initialise(Hand4Whole(preset), recipe.seed)
        start_at_the_mean(model, dataset)
    else:
        model = start
    freeze_layers(model, freeze)
    network = trace(model.train(), "predict")
    described = {"task": "train", "preset": preset.name, **facts}
    comparison = Comparison(body, preset.body_cells)

    def compare(found: dict[str, Tensor], sample: Sample) -> Terms:
        return comparison.with_labels(found, sample)

    boxes = None
    with processes(recipe) as accelerator:
        if start is not None and own_boxes > 0:
            described["own_boxes"] = own_boxes
            boxes = find_boxes(network, model, dataset, place.folder, facts, accelerator, looking)
        samples = Samples(
            dataset,
            preset,
            recipe.seed,
            labels=dataset.labels,
            boxes=boxes,
            own=0.0 if boxes is None else own_boxes,
        )
        task = Task(network, INPUTS, samples, compare, WEIGHTS, described)
        log = fit(task, recipe, place, accelerator, tick)
    if is_main():
        measure_norms(network, task, recipe, place.workers)
        save_model(output, model, f"{NAME}:{preset.name}")
    return Trained(output, log)


def freeze_layers(model: nn.Module, patterns: Sequence[str]) -> None:
    """Let no layer learn whose name, or a name above it, matches one of the patterns (`*` crosses dots)."""
    for pattern in patterns:
        found = [module for name, module in model.named_modules() if name and fnmatchcase(name, pattern)]
        if not found:
            raise UsageError(f"--freeze {pattern}: no layer has such a name")
        for module in found:
            module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("--freeze: nothing is left to learn")


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

"""Distillation: the binary form of a network learns from the full-precision one, without labels.

The teacher looks once at every picture to say where hands and face are; crops are taken there, moved a little. In
training both see the same crops, and the student is drawn to the teacher's outputs, heat maps and features. Where the
pictures have labels, these can be added (`label_weight`).
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from bhpe_compile.distill.engine import Place, Task, Tick, fit, is_main, uses_bfloat16
from bhpe_compile.distill.finish import measure_norms, measure_ranges
from bhpe_compile.distill.losses import Comparison, Terms
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.samples import Pictures, Sample, Samples
from bhpe_compile.distill.train import Trained
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.files import write_atomically
from bhpe_compile.models.checkpoint import LoadedModel, load_state, save_model
from bhpe_compile.models.hand4whole import Hand4Whole
from bhpe_compile.passes.binarize import BinarizeOptions, RoundStorage, binarize, trace

TEACHER_BATCH = 32


def distill(
    teacher: Hand4Whole,
    pictures: Pictures | Dataset,
    body: BodyModel,
    options: BinarizeOptions,
    recipe: Recipe,
    place: Place,
    output: Path,
    facts: dict[str, Any],
    *,
    label_weight: float = 0.0,
    rounding: bool = True,
    start: LoadedModel | None = None,
    tick: Tick = lambda *_: None,
) -> Trained:
    """Binarize `teacher` with `options`, train the result against it, and write it to `output`.

    `label_weight` above 0 needs pictures with labels. With `rounding` the student computes with what compiling rounds.
    `start` is a student of the same options whose weights training begins with. Raises as `engine.fit` does, and
    InputError for a `start` of another form.
    """
    preset = teacher.preset
    network, _ = binarize(trace(teacher.train(), "predict"), options)
    if start is not None:
        load_state(network, start.state_dict, start.source)
    if rounding:
        network = RoundStorage()(network).graph
    labelled = label_weight > 0
    if labelled:
        assert hasattr(pictures, "labels")
        samples = Samples(pictures, preset, recipe.seed, labels=pictures.labels)
    else:
        samples = Samples(
            pictures, preset, recipe.seed, boxes=find_boxes(teacher, pictures, place.folder, facts)
        )
    comparison = Comparison(body, preset.body_cells)
    guide = Teacher(teacher, uses_bfloat16(recipe))

    def compare(found: dict[str, Tensor], sample: Sample) -> Terms:
        terms = comparison.with_teacher(found, guide(sample))
        if labelled:
            for name, term in comparison.with_labels(found, sample).items():
                terms[name] = terms[name] + label_weight * term
        return terms

    described = {"task": "distill", "preset": preset.name, "binarization": options.to_dict(), **facts}
    described |= {"label_weight": label_weight, "rounding": rounding}
    task = Task(network.train(), samples, compare, described)
    log = fit(task, recipe, place, tick)
    if is_main():
        measure_norms(network, samples, recipe, place.workers)
        ranges = measure_ranges(network, samples, recipe, place.workers) if rounding else None
        save_model(output, network, preset, options.to_dict(), compact=True, ranges=ranges)
    return Trained(output, log)


class Teacher:
    """The full-precision network on the student's crops, in eval mode, without gradients."""

    def __init__(self, model: Hand4Whole, half: bool) -> None:
        self._half = half
        self._network: fx.GraphModule = copy.deepcopy(trace(model, "predict")).eval().requires_grad_(False)
        self._network = self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, sample: Sample) -> dict[str, Tensor]:
        view = sample["view"]
        self._network.to(view.device)
        with torch.no_grad(), torch.autocast(view.device.type, torch.bfloat16, enabled=self._half):
            found: dict[str, Tensor] = self._network(view, sample["hands"], sample["face"])
        return {name: value.float() for name, value in found.items()}


def find_boxes(
    teacher: Hand4Whole, pictures: Pictures, folder: Path, facts: dict[str, Any]
) -> NDArray[np.float32]:
    """Where the teacher sees left hand, right hand and face: [n, 3, 4] to crop; kept in `folder` for the next start.

    `facts` name the teacher and the pictures; what was kept for others is not looked at.
    """
    kept = folder / f"boxes-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]}.npy"
    if kept.exists():
        boxes: NDArray[np.float32] = np.load(kept, allow_pickle=False)
        if boxes.shape == (len(pictures), 3, 4):
            return boxes
    step = teacher.preset.body_step
    found = []
    teacher.eval()
    with torch.no_grad():
        for first in range(0, len(pictures), TEACHER_BATCH):
            indices = range(first, min(first + TEACHER_BATCH, len(pictures)))
            views = np.stack([pictures.image(i)[::step, ::step].transpose(2, 0, 1) for i in indices])
            located = teacher.locate(torch.from_numpy(views).float() / 255)
            found.append(teacher.boxes(located["centres"], located["sizes"]).numpy())
    boxes = np.concatenate(found).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, boxes)
    write_atomically(kept, buffer.getbuffer())
    return boxes

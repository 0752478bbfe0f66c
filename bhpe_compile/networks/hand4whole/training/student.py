"""Distillation: the binary form of a network learns from the full-precision one, without labels.

A network looks once at every picture to say where hands and face are: the student that training begins with, or the
teacher. Crops are taken there, moved a little. In training both see the same crops, and the student is drawn to the
teacher's outputs, heat maps and features. Where the pictures have labels, these can be added (`label_weight`), and some
of the crops are at their boxes (`own_boxes`).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from bhpe_compile.distill.engine import Place, Task, Terms, Tick, fit, is_main, processes, uses_bfloat16
from bhpe_compile.distill.finish import measure_norms, measure_ranges
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.samples import Pictures, Sample
from bhpe_compile.distill.trainer import Looking, Start, Trained
from bhpe_compile.errors import InputError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.frontends.checkpoint import load_state, save_model
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import NAME
from bhpe_compile.networks.hand4whole.training.boxes import find_boxes
from bhpe_compile.networks.hand4whole.training.losses import WEIGHTS, Comparison
from bhpe_compile.networks.hand4whole.training.samples import INPUTS, Samples
from bhpe_compile.passes.binarize import BinarizeOptions, RoundStorage, binarize, trace


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
    own_boxes: float = 1.0,
    rounding: bool = True,
    start: Start | None = None,
    tick: Tick = lambda *_: None,
    looking: Looking = lambda _: None,
) -> Trained:
    """Binarize `teacher` with `options`, train the result against it, and write it to `output`.

    `label_weight` above 0 needs pictures with labels; `own_boxes` is the part of the samples then that is cropped where
    the student itself (the teacher, without a `start`) sees hands and face. With `rounding` the student computes with
    what compiling rounds. `start` is a student of the same form, but for layers that `options` keep in full precision
    besides. Raises as `engine.fit` does, and InputError for a `start` of another form.
    """
    preset = teacher.preset
    network, _ = binarize(trace(teacher.train(), "predict"), options)
    looker = trace(teacher, "predict") if start is None else go_on(network, teacher, start, options)
    labels = getattr(pictures, "labels", None) if label_weight > 0 else None
    if rounding:
        network = RoundStorage()(network).graph
    comparison = Comparison(body, preset.body_cells)
    guide = Teacher(teacher, uses_bfloat16(recipe))

    def compare(found: dict[str, Tensor], sample: Sample) -> Terms:
        terms = comparison.with_teacher(found, guide(sample))
        if labels is not None:
            for name, term in comparison.with_labels(found, sample).items():
                terms[name] = terms[name] + label_weight * term
        return terms

    described = {"task": "distill", "preset": preset.name, "binarization": options.to_dict(), **facts}
    described |= {"label_weight": label_weight, "own_boxes": own_boxes, "rounding": rounding}
    boxes = None
    with processes(recipe) as accelerator:
        if own_boxes > 0 or labels is None:
            boxes = find_boxes(looker, teacher, pictures, place.folder, facts, accelerator, looking)
        samples = Samples(pictures, preset, recipe.seed, labels=labels, boxes=boxes, own=own_boxes)
        task = Task(network.train(), INPUTS, samples, compare, WEIGHTS, described)
        log = fit(task, recipe, place, accelerator, tick)
    if is_main():
        measure_norms(network, task, recipe, place.workers)
        ranges = measure_ranges(network, task, recipe, place.workers) if rounding else None
        save_model(output, network, f"{NAME}:{preset.name}", options.to_dict(), compact=True, ranges=ranges)
    return Trained(output, log)


def go_on(
    network: fx.GraphModule, teacher: Hand4Whole, start: Start, options: BinarizeOptions
) -> fx.GraphModule:
    """Give `network`, the form of `teacher` that `options` describe, the weights of `start`; return `start` as it was.

    Layers that `options` keep in full precision and `start` did not have the teacher's weights in `network`, and they
    stay: those behind the signs of a binary layer are no filters. Thresholds that are not learnt are the form's and
    stay as well. Raises InputError for a state of another form.
    """
    if replace(options, keep_float=start.options.keep_float) != start.options:
        raise InputError(f"{start.source}: of another scheme or residual tap; a student keeps both")
    before, _ = binarize(trace(teacher.train(), "predict"), start.options)
    load_state(before, start.state, start.source)
    state = network.state_dict()
    fixed = {name for name, _ in network.named_buffers() if name.endswith(".threshold")}
    for name, value in before.state_dict().items():
        layer = name.rpartition(".")[0]
        if name not in state or name in fixed:
            continue
        if options.kept_by(layer) is None or start.options.kept_by(layer) is not None:
            state[name] = value
    network.load_state_dict(state)
    return before


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

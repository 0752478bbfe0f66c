"""Distillation: the binary form of a network learns from the full-precision one, without labels.

Both see the same samples, and the student is drawn to the teacher's outputs and features. A network that crops for
itself (`Lesson.looks`) looks once at every picture to say where: the student that training begins with, or the teacher.
Where the pictures have labels, these can be added (`label_weight`), and some of the crops are at their boxes
(`own_boxes`).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from bhpe_compile.distill.activations import replaced
from bhpe_compile.distill.engine import Task, Terms, fit, is_main, processes, uses_bfloat16
from bhpe_compile.distill.finish import measure_norms, measure_ranges, show
from bhpe_compile.distill.lesson import DistillOptions, Lesson, Run, Start, Trained
from bhpe_compile.distill.samples import Pictures, Sample
from bhpe_compile.distill.settle import settle_norms, unsettled
from bhpe_compile.distill.stillness import Stillness
from bhpe_compile.distill.taps import add_taps, find_taps
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.frontends.checkpoint import save_model
from bhpe_compile.frontends.state import load_state
from bhpe_compile.passes.binarize import BinarizeOptions, RoundStorage, binarize

TO_SETTLE = 256
"""Pictures on which norms are settled."""


def distill(
    lesson: Lesson,
    teacher: nn.Module,
    pictures: Pictures | Dataset,
    body: BodyModel | None,
    run: Run,
    options: DistillOptions = DistillOptions(),  # noqa: B008 (frozen)
) -> Trained:
    """Binarize `teacher`, train the result against it, and write it to `run.output`. `teacher` computes the same
    afterwards; norms of it that had seen nothing are settled.

    A `label_weight` above 0 needs pictures with labels. Raises as `engine.fit` does, UsageError for a micro-batch that
    cannot hold two views, and InputError for a `start` of another form and for a network of which no layer becomes
    binary.
    """
    recipe, start = run.recipe, options.start
    taught = lesson.trace(teacher.train())
    if lesson.carried and unsettled(taught):
        shown = lesson.samples(pictures, recipe.seed, labelled=False, boxes=None, own=0.0)
        settle_norms(
            taught, lambda one: show(one, lesson.inputs, shown, recipe, run.place.workers, TO_SETTLE)
        )
    network, notes = binarize(taught, options.binarize)
    if not any(note.applied for note in notes):
        raise InputError(
            f"{lesson.spec}: no layer of it becomes binary, so there is nothing to distill; "
            "`bhpe-compile explain` says why, layer by layer"
        )
    told = replaced(taught, network)
    looker = taught if start is None else go_on(network, taught, start, options.binarize)
    labelled = options.label_weight > 0 and hasattr(pictures, "labels")
    if options.rounding:
        network = RoundStorage()(network).graph
    guide = Teacher(taught, lesson.inputs, uses_bfloat16(recipe))
    if lesson.taps:
        taps = find_taps(guide.network, network)
        add_taps(guide.network, {name: pair[0] for name, pair in taps.items()})
        add_taps(network, {name: pair[1] for name, pair in taps.items()})
    comparison = lesson.comparison(body)
    still = Stillness(network, comparison, {**lesson.weights, **recipe.loss_weights}, options)
    if still.views > 1 and (recipe.micro_batch % 2 or recipe.micro_batch < 4):
        raise UsageError(
            "--consistency compares two views of two pictures at least: --micro-batch must be even and 4 or more, "
            f"not {recipe.micro_batch}"
        )

    def compare(found: dict[str, Tensor], sample: Sample) -> Terms:
        answers = guide({name: sample[name][:: still.views] for name in lesson.inputs})
        answers = {name: value.repeat_interleave(still.views, 0) for name, value in answers.items()}
        terms = comparison.with_teacher(found, answers)
        if labelled:
            for name, term in comparison.with_labels(found, sample).items():
                terms[name] = terms[name] + options.label_weight * term
        return terms | still.terms(found)

    described: dict[str, Any] = {
        "task": "distill",
        "preset": lesson.fact,
        "binarization": options.binarize.to_dict(),
        **run.facts,
        "label_weight": options.label_weight,
        "own_boxes": options.own_boxes,
        "rounding": options.rounding,
    }
    for name in ("consistency", "margin"):
        if getattr(options, name):
            described[name] = getattr(options, name)
    boxes = None
    with processes(recipe) as accelerator:
        if lesson.looks and (options.own_boxes > 0 or not labelled):
            boxes = lesson.look(looker, teacher, pictures, run, accelerator)
        samples = lesson.samples(pictures, recipe.seed, labelled=labelled, boxes=boxes, own=options.own_boxes)
        weights = {**lesson.weights, **still.weights}
        task = Task(network.train(), lesson.inputs, samples, compare, weights, described, still.views)
        log = fit(task, recipe, run.place, accelerator, run.tick)
    if is_main():
        workers = run.place.workers
        measure_norms(network, task, recipe, workers)
        ranges = measure_ranges(network, task, recipe, workers) if options.rounding else None
        form = options.binarize.to_dict()
        save_model(
            run.output, network, lesson.spec, form, compact=True, ranges=ranges, carried=lesson.carried
        )
    return Trained(run.output, log, told)


def go_on(
    network: fx.GraphModule, taught: fx.GraphModule, start: Start, options: BinarizeOptions
) -> fx.GraphModule:
    """Give `network`, the form of `taught` that `options` describe, the weights of `start`; return `start` as it was.

    Layers that `options` keep in full precision and `start` did not have the teacher's weights in `network`, and they
    stay: those behind the signs of a binary layer are no filters. Thresholds that are not learnt are the form's and
    stay as well. Raises InputError for a state of another form.
    """
    if replace(options, keep_float=start.options.keep_float) != start.options:
        raise InputError(f"{start.source}: of another scheme or residual tap; a student keeps both")
    before, _ = binarize(taught, start.options)
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
    """The full-precision network on the student's samples, in eval mode, without gradients."""

    def __init__(self, taught: fx.GraphModule, inputs: tuple[str, ...], half: bool) -> None:
        self._inputs, self._half = inputs, half
        network: fx.GraphModule = copy.deepcopy(taught).eval().requires_grad_(False)
        self.network: fx.GraphModule = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, sample: Sample) -> dict[str, Tensor]:
        given = [sample[name] for name in self._inputs]
        device = given[0].device
        self.network.to(device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._half):
            found: dict[str, Tensor] = self.network(*given)
        return {name: value.float() for name, value in found.items()}

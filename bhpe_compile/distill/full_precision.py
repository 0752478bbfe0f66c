"""Full precision: a network learns from labelled pictures."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from bhpe_compile.distill.engine import Task, Terms, fit, is_main, processes
from bhpe_compile.distill.finish import measure_norms
from bhpe_compile.distill.lesson import Lesson, Run, Trained, TrainOptions
from bhpe_compile.distill.samples import Sample
from bhpe_compile.errors import UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.dataset import Dataset
from bhpe_compile.frontends.checkpoint import save_model


def train(
    lesson: Lesson,
    people: Dataset,
    body: BodyModel | None,
    run: Run,
    options: TrainOptions = TrainOptions(),  # noqa: B008 (frozen)
) -> Trained:
    """Train the network of `lesson` from the recipe's seed, or on from a start, and write it to `run.output`.

    Raises as `engine.fit` does, and UsageError for a pattern of `freeze` without a layer; a folder with a checkpoint of
    the same run is gone on with.
    """
    recipe, start = run.recipe, options.start
    model = lesson.begin(people, recipe.seed) if start is None else start
    freeze_layers(model, options.freeze)
    network = lesson.trace(model.train())
    described: dict[str, Any] = {"task": "train", "preset": lesson.fact, **run.facts}
    comparison = lesson.comparison(body)

    def compare(found: dict[str, Tensor], sample: Sample) -> Terms:
        return comparison.with_labels(found, sample)

    boxes = None
    with processes(recipe) as accelerator:
        if lesson.looks and start is not None and options.own_boxes > 0:
            described["own_boxes"] = options.own_boxes
            boxes = lesson.look(network, model, people, run, accelerator)
        own = 0.0 if boxes is None else options.own_boxes
        samples = lesson.samples(people, recipe.seed, labelled=True, boxes=boxes, own=own)
        task = Task(network, lesson.inputs, samples, compare, lesson.weights, described)
        log = fit(task, recipe, run.place, accelerator, run.tick)
    if is_main():
        measure_norms(network, task, recipe, run.place.workers)
        save_model(run.output, model, lesson.spec)
    return Trained(run.output, log)


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

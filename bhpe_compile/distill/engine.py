"""The training loop: steps, checkpoints, a log; the same weights at the end however often it is stopped.

Everything random comes from the recipe's seed and the step, so a checkpoint holds weights, optimizer and step, and
nothing else. Processes started by `torchrun` share the micro-batches of a step (accelerate's DistributedDataParallel
adds up their gradients); batch norms never see more than a micro-batch, so any number of processes computes the same.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from bhpe_compile.distill.average import Average
from bhpe_compile.distill.muon import Muon
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.distill.record import CHECKPOINT, LOG, Place, Record
from bhpe_compile.distill.samples import Order, Sample, SampleSet, load
from bhpe_compile.errors import StoppedError, UsageError
from bhpe_compile.networks.layers.norms import is_frozen
from bhpe_compile.passes.binarize.roles import OUTPUT_LAYERS, role_of

if TYPE_CHECKING:
    from accelerate import Accelerator

Terms = dict[str, Tensor]
"""Terms of a loss by name."""

Tick = Callable[[int, int, float], None]
"""Called with steps done, steps in all and the last loss."""

MUON_FACTOR = 25.0
"""Muon's rate relative to AdamW's."""

LARGEST_GRADIENT = 5.0
"""Gradients are scaled down to this norm."""


@dataclass
class Task:
    """What is learnt: `network` takes `inputs` of a sample; `compare` returns loss terms, which `weights` add up.

    `facts` name what a checkpoint belongs to (model, data, scheme): a run with others does not go on from it. In a
    batch, the `views` of a sample follow each other.
    """

    network: fx.GraphModule
    inputs: tuple[str, ...]
    samples: SampleSet
    compare: Callable[[dict[str, Tensor], Sample], Terms]
    weights: Mapping[str, float]
    facts: dict[str, Any]
    views: int = 1


def fit(
    task: Task, recipe: Recipe, place: Place, accelerator: Accelerator, tick: Tick = lambda *_: None
) -> list[dict[str, float]]:
    """Train `task.network` in place, from its checkpoint where there is one, and return the log.

    accelerator: as `processes` gives it, for this recipe.

    Raises UsageError where the folder holds a run of other facts, InputError for a damaged checkpoint or a loss that is
    no number, StoppedError (a checkpoint is written) on SIGINT and SIGTERM.
    """
    device = accelerator.device
    network = task.network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizers = make_optimizers(network, recipe)
    facts = {**task.facts, "recipe": recipe.to_dict()}
    if place.restart and accelerator.is_main_process:
        for name in (CHECKPOINT, LOG):
            (place.folder / name).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    place.folder.mkdir(parents=True, exist_ok=True)
    average = Average(network, recipe.average) if recipe.average else None
    run = Record(place.folder, facts, accelerator, network, optimizers, average)
    step = run.resume()
    wrapped, *optimizers = accelerator.prepare(network, *optimizers)
    _train_mode(wrapped)
    per_step = recipe.batch // recipe.micro_batch
    if per_step % accelerator.num_processes:
        raise UsageError(
            f"{accelerator.num_processes} processes cannot share {per_step} micro-batches a step evenly; "
            "choose --micro-batch so that they can"
        )
    order = Order(
        len(task.samples),
        recipe.micro_batch,
        step * per_step,
        recipe.steps * per_step,
        recipe.seed,
        accelerator.process_index,
        accelerator.num_processes,
        task.views,
    )
    batches = load(task.samples, order, place.workers)
    mine = per_step // accelerator.num_processes
    weights = {**task.weights, **recipe.loss_weights}
    with _Stop() as stop:
        for step in range(step, recipe.steps):  # noqa: B020 (goes on from the checkpoint's)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = recipe.rate(step) * group["factor"]
            terms = _step(accelerator, wrapped, optimizers, task, weights, batches, mine, device)
            if average is not None:
                average.add(step + 1)
            run.note(step, recipe, terms)
            if accelerator.is_main_process:
                tick(step + 1, recipe.steps, run.last_loss)
            if stop.asked:
                run.save(step + 1)
                raise StoppedError(
                    f"stopped after step {step + 1} of {recipe.steps}; the same command goes on from there "
                    f"({place.folder})"
                )
            if run.is_due():
                run.save(step + 1)
        if average is not None:
            average.give()
        run.save(recipe.steps)
    accelerator.wait_for_everyone()
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)  # else `network` would go on under autocast
    return run.log


def _step(
    accelerator: Accelerator,
    network: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    task: Task,
    weights: Mapping[str, float],
    batches: Iterator[Sample],
    count: int,
    device: torch.device,
) -> dict[str, Tensor]:
    """One change of the weights; the mean of each loss term over this process's micro-batches."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    sums: dict[str, Tensor] = {}
    for index in range(count):
        sample = {name: value.to(device, non_blocking=True) for name, value in next(batches).items()}
        last = index == count - 1
        share: AbstractContextManager[Any] = nullcontext() if last else accelerator.no_sync(network)
        with share:
            found = network(*(sample[name] for name in task.inputs))
            terms = task.compare(found, sample)
            loss = total(terms, weights)
            accelerator.backward(loss / count)
        for name, value in {**terms, "loss": loss}.items():
            sums[name] = sums.get(name, 0) + value.detach() / count
    accelerator.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    for optimizer in optimizers:
        optimizer.step()
    return sums


@contextmanager
def processes(recipe: Recipe) -> Iterator[Accelerator]:
    """The processes of this run, and their device. ToolchainError without accelerate.

    Their group is ended with the block; the threads of one that is left open can abort the process as it exits. So is
    what accelerate remembers: it would refuse a next run of another precision in this process.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        from bhpe_compile.errors import ToolchainError

        raise ToolchainError("training needs accelerate: pip install '.[train]'") from error
    half = "bf16" if uses_bfloat16(recipe) else "no"
    accelerator = Accelerator(mixed_precision=half, cpu=not torch.cuda.is_available())
    try:
        yield accelerator
    finally:
        accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)


def is_main() -> bool:
    """Whether this process is the first of those `torchrun` started (or the only one): it alone writes results."""
    return os.environ.get("RANK", "0") == "0"


def uses_bfloat16(recipe: Recipe) -> bool:
    """Whether a run computes in bfloat16; "auto": where the hardware multiplies it, elsewhere it would be slow."""
    from bhpe_compile.targets.host import host_features

    if recipe.precision != "auto":
        return recipe.precision == "bf16"
    return torch.cuda.is_available() or bool({"avx512_bf16", "amx_bf16"} & host_features())


def _train_mode(network: nn.Module) -> None:
    """Training mode, but for batch norms that are frozen: they keep their statistics."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and is_frozen(module):
            module.eval()


def total(terms: Terms, weights: Mapping[str, float]) -> Tensor:
    """The weighted sum."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def make_optimizers(network: fx.GraphModule, recipe: Recipe) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the weights of layers between the first and the last ones, AdamW for the rest.

    Biases, norms, thresholds and activations do not decay; what is frozen is left out. `factor` of a group multiplies
    the recipe's learning rate.
    """
    learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    inner = [p for name, p in learning if p.ndim > 1 and _is_inner(network, name)]
    outer = [p for name, p in learning if p.ndim > 1 and not _is_inner(network, name)]
    others = [p for _, p in learning if p.ndim <= 1]
    groups = [
        {"params": outer, "weight_decay": recipe.weight_decay, "factor": 1.0},
        {"params": others, "weight_decay": 0.0, "factor": 1.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    if not inner:
        return (adamw,)
    working = torch.bfloat16 if uses_bfloat16(recipe) else torch.float32
    return adamw, Muon([{"params": inner, "factor": MUON_FACTOR}], recipe.learning_rate, working)


def _is_inner(network: fx.GraphModule, parameter: str) -> bool:
    """Whether Muon moves a parameter; a layer that is called again and again multiplies its own steps."""
    path = parameter.rpartition(".")[0]
    if role_of(network, path) == "stem" or path in network.meta[OUTPUT_LAYERS]:
        return False
    return len(network.graph.find_nodes(op="call_module", target=path)) <= 1


class _Stop:
    """Notes SIGINT and SIGTERM, so that a step ends before the run does; outside the main thread it does nothing."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

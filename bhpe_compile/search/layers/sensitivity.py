"""What binarizing one layer, or one block, costs while everything else stays in full precision.

    cost(layer) = MPVPE(network with this layer binary) - MPVPE(network in full precision)        on the same people

Nothing is trained again, so this ranks; it does not predict what a trained binary network loses. A binary layer
changes the spread of what leaves it, and the batch norms behind it, which divide by the old spread, would answer for a
cost that training removes in its first steps. `recalibrate` therefore measures all means and variances again on the
same pictures before the error is taken, of the network in full precision as well; no label is used for that.

Cost: one evaluation of the pictures for each layer or block, and one more; with `recalibrate` the pictures pass twice.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import fx, nn

from bhpe_compile.errors import UsageError
from bhpe_compile.evaluate.evaluate import Batch, score_all
from bhpe_compile.evaluate.frame import network_inputs
from bhpe_compile.evaluate.metrics import Errors, interval, mean
from bhpe_compile.evaluate.people import Bodies, require_body
from bhpe_compile.evaluate.subjects import PUBLIC, TorchSubject
from bhpe_compile.networks.interface import Interface
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.networks.layers.norms import measuring_norms
from bhpe_compile.networks.network import Role
from bhpe_compile.passes.binarize import BinarizeOptions, binarize, freeze, trace
from bhpe_compile.passes.binarize.roles import role_of

if TYPE_CHECKING:
    from bhpe_compile.frontends.imported import Imported

METRIC = "mpvpe"
By = Literal["layer", "block"]

Told = Callable[[str, int, int], None]
"""(what is being measured, how much is done, of how much)."""

_BLOCK = re.compile(r"^(.*\.\d+)\.(?!\d+$)")
"""A path up to the last number with a name behind it: the residual block a layer is in."""


@dataclass(frozen=True)
class Cost:
    """What one group of layers costs in millimetres of MPVPE, with the 95 % interval of the difference."""

    name: str
    layers: tuple[str, ...]
    mpvpe: float
    difference: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Ranking:
    """Groups of layers, the dearest first; `reference`: MPVPE in full precision, `recalibrated` as the others."""

    reference: float
    costs: tuple[Cost, ...]
    recalibrated: bool


def rank(
    loaded: Imported,
    options: BinarizeOptions,
    examples: Sequence[Batch],
    bodies: Bodies,
    *,
    by: By = "layer",
    recalibrated: bool = True,
    seed: int = 0,
    told: Told = lambda *_: None,
) -> Ranking:
    """Measure every group that `options` make binary. UsageError for a checkpoint that is binary already."""
    require_float(loaded)
    original = trace(loaded.model, roles=loaded.network.roles)
    layers = binary_layers(original, options)
    groups = group(original, layers, by)
    told(by, 0, len(groups) + 1)
    relative = loaded.layout == PUBLIC
    unchanged = copy.deepcopy(original)
    if recalibrated:
        recalibrate(unchanged, loaded.interface, examples)
    before = score_all(
        TorchSubject("full precision", unchanged, loaded.interface, relative), examples, bodies
    )
    costs = []
    for done, (name, inside) in enumerate(groups.items(), 1):
        told(name, done, len(groups) + 1)
        others = tuple(layer for layer in layers if layer not in inside)
        graph = keeping(original, options, others)
        if recalibrated:
            recalibrate(graph, loaded.interface, examples)
        after = score_all(TorchSubject(name, freeze(graph), loaded.interface, relative), examples, bodies)
        costs.append(_cost(name, inside, before, after, seed))
    costs.sort(key=lambda cost: -cost.difference)
    return Ranking(mean(before[METRIC]), tuple(costs), recalibrated)


def require_float(loaded: Imported) -> None:
    """UsageError unless the checkpoint holds full-precision weights; InputError for one that poses no body."""
    if loaded.binarization is not None:
        raise UsageError(
            f"{loaded.source}: is binary already; name the full-precision checkpoint it was trained from"
        )
    require_body(loaded.interface, loaded.source)


def binary_layers(original: fx.GraphModule, options: BinarizeOptions) -> list[str]:
    """Paths of the layers that become binary, in the order of the graph."""
    graph, _ = binarize(original, options)
    binary = {path for path, module in graph.named_modules() if isinstance(module, BinaryLayer)}
    return [
        str(node.target)
        for node in original.graph.nodes
        if node.op == "call_module" and node.target in binary
    ]


def group(original: fx.GraphModule, layers: Sequence[str], by: By) -> dict[str, tuple[str, ...]]:
    """Layers by name, or by residual block; all branches of one module are one block."""
    groups: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        name = block_of(layer, role_of(original, layer)) if by == "block" else layer
        groups[name] = (*groups.get(name, ()), layer)
    return groups


def block_of(layer: str, role: Role) -> str:
    """The block that the layer at a path belongs to, by the path of the module that holds it."""
    match = None if role == "branch" else _BLOCK.match(layer)
    return layer.partition(".")[0] if role == "branch" else match[1] if match else layer


def keeping(original: fx.GraphModule, options: BinarizeOptions, kept: Sequence[str]) -> fx.GraphModule:
    """The network as `options` make it binary, but for the layers `kept`."""
    return binarize(original, replace(options, keep_float=(*options.keep_float, *kept)))[0]


def recalibrate(graph: nn.Module, interface: Interface, examples: Sequence[Batch]) -> None:
    """Measure every batch norm's mean and variance again on the pictures, in place: the mean over all batches."""
    with measuring_norms(graph):
        for batch in examples:
            graph(*map(torch.from_numpy, network_inputs(interface, batch.pictures).values()))


def _cost(name: str, layers: tuple[str, ...], before: Errors, after: Errors, seed: int) -> Cost:
    gap = after[METRIC] - before[METRIC]
    return Cost(name, layers, mean(after[METRIC]), mean(gap), interval(gap, seed))

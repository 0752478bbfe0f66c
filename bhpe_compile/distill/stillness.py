"""What makes a student hold still: signs that become others under noise which nobody sees are what moves its answers.

    consistency   the distance between the answers to two views of a sample, as a part of the distance between the
                  answers to different samples; both as the network's own comparison measures them
    signs         |x' - x|^2 / (2 var x), a mean over the binary layers, x and x' being what a layer reads of the views
    margin        max(0, 1 - |x - threshold| / (MARGIN rms)), a mean over the binary layers; rms of x - threshold, by
                  channel

The second view is the first with every value changed by -1, 0 or 1 of 255 (`samples.second_view`). All three are
relative: answers that are all alike do not help, and neither do large values.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx

from bhpe_compile.distill.engine import Terms, total
from bhpe_compile.distill.lesson import Comparison, DistillOptions
from bhpe_compile.distill.taps import add_taps
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.passes.binarize.sites import called_module

PREFIX = "signs."
"""Of the outputs that are what a binary layer reads."""

MARGIN = 0.25
"""How far from its threshold a value should be, in parts of its channel's rms."""

SIGNS = 0.25
"""The weight of `signs` as a part of that of `consistency`."""


class Stillness:
    """The terms above for a student, `network`, which returns what its binary layers read from now on.

    comparison, weights: what the loss of its answers is; `options` say how much the terms count, and one of weight 0
    is left out.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        comparison: Comparison,
        weights: Mapping[str, float],
        options: DistillOptions,
    ) -> None:
        self._comparison, self._weights = comparison, weights
        self.views = 2 if options.consistency else 1
        asked = {
            "consistency": options.consistency,
            "signs": SIGNS * options.consistency,
            "margin": options.margin,
        }
        self.weights = {name: weight for name, weight in asked.items() if weight}
        self._layers: dict[str, BinaryLayer] = {}
        if self.weights:
            read = _read(network)
            self._layers = {name: layer for name, (_, layer) in read.items()}
            add_taps(network, {name: node for name, (node, _) in read.items()})

    def terms(self, found: Mapping[str, Tensor]) -> Terms:
        """Of what the network returned for a batch, in which the views of a sample follow each other."""
        terms: Terms = {}
        if "consistency" in self.weights:
            answers = {name: value for name, value in found.items() if not name.startswith(PREFIX)}
            first, second = ({name: value[view::2] for name, value in answers.items()} for view in (0, 1))
            others = {name: value.roll(1, 0) for name, value in first.items()}
            apart = self._distance(first, others).clamp(min=1e-12)  # 0 where all pictures are the same
            terms["consistency"] = self._distance(second, first) / apart
            terms["signs"] = torch.stack([_movement(found[name]) for name in self._layers]).mean()
        if "margin" in self.weights:
            near = [_nearness(found[name], layer.threshold) for name, layer in self._layers.items()]
            terms["margin"] = torch.stack(near).mean()
        return terms

    def _distance(self, found: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Tensor:
        return total(self._comparison.with_teacher(found, other), self._weights)


def _read(network: fx.GraphModule) -> dict[str, tuple[fx.Node, BinaryLayer]]:
    """What every call of a binary layer reads, by the name of an output, and the layer."""
    calls = ((node, called_module(network, node)) for node in network.graph.nodes)
    binary = [(node.all_input_nodes[0], layer) for node, layer in calls if isinstance(layer, BinaryLayer)]
    return {f"{PREFIX}{k}": pair for k, pair in enumerate(binary)}


def _movement(x: Tensor) -> Tensor:
    """x [2 N, ...], the views of a sample following each other."""
    x = x.float()
    apart, spread = (x[1::2] - x[::2]).square().mean(), (x - x.mean(0)).square().mean()
    return apart / (2 * spread).clamp(min=1e-12)


def _nearness(x: Tensor, threshold: Tensor) -> Tensor:
    """x [N, C, ...], threshold [C]."""
    x = x.float() - threshold.view(1, -1, *[1] * (x.ndim - 2))
    rms = x.square().mean([0, *range(2, x.ndim)], keepdim=True).sqrt()
    return torch.relu(1 - x.abs() / (MARGIN * rms + 1e-6)).mean()

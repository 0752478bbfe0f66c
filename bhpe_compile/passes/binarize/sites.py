"""Where a network could become binary, and which pass decides about each place.

Every call of a float Conv2d, ConvTranspose2d or Linear is a site. `owner` gives each site to exactly one
pass, so that every layer is named exactly once in the notes of a run:

    core convolution   stride 1   C -> C plain | C -> k C fusion-up   | C -> C/k fusion-down
                       stride 2   C -> C down-scale | C -> k C down-sample
    branch             transposed convolutions and linear layers: branch
    shortcut 1x1       shortcuts
    everything else    remainder (stems, heads, core convolutions of other shapes)
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional

from bhpe_compile.networks.layers.residual import residual_kind
from bhpe_compile.passes.binarize.roles import role_of

FloatLayer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear

_RELU_FUNCTIONS = {torch.relu, torch.relu_, functional.relu, functional.relu_}
_ADD_FUNCTIONS = {operator.add, operator.iadd, torch.add}

CORE_KINDS = {
    (1, "same"): "plain",
    (1, "repeat"): "fusion-up",
    (1, "group_mean"): "fusion-down",
    (2, "same"): "down-scale",
    (2, "repeat"): "down-sample",
}
"""(stride, residual kind) of a core convolution -> the pass that owns it."""


@dataclass(frozen=True)
class Site:
    """One float layer in the graph. `calls` counts how often the graph calls it; only the first is a site."""

    node: fx.Node
    path: str
    layer: FloatLayer
    calls: int


def float_sites(graph: fx.GraphModule) -> Iterator[Site]:
    """Yield every float layer once, in graph order. The list is taken before the first one is yielded."""
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    seen: set[str] = set()
    for node in list(graph.graph.nodes):
        layer = called_module(graph, node)
        path = str(node.target)
        if isinstance(layer, FloatLayer) and path not in seen:
            seen.add(path)
            yield Site(node, path, layer, calls[node.target])


def owner(graph: fx.GraphModule, site: Site) -> str:
    """Return the name of the one pass that decides about `site`."""
    role = role_of(graph, site.path)
    if role == "core" and isinstance(site.layer, nn.Conv2d):
        kind = residual_kind(site.layer.in_channels, site.layer.out_channels)
        return CORE_KINDS.get((site.layer.stride[0], kind or ""), "remainder")
    if role == "branch" and isinstance(site.layer, nn.ConvTranspose2d | nn.Linear):
        return "branch"
    if role == "shortcut":
        return "shortcuts"
    return "remainder"


def called_module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that `node` calls, or None."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether `node` computes max(x, 0), as a module, function or method; as a module also with an upper bound."""
    if node.op == "call_function":
        return node.target in _RELU_FUNCTIONS
    if node.op == "call_method":
        return node.target in ("relu", "relu_")
    module = called_module(graph, node)
    return type(module) is nn.ReLU or (isinstance(module, nn.Hardtanh) and module.min_val == 0)


def is_sum(node: fx.Node) -> bool:
    """Whether `node` adds two tensors."""
    if node.op == "call_function":
        found = node.target in _ADD_FUNCTIONS
    else:
        found = node.op == "call_method" and node.target in ("add", "add_")
    return found and len(node.args) == 2 and all(isinstance(arg, fx.Node) for arg in node.args)


def only_user(node: fx.Node) -> fx.Node | None:
    """The single user of `node`, or None where there are none or several."""
    return next(iter(node.users)) if len(node.users) == 1 else None

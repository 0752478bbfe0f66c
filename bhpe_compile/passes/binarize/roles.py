"""What a layer is for binarizing, from the structure of the graph; a network's description may say otherwise by name.

    stem       all it reads are inputs of the network, through operations without weights (a crop's boxes do not count,
               nor do constants: what reads nothing else is no stem)
    shortcut   stands on a path without activation that is added to a path with one, both starting at the same tensor

                   T ── conv ── BN ──────────────────────────────────┐
                   └─── conv ── BN ── ReLU ── conv ── BN ────────── add ── ReLU

    core       a convolution with batch normalisation behind it
    head       everything else: linear layers, transposed convolutions, convolutions that compute an output
    branch     never by structure: layers of a head that a description declares fit to be binary

The description comes first (`networks/network.py`, `Network.roles`). Roles are found once, where a graph is traced, and
kept in its `meta`: passes that rewrite the graph do not change what a layer is for.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import fx, nn
from torch.nn import functional

from bhpe_compile.networks.network import Role, Roles

ROLES = "bhpe.roles"
"""The key of a graph's `meta` under which its roles stand: path of a layer -> role."""

OUTPUT_LAYERS = "bhpe.output_layers"
"""The key under which the layers stand that compute an output by themselves."""

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)

_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Mish),
    *(nn.Hardswish, nn.Hardsigmoid, nn.ELU, nn.Softplus, nn.Softmax, nn.Hardtanh),
)
_ACTIVATION_FUNCTIONS = {
    *(torch.relu, torch.relu_, functional.relu, functional.relu_, functional.relu6, functional.leaky_relu),
    *(functional.silu, functional.gelu, functional.hardtanh, functional.hardswish, functional.mish),
    *(torch.sigmoid, torch.tanh, functional.softmax, torch.softmax, functional.prelu, functional.elu),
}
_ACTIVATION_METHODS = {"relu", "relu_", "sigmoid", "tanh", "softmax"}
_SUMS = {operator.add, operator.iadd, torch.add}
_LINEAR_MODULES = (
    *(*LAYERS, *NORMS, nn.Identity, nn.Dropout, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d),
    nn.Upsample,
)
_LINEAR_FUNCTIONS = {
    "avg_pool2d",
    "max_pool2d",
    "adaptive_avg_pool2d",
    "interpolate",
    "dropout",
    "batch_norm",
}
_SAMPLERS = {"crop", "roi_align", "grid_sample", "grid_sampler", "sample_points"}
"""Operations whose values are those of their first argument; the others say where."""


def find_roles(graph: fx.GraphModule, described: Roles = ()) -> dict[str, Role]:
    """The role of every layer that `graph` calls, by path; `described` are the (glob, role) of a description."""
    modules = dict(graph.named_modules())
    found: dict[str, Role] = {}
    for node in graph.graph.nodes:
        layer = modules.get(str(node.target)) if node.op == "call_module" else None
        path = str(node.target)
        if isinstance(layer, LAYERS) and path not in found:
            said = next((role for glob, role in described if fnmatchcase(path, glob)), None)
            found[path] = said or _by_structure(node, layer, modules)
    return found


def role_of(graph: fx.GraphModule, path: str) -> Role:
    """What the layer at `path` is for; `head` for one that was not there when the graph was traced."""
    roles: Mapping[str, Role] = graph.meta.get(ROLES, {})
    return roles.get(path, "head")


def output_layers(graph: fx.GraphModule) -> frozenset[str]:
    """Heads and branches behind which no other layer stands on some way to an output."""
    modules = dict(graph.named_modules())
    found: set[str] = set()
    seen: set[fx.Node] = set()
    waiting = list(graph.graph.output_node().all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(_module(node, modules), LAYERS):
            if role_of(graph, str(node.target)) in ("head", "branch"):
                found.add(str(node.target))
        else:
            waiting += node.all_input_nodes
    return frozenset(found)


def _by_structure(node: fx.Node, layer: nn.Module, modules: Mapping[str, nn.Module]) -> Role:
    if _reads_inputs_only(node, modules):
        return "stem"
    if not isinstance(layer, nn.Conv2d):
        return "head"
    if _is_shortcut(node, modules):
        return "shortcut"
    follower = next(iter(node.users)) if len(node.users) == 1 else None
    return "core" if follower is not None and isinstance(_module(follower, modules), NORMS) else "head"


def _module(node: fx.Node, modules: Mapping[str, nn.Module]) -> nn.Module | None:
    return modules.get(str(node.target)) if node.op == "call_module" else None


def _reads_inputs_only(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether `node` reads an input of the network, and no layer stands between its inputs and `node`."""
    found = False
    seen: set[fx.Node] = set()
    waiting = list(_values(node))
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if isinstance(_module(one, modules), LAYERS):
            return False
        found = found or one.op == "placeholder"
        waiting += _values(one)
    return found


def _values(node: fx.Node) -> list[fx.Node]:
    """The nodes whose values `node` computes with."""
    return node.all_input_nodes[:1] if _name(node) in _SAMPLERS else node.all_input_nodes


def _name(node: fx.Node) -> str:
    """What a function or method is called, without its module."""
    return str(getattr(node.target, "__name__", node.target)).rpartition(".")[2]


def _is_activation(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_function":
        return node.target in _ACTIVATION_FUNCTIONS
    if node.op == "call_method":
        return node.target in _ACTIVATION_METHODS
    return isinstance(_module(node, modules), _ACTIVATIONS)


def _is_sum(node: fx.Node) -> bool:
    found = node.target in _SUMS if node.op == "call_function" else node.target in ("add", "add_")
    return found and len(node.all_input_nodes) == 2


def _is_linear(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether `node` has one argument and is no activation: a layer, a norm, a pool."""
    if len(node.all_input_nodes) != 1:
        return False
    if node.op == "call_function":
        return _name(node) in _LINEAR_FUNCTIONS
    return isinstance(_module(node, modules), _LINEAR_MODULES)


def _is_shortcut(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    start = node.all_input_nodes[0]
    while _is_linear(start, modules):
        start = start.all_input_nodes[0]
    end = node
    while True:
        users = list(end.users)
        if len(users) != 1:
            return False
        if _is_sum(users[0]):
            other = next((one for one in users[0].all_input_nodes if one is not end), None)
            return other is not None and _passes_activation(other, start, modules)
        if not _is_linear(users[0], modules):
            return False
        end = users[0]


def _passes_activation(node: fx.Node, start: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a path leads from `start` to `node` through an activation."""
    waiting = [(node, False)]
    seen: set[tuple[fx.Node, bool]] = set()
    while waiting:
        one, active = waiting.pop()
        if one is start:
            if active:
                return True
            continue
        if (one, active) in seen:
            continue
        seen.add((one, active))
        behind = active or _is_activation(one, modules)
        waiting += [(before, behind) for before in one.all_input_nodes]
    return False

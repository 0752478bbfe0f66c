"""Frees signs from ReLUs: the sign of a tensor that cannot be negative is constant and carries nothing.

    ReLU -> [max-pool, clip, sum of two such, ...] -> sign

A tensor is known to be >= 0 when it comes out of a ReLU, or out of max-pooling, clipping, sampling,
averaging, reshaping or adding such tensors. A ReLU that makes a sign's input non-negative is

    removed    where it serves no full-precision layer but block shortcuts, which then read the signed tensor
    bypassed   where a full-precision layer reads it as well: the sign gets its own path around the ReLU,
               the layer keeps the input it was trained with

A ReLU that reaches no sign stays.
"""

from __future__ import annotations

import operator

import torch
from torch import fx, nn
from torch.nn import functional

from bhpe_compile.networks.layers import sample_points, written_torch  # noqa: F401 (register the operators)
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.networks.layers.residual import LocalResidual
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.binarize.rewrite import bypass
from bhpe_compile.passes.binarize.roles import role_of
from bhpe_compile.passes.binarize.sites import FloatLayer, called_module, is_relu, is_sum

_KEEPS_SIGN_MODULES = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Hardtanh,
    nn.Identity,
    nn.Dropout,
    nn.Flatten,
)
_KEEPS_SIGN_FUNCTIONS = {
    operator.getitem,
    torch.flatten,
    torch.mean,
    functional.avg_pool2d,
    functional.grid_sample,
    functional.max_pool2d,
    functional.pad,
    torch.ops.bhpe.cell_mean,
    torch.ops.bhpe.sample_points,
}
_KEEPS_SIGN_METHODS = {
    "contiguous",
    "flatten",
    "flip",
    "mean",
    "permute",
    "reshape",
    "squeeze",
    "transpose",
    "unflatten",
    "unsqueeze",
    "view",
}
_CONCATENATIONS = {torch.cat, torch.concat}


class FreeSigns(Pass[fx.GraphModule]):
    """Removes or bypasses every ReLU that would make the input of a sign non-negative."""

    name = "free-signs"
    summary = "removes ReLUs in front of signs, whose result would be constant"
    requires = ("binary layers",)

    def call(self, graph: fx.GraphModule) -> PassResult[fx.GraphModule]:
        """Rewrite in place; every ReLU left by the other passes gets one note, under its node's name."""
        before = _relus_before_signs(graph)
        notes: list[Note] = []
        keep = False
        for node in self.visit([node for node in graph.graph.nodes if is_relu(graph, node)]):
            if node not in before:
                notes.append(self.refused(node.name, "reaches no sign: none of its readers is binary"))
                continue
            reader = _float_reader(graph, node)
            if reader is None:
                notes.append(self.applied(node.name, "removed: the sign behind it would be constant"))
                bypass(graph, node)
            else:
                notes.append(self.applied(node.name, f"bypassed before signs; stays for {reader}"))
                keep = True
        if keep:
            _reroute(graph)
        modified = bool(before)
        if modified:
            graph.graph.lint()
            graph.recompile()
        return PassResult(graph, modified, tuple(notes))


def _sign_nodes(graph: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if isinstance(called_module(graph, node), BinaryLayer)]


def _keeps_sign(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether `node` maps a first argument >= 0 to a result >= 0 and does nothing else to signs."""
    if node.op == "call_function":
        return node.target in _KEEPS_SIGN_FUNCTIONS
    if node.op == "call_method":
        return node.target in _KEEPS_SIGN_METHODS
    return isinstance(called_module(graph, node), _KEEPS_SIGN_MODULES)


def _is_concatenation(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target in _CONCATENATIONS


def _causes(graph: fx.GraphModule, node: fx.Node) -> set[fx.Node]:
    """The ReLUs because of which `node` (some channels of it, for a concatenation) cannot be negative."""
    if is_relu(graph, node):
        return {node}
    if is_sum(node):
        left, right = (_causes(graph, one) for one in node.args if isinstance(one, fx.Node))
        return left | right if left and right else set()
    if _is_concatenation(node):
        return set().union(*(_causes(graph, one) for one in node.all_input_nodes))
    return _causes(graph, node.all_input_nodes[0]) if _keeps_sign(graph, node) else set()


def _float_reader(graph: fx.GraphModule, node: fx.Node) -> str | None:
    """A full-precision reader of `node` other than a block's shortcut or sum, by name, or None."""
    for user in node.users:
        module = called_module(graph, user)
        if _keeps_sign(graph, user) or _is_concatenation(user):
            reader = _float_reader(graph, user)
        elif isinstance(module, FloatLayer):
            reader = None if role_of(graph, str(user.target)) == "shortcut" else str(user.target)
        elif is_sum(user) or isinstance(module, BinaryLayer | LocalResidual):
            reader = None
        else:
            reader = user.name
        if reader is not None:
            return reader
    return None


def _reroute(graph: fx.GraphModule) -> None:
    """Lead every sign around the ReLUs that make its input non-negative."""
    memo: dict[fx.Node, fx.Node] = {}
    for sign in _sign_nodes(graph):
        source = sign.all_input_nodes[0]
        own_clip = source.target == f"{sign.target}_clip"  # moved as a whole: the local residual reads it too
        reader, source = (source, source.all_input_nodes[0]) if own_clip else (sign, source)
        reader.replace_input_with(source, _signed(graph, source, memo))
    graph.graph.eliminate_dead_code()


def _signed(graph: fx.GraphModule, node: fx.Node, memo: dict[fx.Node, fx.Node]) -> fx.Node:
    """Return a node that computes `node` without the ReLUs that make it non-negative."""
    if not _causes(graph, node):
        return node
    if node not in memo:
        if is_relu(graph, node):
            memo[node] = node.all_input_nodes[0]
        else:
            with graph.graph.inserting_after(node):
                memo[node] = graph.graph.node_copy(node, lambda one: _signed(graph, one, memo))
    return memo[node]


def _relus_before_signs(graph: fx.GraphModule) -> set[fx.Node]:
    return set().union(*(_causes(graph, sign.all_input_nodes[0]) for sign in _sign_nodes(graph)))
